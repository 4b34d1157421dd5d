//! Limits on the resources that peers can use, beyond the protocol's own [`Settings`](crate::Settings).

use std::time::Duration;

/// Limits of a [`Multiplexer`](crate::Multiplexer). Crossing one is logged, and affects only one open or one link. Later
/// versions may add some, so only [`new`](Self::new) makes one, and methods set values.
///
/// ```
/// use manysocket_server::{Limits, Multiplexer};
///
/// let limits = Limits::new().max_links(500);
/// let multiplexer = Multiplexer::new("/multiplexer").limits(limits);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Maximum number of links; the server answers further handshakes with 503. Default 10,000: 500 idle links cost 21
    /// MiB, so 10,000 take 0.4 GiB.
    pub max_links: usize,
    /// Maximum number of links without a connection that wait to be resumed; further links end with their connection. They
    /// count as links, too. Default 10,000, so that all links may lose their connections at once.
    pub max_parked: usize,
    /// Maximum number of links of one user that wait to be resumed, where the application names users
    /// ([`Multiplexer::resume_identity`](crate::Multiplexer::resume_identity)); further ones end with their connection. Default
    /// 100: more pages than a user has open.
    pub max_parked_per_user: usize,
    /// Maximum number of a link's opens that the application handles at once; further opens wait. Default 256: about
    /// the number of native WebSockets that a browser allows a page. It also bounds the connections that a page can
    /// dial through a gateway.
    pub max_opening: usize,
    /// Maximum bytes that the server holds for a link, in both directions: unread messages, unfinished messages, and
    /// waiting opens. The server closes a link above it with 1008. Default 256 MiB: four messages of the largest size,
    /// or a thousand stalled channels with full windows.
    pub link_memory: usize,
    /// Maximum bytes that the server holds for all links. Above it, the server closes with 1013 links that hold more
    /// than their share. Default 1 GiB.
    pub total_memory: usize,
    /// Maximum time in which a peer reads none of the bytes sent to it; then the server closes its link with 1008.
    /// Default 2 min: long enough for a fragment of the largest size at 9 kB/s.
    pub stall_timeout: Duration,
    /// Maximum time of a link without channels; then the server closes it with 1000. Default 10 min: clients close
    /// idle links much sooner, so no page needs one that is still open.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

impl Limits {
    /// Returns the defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_links: 10_000,
            max_parked: 10_000,
            max_parked_per_user: 100,
            max_opening: 256,
            link_memory: 256 << 20,
            total_memory: 1 << 30,
            stall_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(600),
        }
    }

    /// Sets [`max_links`](field@Self::max_links).
    #[must_use]
    pub const fn max_links(mut self, count: usize) -> Self {
        self.max_links = count;
        self
    }

    /// Sets [`max_parked`](field@Self::max_parked).
    #[must_use]
    pub const fn max_parked(mut self, count: usize) -> Self {
        self.max_parked = count;
        self
    }

    /// Sets [`max_parked_per_user`](field@Self::max_parked_per_user).
    #[must_use]
    pub const fn max_parked_per_user(mut self, count: usize) -> Self {
        self.max_parked_per_user = count;
        self
    }

    /// Sets [`max_opening`](field@Self::max_opening).
    #[must_use]
    pub const fn max_opening(mut self, count: usize) -> Self {
        self.max_opening = count;
        self
    }

    /// Sets [`link_memory`](field@Self::link_memory).
    #[must_use]
    pub const fn link_memory(mut self, bytes: usize) -> Self {
        self.link_memory = bytes;
        self
    }

    /// Sets [`total_memory`](field@Self::total_memory).
    #[must_use]
    pub const fn total_memory(mut self, bytes: usize) -> Self {
        self.total_memory = bytes;
        self
    }

    /// Sets [`stall_timeout`](field@Self::stall_timeout).
    #[must_use]
    pub const fn stall_timeout(mut self, time: Duration) -> Self {
        self.stall_timeout = time;
        self
    }

    /// Sets [`idle_timeout`](field@Self::idle_timeout).
    #[must_use]
    pub const fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = time;
        self
    }
}

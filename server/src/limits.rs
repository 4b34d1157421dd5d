//! Limits on the resources that peers can use, beyond the protocol's own [`Settings`](crate::Settings).

use std::time::Duration;

/// Limits of a [`Multiplexer`](crate::Multiplexer). Crossing one is logged, and affects only one open or one link.
///
/// ```
/// use manysocket_server::{Limits, Multiplexer};
///
/// let limits = Limits { max_links: 500, ..Limits::default() };
/// let multiplexer = Multiplexer::new("/multiplexer").limits(limits);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of links; the server answers further handshakes with 503. Default 10,000: 500 idle links cost 21
    /// MiB, so 10,000 take 0.4 GiB.
    pub max_links: usize,
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
        Self {
            max_links: 10_000,
            max_opening: 256,
            link_memory: 256 << 20,
            total_memory: 1 << 30,
            stall_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(600),
        }
    }
}

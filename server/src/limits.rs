//! What peers can make a server spend, beyond what the protocol's own [`Settings`](crate::Settings) bound.

use std::time::Duration;

/// Limits of a [`Multiplexer`](crate::Multiplexer). Each crossing is logged, and concerns one open or one link.
///
/// ```
/// use manysocket_server::{Limits, Multiplexer};
///
/// let limits = Limits { max_links: 500, ..Limits::default() };
/// let multiplexer = Multiplexer::new("/multiplexer").limits(limits);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Links at once; further handshakes get 503. 10,000: 500 idle ones cost 21 MiB, so they take 0.4 GiB.
    pub max_links: usize,
    /// Opens of a link that the application is answering at once; further ones wait for their turn. 256 is about how
    /// many WebSockets a browser would let a page have natively, and bounds what it can dial through a gateway.
    pub max_opening: usize,
    /// Bytes that a link may have the server hold, in both directions: messages that nobody has read, unfinished
    /// ones, and opens that wait. A link that goes beyond it is closed with 1008. 256 MiB: four messages of the
    /// largest size, or a thousand stalled channels with full windows.
    pub link_memory: usize,
    /// The same for all links. When it is crossed, links that hold more than their share are closed with 1013.
    pub total_memory: usize,
    /// How long a peer may take none of what it is sent; then its link is closed with 1008. 2 min: a piece of the
    /// largest size passes in that at 9 kB/s.
    pub stall_timeout: Duration,
    /// How long a link may have no channel; then it is closed with 1000. 10 min: clients close idle links much
    /// sooner, and one that does not is kept by nobody's page.
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

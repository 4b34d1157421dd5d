//! The two sides of a link.

/// One side of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Opens channels.
    Client,
    /// Accepts or refuses channels.
    Server,
}

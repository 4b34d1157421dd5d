//! What a peer did that ends the link.

use std::fmt;

use crate::Channel;

/// A breach of the protocol by the peer. The host closes the link with [`Violation::code`] and
/// logs the text; other links are not concerned (§9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    code: u16,
    what: &'static str,
    channel: Option<Channel>,
}

impl Violation {
    /// A breach of the protocol (RFC 6455 §7.4.1: 1002).
    pub(crate) const fn protocol(what: &'static str) -> Self {
        Self { code: 1002, what, channel: None }
    }

    /// Data that is not consistent with its type, such as text that is not UTF-8 (1007).
    pub(crate) const fn data(what: &'static str) -> Self {
        Self { code: 1007, what, channel: None }
    }

    /// A limit that this side announced and the peer did not keep (1008).
    pub(crate) const fn limit(what: &'static str) -> Self {
        Self { code: 1008, what, channel: None }
    }

    /// The same, with the channel it happened on.
    pub(crate) const fn on(mut self, channel: Channel) -> Self {
        self.channel = Some(channel);
        self
    }

    /// The code to close the physical WebSocket with.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// What was wrong, in at most 123 bytes: it fits the reason of a Close frame (RFC 6455 §5.5).
    pub fn reason(&self) -> &'static str {
        self.what
    }

    /// The channel it happened on, where there is one.
    pub fn channel(&self) -> Option<Channel> {
        self.channel
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)?;
        match self.channel {
            Some(channel) => write!(f, " (channel {channel}, close code {})", self.code),
            None => write!(f, " (close code {})", self.code),
        }
    }
}

impl std::error::Error for Violation {}

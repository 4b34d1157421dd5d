//! The reasons for which a topic does not publish a message.

/// The error for a message that is not published.
#[cfg_attr(not(feature = "nats"), expect(dead_code, reason = "only NATS is away, and has a largest message"))]
pub(super) enum NotTaken {
    /// It is away, or cannot keep up.
    Away,
    /// More than it takes.
    TooLarge,
    /// This process holds as much as it may for subscribers that do not read.
    Full,
    /// The disk does not take it, or JetStream.
    Unstored,
}

impl NotTaken {
    /// Returns the reason for people.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge => "the message is larger than NATS takes",
            Self::Full => "the message cannot be kept now: too many here are slow",
            Self::Away => "the message cannot be passed on now: NATS is away",
            Self::Unstored => "the message cannot be stored now",
        }
    }
}

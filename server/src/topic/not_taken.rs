//! The reasons for which a topic does not publish a message.

/// The error for a message that is not published.
#[cfg_attr(
    not(all(feature = "nats", feature = "topic-store")),
    expect(
        dead_code,
        reason = "only NATS is away, and has a largest message; only a file does not take one"
    )
)]
pub(super) enum NotTaken {
    /// It is away, or cannot keep up.
    Away,
    /// More than it takes.
    TooLarge,
    /// This process holds as much as it may for subscribers that do not read.
    Full,
    /// The disk does not take it.
    Unstored,
}

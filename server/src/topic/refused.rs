//! The reasons for which a topic gets no new subscriber.

/// Why a topic gets no new subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The name is not text.
    NotText,
    /// The name is too long.
    TooLong,
    /// There are as many topics as there may be, or they hold as much memory as they may.
    Full,
    /// The file or the stream cannot be read.
    #[cfg_attr(
        not(any(feature = "nats", feature = "topic-store")),
        expect(dead_code, reason = "there is no store")
    )]
    Unreadable,
}

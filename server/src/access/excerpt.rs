//! Shortens texts of peers, for log lines and answers.

/// The number of characters of a peer's text that a log line or an answer repeats: the head of a request may have 32 KiB.
const REPEATED: usize = 200;

/// The beginning of a peer's text.
pub(crate) fn excerpt(text: &str) -> &str {
    text.char_indices().nth(REPEATED).map_or(text, |(end, _)| &text[..end])
}

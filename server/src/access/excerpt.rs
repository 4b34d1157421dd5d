//! Shortens what peers say, for log lines and answers.

/// How many characters of what a peer has said are repeated in a line of the log, or to it: the head of a request may have 32 KiB.
const REPEATED: usize = 200;

/// The beginning of what a peer has said.
pub(crate) fn excerpt(text: &str) -> &str {
    text.char_indices().nth(REPEATED).map_or(text, |(end, _)| &text[..end])
}

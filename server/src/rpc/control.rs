//! Messages of a page about its earlier calls. Every other message is a call.

use serde::Deserialize;

/// The largest of these messages, in bytes, with room for blanks.
const MAX: usize = 128;

/// A message about an earlier call.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Control {
    Cancel(Cancel),
    Taken(Taken),
}

/// The page no longer needs the answer of this number, counted from 0 on the socket.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    pub(super) cancel: u64,
}

/// The page has taken this many more items of the stream with this number.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Taken {
    pub(super) stream: u64,
    pub(super) taken: u64,
}

impl Control {
    /// Reads a text; `None` if it is a call.
    pub(super) fn read(text: &str) -> Option<Self> {
        let is_object = text.trim_start().starts_with('{');
        if is_object && text.len() <= MAX { serde_json::from_str(text).ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_messages_are_about_earlier_calls() {
        assert_eq!(Control::read(" {\"cancel\": 3}\n"), Some(Control::Cancel(Cancel { cancel: 3 })));
        let taken = Taken { stream: 1, taken: 64 };
        assert_eq!(Control::read("{\"taken\":64,\"stream\":1}"), Some(Control::Taken(taken)));
        for text in [
            "{\"taken\":64}",
            "",
            "[]",
            "[{\"cancel\":3}]",
            "{}",
            "{\"cancel\":-1}",
            "{\"cancel\":1.5}",
            "{\"cancel\":\"3\"}",
            "{\"cancel\":18446744073709551616}",
            "{\"cancel\":3,\"cancel\":4}",
            "{\"cancel\":3,\"more\":4}",
            "{\"cancel\":3} {}",
        ] {
            assert_eq!(Control::read(text), None, "{text}");
        }
        assert_eq!(Control::read(&format!("{}{{\"cancel\":3}}", " ".repeat(MAX))), None);
    }
}

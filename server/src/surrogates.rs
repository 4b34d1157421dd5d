//! Halves of surrogate pairs in JSON: replaced, as in the text of a WebSocket.

use std::borrow::Cow;

/// The bytes of an escape such as `\ud83d`.
const ESCAPE: usize = 6;

/// Replaces each half of a surrogate pair that stands alone with U+FFFD, as a WebSocket does with the text that a page sends
/// (WHATWG Infra, "convert into a scalar value string"). In JSON an escape hides it: `JSON.stringify("\ud83d")` is `"\ud83d"`,
/// which has no form in UTF-8.
pub(crate) fn well_formed(text: &str) -> Cow<'_, str> {
    let mut replaced: Option<Vec<u8>> = None;
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\\')) {
        at += found;
        match (surrogate(bytes, at), surrogate(bytes, at + ESCAPE)) {
            (Some(Half::First), Some(Half::Second)) => at += 2 * ESCAPE,
            (Some(_), _) => {
                let replaced = replaced.get_or_insert_with(|| bytes.to_vec());
                replaced[at..at + ESCAPE].copy_from_slice(b"\\ufffd");
                at += ESCAPE;
            }
            // The backslash, and the escaped character.
            (None, _) => at += 2,
        }
    }
    // Both escapes are ASCII, so the text stays UTF-8.
    replaced.and_then(|bytes| String::from_utf8(bytes).ok()).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// One half of a surrogate pair.
enum Half {
    First,
    Second,
}

/// Returns the surrogate that is escaped at a place, if there is one.
fn surrogate(bytes: &[u8], at: usize) -> Option<Half> {
    let [b'\\', b'u', b'd' | b'D', kind, rest @ ..] = bytes.get(at..at + ESCAPE)? else { return None };
    if !rest.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    match kind {
        b'8' | b'9' | b'a' | b'b' | b'A' | b'B' => Some(Half::First),
        b'c'..=b'f' | b'C'..=b'F' => Some(Half::Second),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::well_formed;

    #[test]
    fn halves_of_surrogate_pairs_are_replaced() {
        for (text, expected) in [
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\uDE00\uD83D""#, r#""\ufffd\ufffd""#),
            (r#"{"\udfff":["a\ud800b"]}"#, r#"{"\ufffd":["a\ufffdb"]}"#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\ud83d\n\ude00""#, r#""\ufffd\n\ufffd""#),
            (r#""\ud83d\u0041""#, r#""\ufffd\u0041""#),
            (r#""\ud83d"#, r#""\ufffd"#),
        ] {
            assert_eq!(well_formed(text), expected);
        }
        for text in [
            "",
            "[1]",
            r#""\ud83d\ude00\uD83D\uDE00""#,
            r#""\\ud83d""#,
            r#""\"\\\ud7ff\ue000\u00e4""#,
            r#""\ud83""#,
            r#""\ud83x""#,
            "\\",
            r"\ud",
            "\"\u{1f600} \u{fffd}\"",
        ] {
            assert!(matches!(well_formed(text), std::borrow::Cow::Borrowed(same) if same == text), "{text}");
        }
    }
}

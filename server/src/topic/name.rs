//! The name of a topic: the path of its URL, in one spelling.

/// Decodes a path, so that all spellings of one name are one topic. `%2F` and `%25` stay encoded: decoded, they would make two
/// different paths the same. `None` if the path is not UTF-8 text.
pub(super) fn decode(path: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let byte = match (first, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = after;
                hex(*high) << 4 | hex(*low)
            }
            // A percent sign that encodes nothing is one that was not encoded.
            (byte, _) => byte,
        };
        match byte {
            b'/' if first == b'%' => decoded.extend(b"%2F"),
            b'%' => decoded.extend(b"%25"),
            byte => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        letter => (letter | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_a_name_are_one() {
        for (spellings, name) in [
            (
                &["/r/ada@example.org", "/r/ada%40example.org", "/r/%61da%40example.org"][..],
                "/r/ada@example.org",
            ),
            (&["/r/Zürich", "/r/Z%C3%BCrich", "/r/Z%c3%bcrich"], "/r/Zürich"),
            (&["/r/tilde~", "/r/tilde%7E", "/r/tilde%7e"], "/r/tilde~"),
            (&["/r/a b", "/r/a%20b"], "/r/a b"),
            (&["/r/100%", "/r/100%25"], "/r/100%25"),
            (&["/r/%2541"], "/r/%2541"),
            (&["/r/%zz", "/r/%25zz"], "/r/%25zz"),
            (&["/r/a%2Fb", "/r/a%2fb"], "/r/a%2Fb"),
            (&["/r/%"], "/r/%25"),
            (&["/r/%4"], "/r/%254"),
        ] {
            for spelling in spellings {
                assert_eq!(decode(spelling).as_deref(), Some(name), "{spelling}");
            }
            assert_eq!(decode(name).as_deref(), Some(name), "the name is one of its spellings");
        }
        assert_eq!(decode("/r/%ff"), None);
        assert_eq!(decode("/r/%C3%28"), None);
    }
}

//! Bytes as text in a JavaScript file, for the entry that carries its wasm inside. `js/inline.js` reads it.
//!
//! Base64 cuts bytes into six bits, so a compressor no longer sees repetitions: 12.1 KB of brotli became 16.6.
//! Here a byte becomes one or two characters, and 12.1 KB become 12.6. All are ASCII, since not every server names the charset.

/// Bytes below this become one character; others become one of two prefix characters and the remainder.
const SINGLES: u8 = 89;

/// Encodes `bytes` as text without any character that is special in a double-quoted JavaScript string.
pub(crate) fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 5 / 4);
    for byte in bytes {
        let (high, low) = (byte / SINGLES, byte % SINGLES);
        if high > 0 {
            text.push(character(SINGLES - 1 + high));
        }
        text.push(character(low));
    }
    text
}

/// Returns a character from `#` on (after the quotation mark), skipping the backslash.
fn character(digit: u8) -> char {
    let code = b'#' + digit;
    (if code < b'\\' { code } else { code + 1 }).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_text_without_quotes_or_backslashes() {
        let texts: Vec<String> = (0..=255).map(|byte| text(&[byte])).collect();
        for (at, one) in texts.iter().enumerate() {
            assert!(one.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\".contains(&b)), "{at}: {one}");
            assert_eq!(texts.iter().position(|other| other == one), Some(at));
        }
        assert_eq!(text(&[0, 88, 89, 255]), "#|}#~q");
    }
}

//! Bytes as text in a JavaScript file, for the entry that carries its wasm inside. `js/inline.js` reads it.
//!
//! Base64 cuts bytes into six bits, and a compressor no longer sees what repeats: of 12.1 KB of brotli it made 16.6.
//! Here a byte stays one character, or two, and it stays 12.6. ASCII alone, since not every server tells the charset.

/// Bytes below this are one character, others one of two characters in front and the remainder.
const SINGLES: u8 = 89;

/// The text of `bytes`: nothing in it has a meaning in a JavaScript string in double quotes.
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

/// The characters from `#` on, behind the quotation mark, without the backslash.
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

//! The wasm as text in a JavaScript file, for the entry that carries it inside. `js/inline.js` reads it.
//!
//! Base64 cuts bytes into six bits, so a compressor no longer sees repetitions: 12.1 KB of brotli became 16.6.
//! Here a byte becomes one or two characters. All are ASCII, since not every server names the charset.
//! Contents of one kind stand together, so that each predicts the next: 20.8 KB of brotli become 18.2.

use crate::wasm::{self, Part, section};
use anyhow::{Result, ensure};

/// Bytes below this become one character; others become one of two prefix characters and the remainder.
const SINGLES: u8 = 89;

/// The most local variables that a function may have. `js/inline.js` has the same.
const LOCALS: usize = 256;

/// The contents of a module by kind, each in the order of the module.
#[derive(Default)]
struct Kinds {
    /// The sections in front of the code, and those behind it.
    before: Vec<u8>,
    after: Vec<u8>,
    /// How many functions there are, and which local variables they declare.
    declarations: Vec<u8>,
    /// Opcodes, constants, and what has no kind apart.
    opcodes: Vec<u8>,
    /// Indexes of local variables, as the number of others that were used later.
    locals: Vec<u8>,
    /// Offsets of loads and stores.
    offsets: Vec<u8>,
    /// Types of blocks, labels of branches, and indexes of global variables.
    places: Vec<u8>,
}

/// Returns a module as a literal of JavaScript.
pub(crate) fn literal(module: &[u8]) -> Result<String> {
    let mut kinds = Kinds::default();
    let mut is_behind = false;
    kinds.before.extend_from_slice(&module[..wasm::PREAMBLE]);
    for (number, content) in wasm::sections(module)? {
        if number == section::CODE {
            is_behind = true;
            split(content, &mut kinds)?;
            continue;
        }
        let out = if is_behind { &mut kinds.after } else { &mut kinds.before };
        out.push(number);
        wasm::write_number(out, content.len());
        out.extend_from_slice(content);
    }
    let Kinds { before, after, declarations, opcodes, locals, offsets, places } = kinds;
    let kinds = [before, after, locals, declarations, places, offsets, opcodes];
    Ok(format!("[{}]", kinds.map(|bytes| format!("\"{}\"", text(&bytes))).join(",")))
}

/// Splits the code section.
fn split(content: &[u8], kinds: &mut Kinds) -> Result<()> {
    let Kinds { declarations, opcodes, locals, offsets, places, .. } = kinds;
    let mut all = Vec::new();
    let mut has_too_many = false;
    let count = wasm::functions(content, |declared, code| {
        all.extend_from_slice(declared);
        let mut recent: Vec<usize> = (0..LOCALS).collect();
        wasm::instructions(code, |part| match part {
            Part::Opcode(opcode) => opcodes.push(opcode),
            Part::Other(bytes) => opcodes.extend_from_slice(bytes),
            Part::Offset(bytes) => offsets.extend_from_slice(bytes),
            Part::Place(bytes) => places.extend_from_slice(bytes),
            Part::Local(local) => {
                let rank = recent.iter().position(|&other| other == local);
                has_too_many |= rank.is_none();
                wasm::write_number(locals, rank.unwrap_or_default());
                recent[..=rank.unwrap_or_default()].rotate_right(1);
            }
        })
    })?;
    ensure!(!has_too_many, "a function of the wasm has more than {LOCALS} local variables");
    wasm::write_number(declarations, count);
    declarations.extend(all);
    Ok(())
}

/// Encodes `bytes` as text without any character that is special in a double-quoted JavaScript string.
fn text(bytes: &[u8]) -> String {
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

//! How physical messages begin, for hosts that put them together and take them apart themselves (§2.2, §2.3, §3).

use crate::varint;
use crate::violation::Rule;
use crate::{Channel, Violation};

/// The most bytes of the first batch, for [`Connection::handshake`](crate::Connection::handshake): base64 makes 1,600
/// characters of them. Some proxies and firewalls allow a target of 2,048, with path and query of the multiplexer's URL.
pub const HANDSHAKE_BYTES: u32 = 1_200;

/// The most bytes that the two lengths in front of a batch take.
pub const LENGTHS: usize = 10;

/// The text run of a batch, or a physical text message, is not UTF-8.
pub const NOT_UTF8: Violation = Rule::RunNotUtf8.broken();

/// A text is cut inside a surrogate pair.
pub const PAIR_CUT: Violation = Rule::PairCut.broken();

/// Returns the number and sign in front of a physical text message.
pub fn text_head(channel: Channel, fin: bool) -> Vec<u8> {
    let mut head = Vec::with_capacity(11);
    head.push(if fin { b':' } else { b'+' });
    let mut rest = channel;
    loop {
        head.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    head.reverse();
    head
}

/// Reads the number and sign in front of a physical text message; `unit` returns its code units or bytes by their place.
/// Returns the channel, whether the piece completes its message, and the length of both.
///
/// # Errors
/// Returns a [`Violation`] if the message does not begin with both.
pub fn read_text_head(unit: impl Fn(u32) -> Option<u32>) -> Result<(Channel, bool, u32), Violation> {
    let mut channel: Channel = 0;
    // Ten characters: the nine digits of the largest channel number, and the sign.
    for at in 0..10 {
        match unit(at) {
            Some(unit @ 48..=57) => channel = channel.saturating_mul(10).saturating_add(unit - 48),
            // ":" or "+".
            Some(sign @ (58 | 43)) if at > 0 => return Ok((channel, sign == 58, at + 1)),
            _ => break,
        }
    }
    Err(Rule::NoPrefix.broken())
}

/// Writes the lengths in front of a batch whose headers begin behind the first [`LENGTHS`] bytes of `batch`. Returns where
/// they begin.
pub fn write_lengths(batch: &mut [u8], header_bytes: u32, text_bytes: u32) -> usize {
    let mut lengths = Vec::with_capacity(LENGTHS);
    varint::write(&mut lengths, header_bytes);
    varint::write(&mut lengths, text_bytes);
    let start = LENGTHS - lengths.len();
    for (place, byte) in batch.iter_mut().skip(start).zip(lengths) {
        *place = byte;
    }
    start
}

/// Reads the lengths in front of a batch of `length` bytes, of which `bytes` are the first. Returns the end of the lengths,
/// of the headers and of the text run.
///
/// # Errors
/// Returns a [`Violation`] if the batch is shorter than its lengths state.
pub fn read_lengths(bytes: &[u8], length: u32) -> Result<[u32; 3], Violation> {
    const CUT: Violation = Rule::BatchCut.broken();
    let mut rest = bytes;
    let (Some(headers), Some(text)) = (varint::read(&mut rest), varint::read(&mut rest)) else {
        return Err(CUT);
    };
    let headers_at = (bytes.len() - rest.len()) as u32;
    let text_at = headers_at.checked_add(headers).ok_or(CUT)?;
    let binary_at = text_at.checked_add(text).filter(|&at| at <= length).ok_or(CUT)?;
    Ok([headers_at, text_at, binary_at])
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn heads_are_read_as_they_are_written() {
        for (channel, fin, text) in [(1, true, "1:"), (10, false, "10+"), (123_456_789, true, "123456789:")] {
            let head = text_head(channel, fin);
            assert_eq!(head, text.as_bytes());
            let read = read_text_head(|at| head.get(at as usize).map(|&byte| byte.into()));
            assert_eq!(read, Ok((channel, fin, head.len() as u32)));
        }
        for bad in ["", ":", "+x", "x", "1", "1x", "1234567890:"] {
            let read = read_text_head(|at| bad.as_bytes().get(at as usize).map(|&byte| byte.into()));
            assert_eq!(read, Err(Rule::NoPrefix.broken()), "{bad}");
        }
    }

    #[test]
    fn lengths_are_read_as_they_are_written() {
        for (headers, text) in [(0, 0), (3, 200), (70_000, 1 << 30)] {
            let mut room = [0; LENGTHS];
            let start = write_lengths(&mut room, headers, text);
            let at = (LENGTHS - start) as u32;
            let ends = [at, at + headers, at + headers + text];
            assert_eq!(read_lengths(&room[start..], ends[2]), Ok(ends));
            let cut = Err(Rule::BatchCut.broken());
            if ends[2] > at {
                assert_eq!(read_lengths(&room[start..], ends[2] - 1), cut);
            }
        }
    }
}

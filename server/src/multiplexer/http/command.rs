//! The header that names a request's command to an HTTP carrier (docs/protocol.md §3.3).

use axum::http::HeaderMap;
use manysocket_protocol::Token;

pub(super) use crate::net::serve::CARRIER as NAME;

/// How the server's bytes reach the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// In one answer without end.
    Stream,
    /// In one answer after the other.
    Poll,
}

impl Kind {
    /// Returns the bytes that a tunnel buffers in each direction: of a poll, those of one answer.
    pub(super) fn buffer(self) -> usize {
        match self {
            Self::Stream => 64 * 1024,
            Self::Poll => 256 * 1024,
        }
    }
}

/// The command of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Open(Kind),
    /// The body has bytes of the client from an offset on.
    Send {
        id: Token,
        offset: u64,
    },
    /// Asks for bytes of the server from an offset on.
    Receive {
        id: Token,
        offset: u64,
    },
}

impl Command {
    /// Reads the header.
    ///
    /// # Errors
    /// Returns the reason of a refusal.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, &'static str> {
        const WHY: &str = "Manysocket-Carrier is stream, poll, send ID OFFSET, or receive ID OFFSET";
        let mut values = headers.get_all(NAME).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Err(WHY) };
        let words: Vec<_> = value.to_str().map_err(|_| WHY)?.split(' ').collect();
        match *words.as_slice() {
            ["stream"] => Ok(Self::Open(Kind::Stream)),
            ["poll"] => Ok(Self::Open(Kind::Poll)),
            [command @ ("send" | "receive"), id, offset] => {
                let id = read_id(id).ok_or(WHY)?;
                let offset = read_offset(offset).ok_or(WHY)?;
                Ok(if command == "send" { Self::Send { id, offset } } else { Self::Receive { id, offset } })
            }
            _ => Err(WHY),
        }
    }
}

/// Reads 32 hexadecimal digits in lower case.
fn read_id(digits: &str) -> Option<Token> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    let mut bytes = [0; 16];
    if pairs.len() != bytes.len() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = read_digit(*high)? << 4 | read_digit(*low)?;
    }
    Some(Token::new(bytes))
}

fn read_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Writes an id as 32 hexadecimal digits.
pub(super) fn write_id(id: &Token) -> String {
    id.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a decimal number without a sign.
fn read_offset(digits: &str) -> Option<u64> {
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(values: &[&str]) -> Result<Command, &'static str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(NAME, HeaderValue::from_str(value).expect("a value"));
        }
        Command::read(&headers)
    }

    #[test]
    fn a_command_is_read_in_one_form_only() {
        let id = "000102030405060708090a0b0c0d0eff";
        let token = read_id(id).expect("an id");
        assert_eq!(write_id(&token), id);
        assert_eq!(read(&["stream"]), Ok(Command::Open(Kind::Stream)));
        assert_eq!(read(&["poll"]), Ok(Command::Open(Kind::Poll)));
        assert_eq!(read(&[&format!("send {id} 0")]), Ok(Command::Send { id: token, offset: 0 }));
        let most = u64::MAX;
        assert_eq!(
            read(&[&format!("receive {id} {most}")]),
            Ok(Command::Receive { id: token, offset: most })
        );
        for wrong in [
            "".to_owned(),
            "Stream".to_owned(),
            "stream poll".to_owned(),
            "stream, poll".to_owned(),
            "send".to_owned(),
            format!("send {id}"),
            format!("send {id} "),
            format!("send  {id} 0"),
            format!("send {id} 0 0"),
            format!("send {id} +1"),
            format!("send {id} -1"),
            format!("send {id} 1e3"),
            format!("send {id} 0x1"),
            format!("send {id} 18446744073709551616"),
            format!("send {} 0", id.to_uppercase()),
            format!("send {} 0", &id[1..]),
            format!("send 0{id} 0"),
            format!("send +{} 0", &id[1..]),
            format!("close {id} 0"),
        ] {
            assert!(read(&[&wrong]).is_err(), "{wrong:?}");
        }
        assert!(read(&[]).is_err());
        assert!(read(&["stream", "stream"]).is_err());
    }
}

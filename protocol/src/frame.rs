//! Frame headers: their encoding and nothing else (§5).

use crate::token::Token;
use crate::varint;
use crate::violation::Rule;
use crate::{Channel, Violation};

/// Whether a message is text or binary (RFC 6455 §5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text; lengths count UTF-16 code units.
    Text,
    /// Binary; lengths count bytes.
    Binary,
}

/// Channel numbers share a 32-bit tag with the frame kind's four bits.
const KIND_BITS: u32 = 4;

/// Frame kinds, the low four bits of a tag.
mod kind {
    pub(super) const TEXT: u32 = 0;
    pub(super) const TEXT_PART: u32 = 1;
    pub(super) const BINARY: u32 = 2;
    pub(super) const BINARY_PART: u32 = 3;
    pub(super) const RAW: u32 = 4;
    pub(super) const RAW_PART: u32 = 5;
    pub(super) const OPEN: u32 = 6;
    pub(super) const ACCEPT: u32 = 7;
    pub(super) const REFUSE: u32 = 8;
    pub(super) const CLOSE: u32 = 9;
    pub(super) const GRANT: u32 = 10;
    pub(super) const LINK: u32 = 11;
    pub(super) const OPEN_WITH: u32 = 12;
}

/// Types of LINK frames, which stand where other frames have their channel.
mod link {
    pub(super) const HELLO: u32 = 0;
    pub(super) const PING: u32 = 1;
    pub(super) const PONG: u32 = 2;
    pub(super) const PATH: u32 = 3;
    pub(super) const COOKIES: u32 = 4;
    pub(super) const ACK: u32 = 8;
    pub(super) const TOKEN: u32 = 9;
    pub(super) const RESUME: u32 = 10;
    pub(super) const RESUMED: u32 = 11;
    /// The last of the types, from 8 on, that concern one carrier, as HELLO, PING and PONG do (§8.1).
    pub(super) const LAST_OF_CARRIER: u32 = 15;
}

/// A frame header. Strings and payloads are lengths here: their content is in the batch's runs,
/// in the order of the headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// A message or a piece of one, its content in the text or binary run.
    Data {
        channel: Channel,
        kind: Kind,
        fin: bool,
        units: u32,
    },
    /// Large binary messages that follow are payloads of this channel; channel 0: no longer.
    Raw {
        channel: Channel,
        fin: bool,
    },
    /// OPEN or, with headers, OPEN_WITH.
    Open {
        channel: Channel,
        target: u32,
        protocols: u32,
        headers: u32,
    },
    Accept {
        channel: Channel,
        protocol: u32,
    },
    Refuse {
        channel: Channel,
        status: u32,
        reason: u32,
    },
    Close {
        channel: Channel,
        code: u32,
        reason: u32,
    },
    Grant {
        channel: Channel,
        units: u32,
    },
    Hello(&'a [u8]),
    Ping,
    Pong,
    /// The path that the client dialled (§3.2).
    Path(&'a [u8]),
    /// The answer to an open has cookies, which the ticket buys (§4.2).
    Cookies {
        channel: Channel,
        ticket: Token,
    },
    /// The count of messages that the sender has received.
    Ack(u32),
    /// The token that resumes the link from now on; `None`: no token does.
    Token(Option<Token>),
    Resume(Resume),
    /// The count of messages that the server has received, and the next token.
    Resumed(u32, Token),
    /// A LINK frame of a later version: passed over. It may concern the carrier or the link.
    Unknown {
        of_carrier: bool,
    },
}

/// The first frame of a carrier that resumes a link (§8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// The number of the carrier: higher than those of the link's earlier carriers.
    pub carrier: u32,
    /// The count of messages that the client has received.
    pub received: u32,
    /// The token that the server sent last, as far as the client knows.
    pub token: Token,
}

impl Resume {
    /// Reads the first physical message of a carrier that resumes a link: a batch with the frame RESUME and no other.
    ///
    /// # Errors
    /// Returns a [`Violation`] if it is anything else.
    pub fn read(batch: &[u8]) -> Result<Self, Violation> {
        let length = u32::try_from(batch.len()).map_err(|_| Rule::Huge.broken())?;
        let [headers, text, end] = crate::physical::read_lengths(batch, length)?;
        let mut headers = batch.get(headers as usize..text as usize).unwrap_or_default();
        match Frame::decode(&mut headers) {
            Ok(Frame::Resume(resume)) if headers.is_empty() && text == end && end == length => Ok(resume),
            Err(violation) => Err(violation),
            Ok(_) => Err(Rule::Resumption.broken()),
        }
    }
}

impl<'a> Frame<'a> {
    /// Returns whether a physical message with this frame is counted, and sent again over the next carrier (§8.1).
    pub(crate) fn counts(&self) -> bool {
        !matches!(
            self,
            Frame::Hello(_)
                | Frame::Ping
                | Frame::Pong
                | Frame::Ack(_)
                | Frame::Token(_)
                | Frame::Resume(_)
                | Frame::Resumed(..)
                | Frame::Unknown { of_carrier: true }
        )
    }

    /// Appends the header to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (kind, channel, arguments) = match *self {
            Frame::Data { channel, kind, fin, units } => {
                let tag = match (kind, fin) {
                    (Kind::Text, true) => kind::TEXT,
                    (Kind::Text, false) => kind::TEXT_PART,
                    (Kind::Binary, true) => kind::BINARY,
                    (Kind::Binary, false) => kind::BINARY_PART,
                };
                (tag, channel, [Some(units), None, None])
            }
            Frame::Raw { channel, fin } => (if fin { kind::RAW } else { kind::RAW_PART }, channel, [None; 3]),
            Frame::Open { channel, target, protocols, headers: 0 } => {
                (kind::OPEN, channel, [Some(target), Some(protocols), None])
            }
            Frame::Open { channel, target, protocols, headers } => {
                (kind::OPEN_WITH, channel, [Some(target), Some(protocols), Some(headers)])
            }
            Frame::Accept { channel, protocol } => (kind::ACCEPT, channel, [Some(protocol), None, None]),
            Frame::Refuse { channel, status, reason } => {
                (kind::REFUSE, channel, [Some(status), Some(reason), None])
            }
            Frame::Close { channel, code, reason } => {
                (kind::CLOSE, channel, [Some(code), Some(reason), None])
            }
            Frame::Grant { channel, units } => (kind::GRANT, channel, [Some(units), None, None]),
            Frame::Hello(body) => return encode_link(out, link::HELLO, body),
            Frame::Path(path) => return encode_link(out, link::PATH, path),
            Frame::Cookies { channel, ticket } => {
                return write_link(out, link::COOKIES, &[channel], Some(&ticket));
            }
            Frame::Ping => (kind::LINK, link::PING, [Some(0), None, None]),
            Frame::Pong => (kind::LINK, link::PONG, [Some(0), None, None]),
            Frame::Ack(count) => return write_link(out, link::ACK, &[count], None),
            Frame::Token(token) => return write_link(out, link::TOKEN, &[], token.as_ref()),
            Frame::Resume(Resume { carrier, received, token }) => {
                return write_link(out, link::RESUME, &[carrier, received], Some(&token));
            }
            Frame::Resumed(count, token) => return write_link(out, link::RESUMED, &[count], Some(&token)),
            Frame::Unknown { .. } => return,
        };
        varint::write(out, channel << KIND_BITS | kind);
        for argument in arguments.into_iter().flatten() {
            varint::write(out, argument);
        }
    }

    /// Takes one header off the front of `input`, which is not empty.
    pub(crate) fn decode(input: &mut &'a [u8]) -> Result<Self, Violation> {
        const CUT: Violation = Rule::Cut.broken();
        let mut number = || varint::read(input).ok_or(CUT);
        let tag = number()?;
        let channel = tag >> KIND_BITS;
        let kind = tag & ((1 << KIND_BITS) - 1);
        let data = |kind, fin, units| Frame::Data { channel, kind, fin, units };
        let frame = match kind {
            kind::TEXT => data(Kind::Text, true, number()?),
            kind::TEXT_PART => data(Kind::Text, false, number()?),
            kind::BINARY => data(Kind::Binary, true, number()?),
            kind::BINARY_PART => data(Kind::Binary, false, number()?),
            kind::RAW => Frame::Raw { channel, fin: true },
            kind::RAW_PART => Frame::Raw { channel, fin: false },
            kind::OPEN => Frame::Open { channel, target: number()?, protocols: number()?, headers: 0 },
            kind::OPEN_WITH => {
                Frame::Open { channel, target: number()?, protocols: number()?, headers: number()? }
            }
            kind::ACCEPT => Frame::Accept { channel, protocol: number()? },
            kind::REFUSE => Frame::Refuse { channel, status: number()?, reason: number()? },
            kind::CLOSE => Frame::Close { channel, code: number()?, reason: number()? },
            kind::GRANT => Frame::Grant { channel, units: number()? },
            kind::LINK => {
                let length = number()? as usize;
                let Some((body, rest)) = input.split_at_checked(length) else {
                    return Err(CUT);
                };
                *input = rest;
                return Ok(match channel {
                    link::HELLO => Frame::Hello(body),
                    link::PING => Frame::Ping,
                    link::PONG => Frame::Pong,
                    link::PATH => Frame::Path(body),
                    link::COOKIES => decode_cookies(body).ok_or(CUT)?,
                    link::ACK..=link::RESUMED => decode_resumption(channel, body).ok_or(CUT)?,
                    of => Frame::Unknown { of_carrier: of > link::RESUMED && of <= link::LAST_OF_CARRIER },
                });
            }
            _ => return Err(Rule::UnknownKind.broken()),
        };
        Ok(frame)
    }
}

/// Appends a LINK frame with a body.
fn encode_link(out: &mut Vec<u8>, link_type: u32, body: &[u8]) {
    varint::write(out, link_type << KIND_BITS | kind::LINK);
    varint::write(out, body.len() as u32);
    out.extend_from_slice(body);
}

/// Appends a LINK frame of integers, and a token behind them.
fn write_link(out: &mut Vec<u8>, of: u32, integers: &[u32], token: Option<&Token>) {
    let mut body = Vec::new();
    integers.iter().for_each(|&integer| varint::write(&mut body, integer));
    body.extend(token.iter().flat_map(|token| token.bytes()));
    encode_link(out, of, &body);
}

/// Reads the body of COOKIES. A later version may add to it.
fn decode_cookies(mut body: &[u8]) -> Option<Frame<'_>> {
    Some(Frame::Cookies { channel: varint::read(&mut body)?, ticket: Token::read(body)? })
}

/// Reads the body of ACK, TOKEN, RESUME or RESUMED. A later version may add to it.
fn decode_resumption(of: u32, mut body: &[u8]) -> Option<Frame<'_>> {
    Some(match of {
        link::ACK => Frame::Ack(varint::read(&mut body)?),
        link::TOKEN if body.is_empty() => Frame::Token(None),
        link::TOKEN => Frame::Token(Some(Token::read(body)?)),
        link::RESUME => {
            let (carrier, received) = (varint::read(&mut body)?, varint::read(&mut body)?);
            Frame::Resume(Resume { carrier, received, token: Token::read(body)? })
        }
        _ => Frame::Resumed(varint::read(&mut body)?, Token::read(body)?),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::varint::tests::{unhex, vectors};

    fn frame<'a>(vector: &Value, body: &'a [u8]) -> Frame<'a> {
        let number = |name: &str| vector[name].as_u64().expect("a number") as u32;
        let data = |kind, fin| Frame::Data { channel: number("channel"), kind, fin, units: number("length") };
        match vector["kind"].as_str().expect("a kind") {
            "TEXT" => data(Kind::Text, true),
            "TEXT_PART" => data(Kind::Text, false),
            "BINARY" => data(Kind::Binary, true),
            "BINARY_PART" => data(Kind::Binary, false),
            "RAW" => Frame::Raw { channel: number("channel"), fin: true },
            "RAW_PART" => Frame::Raw { channel: number("channel"), fin: false },
            "OPEN" => Frame::Open {
                channel: number("channel"),
                target: number("target"),
                protocols: number("protocols"),
                headers: 0,
            },
            "OPEN_WITH" => Frame::Open {
                channel: number("channel"),
                target: number("target"),
                protocols: number("protocols"),
                headers: number("headers"),
            },
            "ACCEPT" => Frame::Accept { channel: number("channel"), protocol: number("protocol") },
            "REFUSE" => Frame::Refuse {
                channel: number("channel"),
                status: number("status"),
                reason: number("reason"),
            },
            "CLOSE" => {
                Frame::Close { channel: number("channel"), code: number("code"), reason: number("reason") }
            }
            "GRANT" => Frame::Grant { channel: number("channel"), units: number("units") },
            "HELLO" => Frame::Hello(body),
            "PATH" => Frame::Path(body),
            "COOKIES" => Frame::Cookies { channel: number("channel"), ticket: token(&vector["ticket"]) },
            "PING" => Frame::Ping,
            "PONG" => Frame::Pong,
            "ACK" => Frame::Ack(number("count")),
            "TOKEN" => Frame::Token(vector.get("token").map(token)),
            "RESUME" => Frame::Resume(Resume {
                carrier: number("carrier"),
                received: number("count"),
                token: token(&vector["token"]),
            }),
            "RESUMED" => Frame::Resumed(number("count"), token(&vector["token"])),
            other => panic!("no kind is called {other}"),
        }
    }

    fn token(hex: &Value) -> Token {
        Token::read(&unhex(hex)).expect("16 bytes")
    }

    #[test]
    fn headers_are_those_of_the_vectors() {
        let vectors = vectors("frames");
        assert!(vectors.len() > 20);
        for vector in vectors {
            let bytes = unhex(&vector["hex"]);
            let body = vector.get("body").map(unhex).unwrap_or_default();
            let frame = frame(&vector, &body);
            let mut out = vec![];
            frame.encode(&mut out);
            assert_eq!(out, bytes, "{vector}");
            let mut rest = bytes.as_slice();
            assert_eq!(Frame::decode(&mut rest), Ok(frame), "{vector}");
            assert!(rest.is_empty(), "{vector}");
        }
    }

    #[test]
    fn unknown_link_frames_are_passed_over() {
        for vector in vectors("passed_over") {
            let bytes = unhex(&vector);
            let mut rest = bytes.as_slice();
            assert!(matches!(Frame::decode(&mut rest), Ok(Frame::Unknown { .. })), "{vector}");
            assert!(rest.is_empty(), "{vector}");
        }
    }

    #[test]
    fn bad_headers_are_violations() {
        for vector in vectors("bad_frames") {
            let bytes = unhex(&vector);
            let decoded = Frame::decode(&mut bytes.as_slice());
            assert_eq!(decoded.map_err(|violation| violation.code()), Err(1002), "{vector}");
        }
    }
}

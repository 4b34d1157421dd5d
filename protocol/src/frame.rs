//! Frame headers: their encoding and nothing else (§5).

use crate::varint;
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
}

/// Types of LINK frames, which stand where other frames have their channel.
mod link {
    pub(super) const HELLO: u32 = 0;
    pub(super) const PING: u32 = 1;
    pub(super) const PONG: u32 = 2;
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
    Open {
        channel: Channel,
        target: u32,
        protocols: u32,
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
    /// A LINK frame of a later version: passed over.
    Unknown,
}

impl<'a> Frame<'a> {
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
                (tag, channel, [Some(units), None])
            }
            Frame::Raw { channel, fin } => {
                (if fin { kind::RAW } else { kind::RAW_PART }, channel, [None, None])
            }
            Frame::Open { channel, target, protocols } => {
                (kind::OPEN, channel, [Some(target), Some(protocols)])
            }
            Frame::Accept { channel, protocol } => (kind::ACCEPT, channel, [Some(protocol), None]),
            Frame::Refuse { channel, status, reason } => {
                (kind::REFUSE, channel, [Some(status), Some(reason)])
            }
            Frame::Close { channel, code, reason } => (kind::CLOSE, channel, [Some(code), Some(reason)]),
            Frame::Grant { channel, units } => (kind::GRANT, channel, [Some(units), None]),
            Frame::Hello(body) => {
                varint::write(out, link::HELLO << KIND_BITS | kind::LINK);
                varint::write(out, body.len() as u32);
                out.extend_from_slice(body);
                return;
            }
            Frame::Ping => (kind::LINK, link::PING, [Some(0), None]),
            Frame::Pong => (kind::LINK, link::PONG, [Some(0), None]),
            Frame::Unknown => return,
        };
        varint::write(out, channel << KIND_BITS | kind);
        for argument in arguments.into_iter().flatten() {
            varint::write(out, argument);
        }
    }

    /// Takes one header off the front of `input`, which is not empty.
    pub(crate) fn decode(input: &mut &'a [u8]) -> Result<Self, Violation> {
        const CUT: Violation = Violation::protocol("a frame header is cut short or a number in it too large");
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
            kind::OPEN => Frame::Open { channel, target: number()?, protocols: number()? },
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
                    _ => Frame::Unknown,
                });
            }
            _ => return Err(Violation::protocol("unknown frame kind")),
        };
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_round_trips() {
        let frames = [
            Frame::Data { channel: 1, kind: Kind::Text, fin: true, units: 5 },
            Frame::Data { channel: 300, kind: Kind::Text, fin: false, units: 0 },
            Frame::Data { channel: 7, kind: Kind::Binary, fin: true, units: 70_000 },
            Frame::Data { channel: 7, kind: Kind::Binary, fin: false, units: 1 },
            Frame::Raw { channel: 0, fin: true },
            Frame::Raw { channel: 9, fin: false },
            Frame::Open { channel: (1 << 28) - 1, target: 12, protocols: 3 },
            Frame::Accept { channel: 2, protocol: 0 },
            Frame::Refuse { channel: 2, status: 404, reason: 9 },
            Frame::Close { channel: 2, code: 1000, reason: 4 },
            Frame::Grant { channel: 2, units: u32::MAX },
            Frame::Hello(&[1, 2, 3]),
            Frame::Ping,
            Frame::Pong,
        ];
        let mut out = vec![];
        for frame in &frames {
            frame.encode(&mut out);
        }
        let mut rest = out.as_slice();
        for frame in frames {
            assert_eq!(Frame::decode(&mut rest), Ok(frame));
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn unknown_link_frames_are_passed_over_and_unknown_kinds_are_not() {
        let mut input: &[u8] = &[5 << 4 | 11, 2, 0xaa, 0xbb, 1 << 4 | 11, 0];
        assert_eq!(Frame::decode(&mut input), Ok(Frame::Unknown));
        assert_eq!(Frame::decode(&mut input), Ok(Frame::Ping));
        assert_eq!(Frame::decode(&mut &[1 << 4 | 12][..]).map_err(|v| v.code()), Err(1002));
    }
}

//! One frame of a WebSocket: its head, the content of a Close, and the errors in either.

use std::fmt;
use std::io;

use super::mask::mask;

/// Kinds of frames (RFC 6455 §5.2).
pub(crate) mod opcode {
    pub(crate) const CONTINUATION: u8 = 0;
    pub(crate) const TEXT: u8 = 1;
    pub(crate) const BINARY: u8 = 2;
    /// Reserved: a receiver fails the connection (RFC 6455 §5.2).
    pub(crate) const UNKNOWN: u8 = 3;
    pub(crate) const CLOSE: u8 = 8;
    pub(crate) const PING: u8 = 9;
    pub(crate) const PONG: u8 = 10;
}

/// Why a socket cannot be used any more.
#[derive(Debug)]
pub(crate) enum Broken {
    Io(io::Error),
    /// The connection ended without a closing handshake.
    Lost,
    /// This side or the peer has closed.
    Closed,
    /// The peer broke RFC 6455.
    Protocol(&'static str),
    /// The peer's text or close reason is not UTF-8.
    NotUtf8,
    /// The peer's message is larger than allowed.
    TooLarge,
}

impl Broken {
    /// Returns the close code for the peer's fault (RFC 6455 §7.4.1); `None` if the peer made none.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Protocol(_) => Some(1002),
            Self::NotUtf8 => Some(1007),
            Self::TooLarge => Some(1009),
            Self::Io(_) | Self::Lost | Self::Closed => None,
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Lost => f.write_str("the connection ended without a closing handshake"),
            Self::Closed => f.write_str("the WebSocket is closed"),
            Self::Protocol(why) => write!(f, "the peer broke RFC 6455: {why}"),
            Self::NotUtf8 => f.write_str("the peer sent a text or a close reason that is not UTF-8"),
            Self::TooLarge => f.write_str("the peer's message is larger than allowed"),
        }
    }
}

impl std::error::Error for Broken {}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The side of the connection that a socket is, and the frames that it accepts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    /// A client masks its frames (RFC 6455 §5.3).
    pub(crate) is_client: bool,
    pub(crate) max_message: usize,
    pub(crate) max_frame: usize,
    /// Frames of a client that are not masked.
    pub(crate) accept_unmasked: bool,
    /// Whether the socket itself answers pings.
    pub(crate) answers_pings: bool,
}

impl Config {
    /// Returns the configuration of a server that accepts messages of at most `max_message` bytes, in any number of frames.
    pub(crate) fn server(max_message: usize) -> Self {
        Self {
            is_client: false,
            max_message,
            max_frame: max_message,
            accept_unmasked: false,
            answers_pings: true,
        }
    }

    pub(crate) fn client(max_message: usize) -> Self {
        Self { is_client: true, ..Self::server(max_message) }
    }

    /// A client whose user answers pings: a bridge passes them on to the page.
    pub(crate) fn bridged(max_message: usize) -> Self {
        Self { answers_pings: false, ..Self::client(max_message) }
    }
}

/// A frame whose payload is arriving.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) fin: bool,
    mask: [u8; 4],
    /// Bytes of the payload that have arrived.
    done: usize,
    /// Bytes of the payload that are still to arrive.
    pub(crate) left: usize,
}

impl Frame {
    /// Reads the head of a frame (RFC 6455 §5.2), if it has come, and its length.
    pub(crate) fn parse(input: &[u8], config: &Config) -> Result<Option<(Self, usize)>, Broken> {
        let Some(&[first, second]) = input.first_chunk() else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Broken::Protocol("a reserved bit is set"));
        }
        let is_masked = second & 0x80 != 0;
        match (is_masked, config.is_client) {
            (false, false) if !config.accept_unmasked => {
                return Err(Broken::Protocol("a client's frame is not masked"));
            }
            (true, true) => return Err(Broken::Protocol("a server's frame is masked")),
            _ => {}
        }
        let rest = &input[2..];
        let (length, rest, head) = match second & 0x7f {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest, 4),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest, 10),
                None => return Ok(None),
            },
            length => (length.into(), rest, 2),
        };
        if length > i64::MAX as u64 {
            return Err(Broken::Protocol("the first bit of a length is set"));
        }
        // Browsers insist on the shortest form (RFC 6455 §5.2), so a gateway does, too. Servers do not, and some clients
        // rely on that.
        let is_shortest = match head {
            4 => length > 125,
            10 => length > 0xffff,
            _ => true,
        };
        if config.is_client && !is_shortest {
            return Err(Broken::Protocol("a length is not in its shortest form"));
        }
        let (mask, head) = match rest.first_chunk() {
            _ if !is_masked => ([0; 4], head),
            Some(mask) => (*mask, head + mask.len()),
            None => return Ok(None),
        };
        // No address space holds more: it is refused as too large.
        let left = usize::try_from(length).unwrap_or(usize::MAX);
        Ok(Some((Self { opcode: first & 0x0f, fin: first & 0x80 != 0, mask, done: 0, left }, head)))
    }

    /// Unmasks the next bytes of the payload (RFC 6455 §5.3).
    pub(crate) fn unmask(&mut self, bytes: &mut [u8]) {
        mask(bytes, self.mask, self.done);
        self.done = self.done.wrapping_add(bytes.len());
        self.left -= bytes.len();
    }
}

/// Reads the content of a Close: its code and reason (RFC 6455 §5.5.1).
pub(crate) fn parse_close(payload: &[u8]) -> Result<Option<(u16, String)>, Broken> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Broken::Protocol("half a close code")) };
    };
    let code = u16::from_be_bytes(*code);
    // RFC 6455 §7.4; 1012 to 1014 are registered since.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Broken::Protocol("a close code that may not be sent"));
    }
    match str::from_utf8(reason) {
        Ok(reason) => Ok(Some((code, reason.to_owned()))),
        Err(_) => Err(Broken::NotUtf8),
    }
}

//! A WebSocket (RFC 6455) whose buffers are exactly as large as what they hold, so that a budget can count them.
//!
//! An idle socket has no buffers. A message that arrives in parts gets an allocation of its length and is read into it; a
//! large message is written from the buffer that it is in. Answers to pings never wait in a queue: while the peer reads
//! nothing, only the answer to its latest ping is kept (RFC 6455 §5.5.3).

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use crate::budget::compact;

use super::mask::mask;
use super::output::Output;

/// Bytes that one read of small messages takes: 400 messages of 32 bytes.
const READ: usize = 16 * 1024;

/// A message is read into its own allocation once this much of it is still to come: below it, one read brings the rest
/// and what follows it.
const DIRECT: usize = 8 * 1024;

/// Bytes that are read for one message before other tasks have their turn, and at once: 256 KiB take 0.1 ms. Pieces without
/// content may never make a message.
const TURN: usize = 256 * 1024;

/// Pings are answered one by one while less than this waits to be written: 128 of the largest answers.
const ANSWERS: usize = 16 * 1024;

/// The largest payload of a control frame (RFC 6455 §5.5).
const MAX_CONTROL: usize = 125;

thread_local! {
    /// Where a read goes before its length is known.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// What has been received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// The content has not been checked to be UTF-8.
    Text(Bytes),
    Binary(Bytes),
    /// The socket answers it.
    Ping(Bytes),
    Pong(Bytes),
    /// The socket answers it. `None`: without a code.
    Close(Option<(u16, String)>),
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
    /// The peer's text is not UTF-8.
    NotUtf8,
    /// The peer's message is larger than allowed.
    TooLarge,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Lost => f.write_str("the connection ended without a closing handshake"),
            Self::Closed => f.write_str("the WebSocket is closed"),
            Self::Protocol(why) => write!(f, "the peer broke RFC 6455: {why}"),
            Self::NotUtf8 => f.write_str("the peer sent a text that is not UTF-8"),
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

/// Which side of the connection a socket is, and what it accepts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    /// A client masks what it sends (RFC 6455 §5.3).
    pub(crate) is_client: bool,
    pub(crate) max_message: usize,
    pub(crate) max_frame: usize,
    /// Frames of a client that are not masked.
    pub(crate) accept_unmasked: bool,
}

impl Config {
    /// A server that accepts messages of at most so many bytes, however they are cut.
    pub(crate) fn server(max_message: usize) -> Self {
        Self { is_client: false, max_message, max_frame: max_message, accept_unmasked: false }
    }

    pub(crate) fn client(max_message: usize) -> Self {
        Self { is_client: true, ..Self::server(max_message) }
    }
}

/// The closing handshake (RFC 6455 §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// This side has sent its Close.
    Closing,
    /// The peer's Close has come; the answer is queued.
    Closed,
}

/// A frame whose payload is arriving.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: u8,
    fin: bool,
    mask: [u8; 4],
    /// Bytes of the payload that have come, and that are still to come.
    done: usize,
    left: usize,
}

/// A message of which a part has come.
#[derive(Debug)]
struct Partial {
    is_text: bool,
    content: Vec<u8>,
}

/// One side of a WebSocket.
#[derive(Debug)]
pub(crate) struct FramedSocket<S> {
    io: S,
    config: Config,
    /// What has been read and belongs to no message yet: the beginning of a frame, or several whole ones.
    input: BytesMut,
    frame: Option<Frame>,
    partial: Option<Partial>,
    output: Output,
    /// The answer to the latest ping, while there is no room for it.
    pong: Option<Bytes>,
    /// An answer is in `output`, and nobody else may come to write it.
    answered: bool,
    state: State,
    /// Nothing more can be read; a peer that broke the protocol can still be sent a Close.
    ended: bool,
}

/// Kinds of frames (RFC 6455 §5.2).
pub(crate) mod opcode {
    pub(crate) const CONTINUATION: u8 = 0;
    pub(crate) const TEXT: u8 = 1;
    pub(crate) const BINARY: u8 = 2;
    pub(crate) const CLOSE: u8 = 8;
    pub(crate) const PING: u8 = 9;
    pub(crate) const PONG: u8 = 10;
}

use opcode::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT};

impl<S: AsyncRead + AsyncWrite + Unpin> FramedSocket<S> {
    pub(crate) fn new(io: S, config: Config) -> Self {
        Self {
            io,
            config,
            input: BytesMut::new(),
            frame: None,
            partial: None,
            output: Output::new(config.is_client),
            pong: None,
            answered: false,
            state: State::Open,
            ended: false,
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn io_mut(&mut self) -> &mut S {
        &mut self.io
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn queued(&self) -> usize {
        self.output.len()
    }

    /// Bytes that the buffers hold.
    pub(crate) fn held(&self) -> usize {
        self.input.capacity() + self.unfinished() + self.output.held()
    }

    /// Bytes of a message that is not complete. Its allocation may be larger; memory that nothing was written to costs
    /// nothing, and a length that is only announced counts for nothing.
    pub(crate) fn unfinished(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.content.len())
    }

    /// The next message; `None` at the end of the closing handshake or of the connection.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Received, Broken>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let received = match self.state {
            // The answer to the Close is the last thing that is written.
            State::Closed => ready!(self.poll_flush(cx)).map(|()| None).map_err(Broken::Io),
            State::Open | State::Closing => ready!(self.poll_received(cx)).map(Some),
        };
        self.ended = !matches!(received, Ok(Some(_)));
        Poll::Ready(received.transpose())
    }

    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Broken>> {
        let mut read = 0;
        while read < TURN {
            if let Some(received) = self.parse()? {
                return Poll::Ready(Ok(received));
            }
            if self.answered
                && let Poll::Ready(written) = self.poll_flush(cx)
            {
                written?;
            }
            match ready!(self.poll_read(cx))? {
                0 => return Poll::Ready(Err(Broken::Lost)),
                bytes => read += bytes,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    // ---- writing ----

    /// Ready while little waits to be written; not while the peer does not read.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.output.poll_room(&mut self.io, cx)
    }

    /// Queues a message, a ping or a pong.
    ///
    /// # Errors
    /// This side or the peer has closed.
    pub(crate) fn start_send(&mut self, opcode: u8, content: Bytes) -> Result<(), Broken> {
        if self.state != State::Open {
            return Err(Broken::Closed);
        }
        self.output.push(opcode, content);
        Ok(())
    }

    /// Queues a Close behind what has been sent, with a code and a reason.
    ///
    /// # Errors
    /// This side or the peer has closed.
    pub(crate) fn start_close(&mut self, close: Option<(u16, &str)>) -> Result<(), Broken> {
        let content = close.map(|(code, reason)| [&code.to_be_bytes(), reason.as_bytes()].concat());
        self.start_send(CLOSE, content.unwrap_or_default().into())?;
        self.state = State::Closing;
        // Nothing follows a Close.
        self.pong = None;
        Ok(())
    }

    /// Ready when all has been written.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.output.poll_write(&mut self.io, cx))?;
            match self.pong.take() {
                Some(pong) => self.output.push(PONG, pong),
                None => break,
            }
        }
        self.answered = false;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    // ---- reading ----

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let (Some(frame), Some(partial)) = (&mut self.frame, &mut self.partial)
            && frame.opcode < CLOSE
            && frame.left >= DIRECT
        {
            let start = partial.content.len();
            let mut rest = (&mut partial.content).limit(frame.left.min(TURN));
            let read = ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut rest))?;
            frame.unmask(&mut partial.content[start..]);
            return Poll::Ready(Ok(read));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut scratch = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut scratch))?;
            self.input.extend_from_slice(scratch.filled());
            Poll::Ready(Ok(scratch.filled().len()))
        })
    }

    /// The next message of what has been read.
    fn parse(&mut self) -> Result<Option<Received>, Broken> {
        let received = self.parse_frames();
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        received
    }

    fn parse_frames(&mut self) -> Result<Option<Received>, Broken> {
        loop {
            let Some(frame) = &mut self.frame else {
                let Some((frame, length)) = Frame::parse(&self.input, &self.config)? else { return Ok(None) };
                self.check(&frame)?;
                self.input.advance(length);
                self.frame = Some(frame);
                continue;
            };
            let is_control = frame.opcode >= CLOSE;
            let is_here = self.input.len() >= frame.left;
            let received = if is_here && (is_control || (frame.fin && self.partial.is_none())) {
                let length = frame.left;
                let payload = &mut self.input[..length];
                frame.unmask(payload);
                // A slice would keep what was read with it.
                let (opcode, payload) = (frame.opcode, compact(payload));
                self.input.advance(length);
                self.frame = None;
                if is_control {
                    Some(self.control(opcode, payload)?)
                } else {
                    Some(data(opcode == TEXT, payload))
                }
            } else if is_control {
                return Ok(None);
            } else {
                let partial = self.partial.get_or_insert_with(|| Partial {
                    is_text: frame.opcode == TEXT,
                    content: Vec::with_capacity(frame.left),
                });
                let (start, here) = (partial.content.len(), frame.left.min(self.input.len()));
                // All of this frame: no reallocation while it arrives.
                partial.content.reserve(frame.left);
                partial.content.extend_from_slice(&self.input[..here]);
                self.input.advance(here);
                frame.unmask(&mut partial.content[start..]);
                if frame.left > 0 {
                    return Ok(None);
                }
                let fin = frame.fin;
                self.frame = None;
                if fin { self.partial.take().map(Partial::complete) } else { None }
            };
            if received.is_some() {
                return Ok(received);
            }
        }
    }

    /// Whether the frame may come now (RFC 6455 §5.4, §5.5).
    fn check(&self, frame: &Frame) -> Result<(), Broken> {
        match (frame.opcode, &self.partial) {
            (CLOSE | PING | PONG, _) if !frame.fin => {
                return Err(Broken::Protocol("a control frame is cut in pieces"));
            }
            (CLOSE | PING | PONG, _) if frame.left > MAX_CONTROL => {
                return Err(Broken::Protocol("a control frame is too long"));
            }
            (CLOSE | PING | PONG, _) => return Ok(()),
            (CONTINUATION, None) => return Err(Broken::Protocol("a piece of no message")),
            (TEXT | BINARY, Some(_)) => return Err(Broken::Protocol("a message inside another")),
            (CONTINUATION | TEXT | BINARY, _) => {}
            _ => return Err(Broken::Protocol("an unknown kind of frame")),
        }
        let length = self.unfinished().saturating_add(frame.left);
        let is_too_large = length > self.config.max_message || frame.left > self.config.max_frame;
        if is_too_large { Err(Broken::TooLarge) } else { Ok(()) }
    }

    fn control(&mut self, opcode: u8, payload: Bytes) -> Result<Received, Broken> {
        match opcode {
            PING => {
                if self.state == State::Open {
                    self.answered = true;
                    if self.output.len() < ANSWERS {
                        self.output.push(PONG, payload.clone());
                    } else {
                        self.pong = Some(payload.clone());
                    }
                }
                Ok(Received::Ping(payload))
            }
            PONG => Ok(Received::Pong(payload)),
            _ => {
                let close = parse_close(&payload)?;
                if self.state == State::Open {
                    // The same goes back (RFC 6455 §5.5.1).
                    self.output.push(CLOSE, payload);
                }
                self.pong = None;
                self.state = State::Closed;
                Ok(Received::Close(close))
            }
        }
    }
}

fn data(is_text: bool, content: Bytes) -> Received {
    if is_text { Received::Text(content) } else { Received::Binary(content) }
}

fn parse_close(payload: &[u8]) -> Result<Option<(u16, String)>, Broken> {
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
        Err(_) => Err(Broken::Protocol("a close reason that is not UTF-8")),
    }
}

impl Partial {
    fn complete(mut self) -> Received {
        // What was reserved for pieces that did not come; without it, nothing is moved.
        self.content.shrink_to_fit();
        data(self.is_text, self.content.into())
    }
}

impl Frame {
    /// Reads the head of a frame (RFC 6455 §5.2), if it has come, and its length.
    fn parse(input: &[u8], config: &Config) -> Result<Option<(Self, usize)>, Broken> {
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
    fn unmask(&mut self, bytes: &mut [u8]) {
        mask(bytes, self.mask, self.done);
        self.done = self.done.wrapping_add(bytes.len());
        self.left -= bytes.len();
    }
}

#[cfg(test)]
mod tests;

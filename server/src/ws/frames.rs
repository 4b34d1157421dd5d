//! A WebSocket (RFC 6455) whose buffers are exactly as large as their content, so that a budget can count them.
//!
//! An idle socket has no buffers. A message that arrives in parts gets an allocation of its length and is read into it; a
//! large message is written from the buffer that it is in. Answers to pings never wait in a queue: while the peer reads
//! nothing, only the answer to its latest ping is kept (RFC 6455 §5.5.3).

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use crate::budget::compact;
use crate::turns::end_turn;
use crate::ws::frame::opcode::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, UNKNOWN};
use crate::ws::frame::{Broken, Config, Frame, parse_close};
use crate::ws::output::Output;

/// Bytes that one read of small messages takes: 400 messages of 32 bytes.
const READ: usize = 16 * 1024;

/// A message is read into its own allocation once this much of it is still to come: below it, one read brings the rest
/// and the bytes after it.
const DIRECT: usize = 8 * 1024;

/// Bytes that are read for one message before other tasks have their turn, and at once: 256 KiB take 0.1 ms.
const TURN: usize = 256 * 1024;

/// A byte of small frames counts as this many: pieces without content may never make a message, and 64 KiB of them take
/// 0.8 ms.
const SMALL: usize = 4;

/// Memory that is reserved for a frame before any of it has arrived: a piece of a large message of a link.
const ANNOUNCED: usize = 1 << 20;

/// Pings are answered one by one while less than this waits to be written: 128 of the largest answers.
const ANSWERS: usize = 16 * 1024;

/// The largest payload of a control frame (RFC 6455 §5.5).
const MAX_CONTROL: usize = 125;

thread_local! {
    /// Where a read goes before its length is known.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// A message or control frame that has been received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// The content has not been checked to be UTF-8.
    Text(Bytes),
    Binary(Bytes),
    /// The socket answers it if its configuration says so.
    Ping(Bytes),
    Pong(Bytes),
    /// The socket answers it. `None`: without a code.
    Close(Option<(u16, String)>),
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
    /// Input that belongs to no message yet: the beginning of a frame, or several whole ones.
    input: BytesMut,
    /// The capacity of the allocation of `input`: its own capacity shrinks when its beginning is taken.
    input_held: usize,
    frame: Option<Frame>,
    partial: Option<Partial>,
    output: Output,
    /// The answer to the latest ping, while there is no room for it.
    pong: Option<Bytes>,
    /// An answer is in `output`, and nobody else may come to write it.
    answered: bool,
    state: State,
    /// Bytes that have been read.
    received: u64,
    /// Nothing more can be read; a peer that broke the protocol can still be sent a Close.
    ended: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> FramedSocket<S> {
    pub(crate) fn new(io: S, config: Config) -> Self {
        Self {
            io,
            config,
            input: BytesMut::new(),
            input_held: 0,
            frame: None,
            partial: None,
            output: Output::new(config.is_client),
            pong: None,
            answered: false,
            state: State::Open,
            received: 0,
            ended: false,
        }
    }

    /// Sets the messages that it accepts from now on.
    pub(crate) fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// Returns the connection that the frames travel on.
    pub(crate) fn io(&self) -> &S {
        &self.io
    }

    /// Returns the connection, and drops all buffers.
    pub(crate) fn into_io(self) -> S {
        self.io
    }

    /// Returns whether this side has sent its Close and the peer's has not arrived.
    pub(crate) fn is_closing(&self) -> bool {
        self.state == State::Closing
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn io_mut(&mut self) -> &mut S {
        &mut self.io
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn queued(&self) -> usize {
        self.output.len()
    }

    /// Returns the number of bytes that have been read from the connection.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received
    }

    /// Bytes that the buffers hold.
    pub(crate) fn held(&self) -> usize {
        self.input_held + self.unfinished() + self.output.held()
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
            // The answer to the Close is the last thing that is written. A peer that does not wait for it has closed all
            // the same.
            State::Closed => {
                let _ = ready!(self.poll_flush(cx));
                Ok(None)
            }
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
                && let Poll::Ready(Err(_)) = self.poll_flush(cx)
            {
                // The peer reads no answers any more. Reading returns its last messages, and how it ended.
                self.answered = false;
            }
            let weight = if self.is_in_large_frame() { 1 } else { SMALL };
            match ready!(self.poll_read(cx))? {
                0 => return Poll::Ready(Err(Broken::Lost)),
                bytes => {
                    read += weight * bytes;
                    self.received += bytes as u64;
                }
            }
        }
        end_turn(cx);
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
    /// This side or the peer has closed, or the content is more than a ping or a pong carries.
    pub(crate) fn start_send(&mut self, opcode: u8, content: Bytes) -> Result<(), Broken> {
        if self.state != State::Open {
            return Err(Broken::Closed);
        }
        if opcode >= CLOSE && content.len() > MAX_CONTROL {
            let why = "a ping or a pong carries at most 125 bytes";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why).into());
        }
        self.output.push(opcode, content);
        Ok(())
    }

    /// Queues a Close behind the messages already sent, with a code and as much of a reason as fits.
    ///
    /// # Errors
    /// This side or the peer has closed.
    pub(crate) fn start_close(&mut self, close: Option<(u16, &str)>) -> Result<(), Broken> {
        let content = close.map(|(code, reason)| {
            let mut end = reason.len().min(MAX_CONTROL - size_of_val(&code));
            while !reason.is_char_boundary(end) {
                end -= 1;
            }
            [&code.to_be_bytes(), &reason.as_bytes()[..end]].concat()
        });
        self.start_last(CLOSE, content.unwrap_or_default().into())
    }

    /// Queues a frame behind the messages already sent on which the peer must fail the connection.
    ///
    /// # Errors
    /// This side or the peer has closed.
    pub(crate) fn start_failure(&mut self) -> Result<(), Broken> {
        self.start_last(UNKNOWN, Bytes::new())
    }

    /// Queues a frame that nothing follows, not even a Pong.
    fn start_last(&mut self, opcode: u8, content: Bytes) -> Result<(), Broken> {
        self.start_send(opcode, content)?;
        self.state = State::Closing;
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

    /// Returns whether the next read is for the content of one frame only.
    fn is_in_large_frame(&self) -> bool {
        let is_large = |frame: &Frame| frame.opcode < CLOSE && frame.left >= DIRECT;
        self.partial.is_some() && self.frame.as_ref().is_some_and(is_large)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.is_in_large_frame()
            && let (Some(frame), Some(partial)) = (&mut self.frame, &mut self.partial)
        {
            let start = partial.content.len();
            partial.reserve(frame.left);
            let mut rest = (&mut partial.content).limit(frame.left.min(TURN));
            let read = ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut rest))?;
            frame.unmask(&mut partial.content[start..]);
            return Poll::Ready(Ok(read));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut scratch = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut scratch))?;
            self.input.extend_from_slice(scratch.filled());
            self.input_held = self.input.capacity();
            Poll::Ready(Ok(scratch.filled().len()))
        })
    }

    /// Parses the next message of the input.
    fn parse(&mut self) -> Result<Option<Received>, Broken> {
        let received = self.parse_frames();
        if self.input.is_empty() || self.state == State::Closed {
            self.input = BytesMut::new();
            self.input_held = 0;
        } else if matches!(received, Ok(None)) && self.input_held > 2 * MAX_CONTROL {
            // The beginning of a frame would keep the whole read in memory.
            self.input = BytesMut::from(&self.input[..]);
            self.input_held = self.input.capacity();
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
                // A slice would keep the whole read in memory.
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
                let partial = self
                    .partial
                    .get_or_insert_with(|| Partial { is_text: frame.opcode == TEXT, content: Vec::new() });
                let (start, here) = (partial.content.len(), frame.left.min(self.input.len()));
                partial.reserve(frame.left);
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
                if self.state == State::Open && self.config.answers_pings {
                    self.answered = true;
                    if self.output.len() < ANSWERS {
                        // An older answer would follow a newer one.
                        self.pong = None;
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
                // The rest of the message can never arrive.
                self.partial = None;
                self.state = State::Closed;
                Ok(Received::Close(close))
            }
        }
    }
}

fn data(is_text: bool, content: Bytes) -> Received {
    if is_text { Received::Text(content) } else { Received::Binary(content) }
}

impl Partial {
    /// Makes room for the rest of a frame, up to a megabyte or as much as has arrived: a head costs its sender a few bytes,
    /// whatever length it announces.
    fn reserve(&mut self, rest: usize) {
        self.content.reserve(rest.min(self.content.len().max(ANNOUNCED)));
    }

    fn complete(mut self) -> Received {
        // Returns space that was reserved for pieces that did not arrive; without such space, nothing is moved.
        self.content.shrink_to_fit();
        data(self.is_text, self.content.into())
    }
}

#[cfg(test)]
mod differential;
#[cfg(test)]
mod tests;

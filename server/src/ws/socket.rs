//! The WebSocket that a handler gets, native or virtual.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};

use axum::Error;
use axum::extract::ws::{CloseCode, CloseFrame, Message, Utf8Bytes};
use axum::http::HeaderValue;
use futures_util::task::AtomicWaker;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use manysocket_protocol::{self as protocol, Close, FAILED};

use crate::budget::Reservation;
use crate::turns::poll_counted;
use crate::ws::frame::Broken;
use crate::ws::frames::FramedSocket;
use crate::ws::linger::linger;
use crate::ws::pipe::{Incoming, Pipe, content};

/// A WebSocket, native or virtual, with the interface and the behaviour of [axum's own](axum::extract::ws::WebSocket).
///
/// - [`recv`](WebSocket::recv) gives [`Message::Close`] once when the page closes, then `None`. The answer goes out when
///   the handler next reads or flushes, or drops the socket, with the page's code unless the handler closes with another.
/// - A page or network that goes away without a closing handshake gives an error once, then `None`.
/// - A socket that is dropped without a close looks to the page like a lost connection (1006); see [`fail`](WebSocket::fail).
/// - [`send`](WebSocket::send) waits while the page is slow to read.
/// - The browser answers a [`Message::Ping`] with a [`Message::Pong`] of the same payload, once it has the messages sent before.
#[derive(Debug)]
pub struct WebSocket(Inner);

#[derive(Debug)]
enum Inner {
    Native(Native),
    Virtual(Virtual),
}

impl WebSocket {
    pub(crate) fn native(socket: FramedSocket<TokioIo<Upgraded>>, protocol: Option<HeaderValue>) -> Self {
        let halves = Arc::new(Halves::default());
        let waker = Arc::clone(&halves).into();
        Self(Inner::Native(Native {
            socket: Some(Box::new(socket)),
            protocol,
            halves,
            waker,
            owes_answer: false,
            breach: None,
        }))
    }

    pub(crate) fn virtual_(
        pipe: Arc<Pipe>,
        protocol: Option<HeaderValue>,
        max_message_size: Option<usize>,
    ) -> Self {
        Self(Inner::Virtual(Virtual { pipe, protocol, max_message_size, answer: None, ended: false }))
    }

    /// Receives the next message; `None` once the socket has ended.
    pub async fn recv(&mut self) -> Option<Result<Message, Error>> {
        self.next().await
    }

    /// Sends a message, after waiting for room where the page is slow to read.
    ///
    /// # Errors
    /// The socket has closed.
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        SinkExt::send(self, message).await
    }

    /// A part of the link's memory, for a message that a handler has read and keeps; a native socket has no link.
    pub(crate) fn reservation(&self) -> Option<Reservation> {
        match &self.0 {
            Inner::Native(_) => None,
            Inner::Virtual(socket) => Some(socket.pipe.reservation()),
        }
    }

    /// Fails the connection after the messages already sent: the page sees `error`, then `close` with 1006. A server that breaks
    /// RFC 6455 has the same effect, and so this stands for one behind this server. Dropping the socket loses the connection
    /// instead: the page sees `close` with 1006 only.
    pub fn fail(mut self) {
        match &mut self.0 {
            Inner::Native(native) => {
                native.owes_answer = false;
                if let Some(socket) = &mut native.socket {
                    // Nothing is sent if this side has closed. Firefox does not fail a connection for a Close with a wrong code.
                    native.breach = socket.start_failure().err().and(native.breach);
                    let _ = socket.poll_flush_unpin(&mut Context::from_waker(Waker::noop()));
                }
            }
            Inner::Virtual(socket) => {
                socket.answer = None;
                socket.pipe.close(failed());
            }
        }
    }

    /// Leaves a close of the page's without an answer: to the page, the connection is lost.
    pub(crate) fn lose(&mut self) {
        match &mut self.0 {
            Inner::Native(native) => (native.owes_answer, native.breach) = (false, None),
            Inner::Virtual(socket) => socket.answer = None,
        }
    }

    /// Returns the chosen subprotocol.
    pub fn protocol(&self) -> Option<&HeaderValue> {
        match &self.0 {
            Inner::Native(native) => native.protocol.as_ref(),
            Inner::Virtual(socket) => socket.protocol.as_ref(),
        }
    }
}

impl Stream for WebSocket {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.0 {
            Inner::Native(native) => {
                native.halves.reader.register(cx.waker());
                let Some(socket) = &mut native.socket else { return Poll::Ready(None) };
                let polled = socket.poll_next_unpin(&mut Context::from_waker(&native.waker));
                native.owes_answer = matches!(polled, Poll::Ready(Some(Ok(Message::Close(_)))));
                if let Poll::Ready(Some(Err(broken))) = &polled {
                    native.breach = broken.code();
                }
                polled.map_err(Error::new)
            }
            Inner::Virtual(socket) => socket.poll_next(cx),
        }
    }
}

impl Sink<Message> for WebSocket {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match &mut self.0 {
            Inner::Native(native) => native.write(cx, SinkExt::poll_ready_unpin),
            Inner::Virtual(socket) => {
                ready!(socket.pipe.poll_writable(cx));
                Poll::Ready(Ok(()))
            }
        }
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        match &mut self.0 {
            Inner::Native(Native { socket: Some(socket), .. }) => {
                socket.start_send_unpin(message).map_err(Error::new)
            }
            Inner::Native(_) => Err(Error::new(Broken::Closed)),
            Inner::Virtual(socket) => socket.start_send(message),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match &mut self.0 {
            Inner::Native(native) => native.write(cx, SinkExt::poll_flush_unpin),
            Inner::Virtual(socket) => {
                // Nothing is kept here: the link writes all messages as soon as it can.
                socket.answer();
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match &mut self.0 {
            Inner::Native(native) => native.write(cx, SinkExt::poll_close_unpin),
            Inner::Virtual(socket) => {
                socket.answer();
                socket.pipe.close(Close { code: None, reason: String::new() });
                Poll::Ready(Ok(()))
            }
        }
    }
}

#[derive(Debug)]
struct Native {
    /// Taken when the socket is dropped.
    socket: Option<Box<FramedSocket<TokioIo<Upgraded>>>>,
    protocol: Option<HeaderValue>,
    halves: Arc<Halves>,
    /// Wakes both halves.
    waker: Waker,
    /// The page's close has been read last: the socket writes its answer when it is used again.
    owes_answer: bool,
    /// The page broke RFC 6455, or has sent a message that is too large: the code that it gets if the handler gives none.
    breach: Option<CloseCode>,
}

impl Native {
    fn write(
        &mut self,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut FramedSocket<TokioIo<Upgraded>>, &mut Context<'_>) -> Poll<Result<(), Broken>>,
    ) -> Poll<Result<(), Error>> {
        self.halves.writer.register(cx.waker());
        let Some(socket) = &mut self.socket else { return Poll::Ready(Err(Error::new(Broken::Closed))) };
        poll(socket, &mut Context::from_waker(&self.waker)).map_err(Error::new)
    }
}

/// The tasks of a socket that is split: reading writes, too, the answers to pings, and a connection knows one task that waits
/// to write.
#[derive(Debug, Default)]
struct Halves {
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Wake for Halves {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.reader.wake();
        self.writer.wake();
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        let Some(mut socket) = self.socket.take() else { return };
        if let Some(code) = self.breach {
            // RFC 6455 §7.1.7. The handler may have closed before.
            self.owes_answer |= socket.start_close(Some((code, ""))).is_ok();
        }
        if self.owes_answer {
            // RFC 6455 §5.5.1. Where there is no room for it, the page sees 1006, as it would without this.
            let _ = socket.poll_flush_unpin(&mut Context::from_waker(Waker::noop()));
        }
        // The page would lose the Close with a connection that is reset.
        if socket.is_closing()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(linger(*socket));
        }
    }
}

#[derive(Debug)]
struct Virtual {
    pipe: Arc<Pipe>,
    protocol: Option<HeaderValue>,
    max_message_size: Option<usize>,
    /// The close that the page's asks for, until it is sent.
    answer: Option<Close>,
    /// Nothing is left to read.
    ended: bool,
}

impl Virtual {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        self.answer();
        if self.ended {
            return Poll::Ready(None);
        }
        let size = |incoming: &Incoming| match incoming {
            Incoming::Message(message) => content(message),
            _ => 0,
        };
        let incoming = ready!(poll_counted(cx, size, |cx| self.pipe.poll_read(cx)));
        if !matches!(incoming, Incoming::Message(_) | Incoming::Pong(_)) {
            self.ended = true;
        }
        Poll::Ready(Some(match incoming {
            Incoming::Message(message) if self.is_too_large(&message) => {
                self.ended = true;
                self.pipe.close(Close { code: Some(1009), reason: "the message is too large".into() });
                Err(Error::new("the message is larger than this handler's max_message_size"))
            }
            Incoming::Message(message) => from_protocol(message),
            Incoming::Pong(payload) => Ok(Message::Pong(payload)),
            Incoming::Close(close) => {
                let frame = close
                    .code
                    .map(|code| CloseFrame { code, reason: Utf8Bytes::from(close.reason.as_str()) });
                self.answer = Some(close);
                Ok(Message::Close(frame))
            }
            Incoming::Lost => Err(Error::new("the connection ended without a closing handshake")),
            Incoming::Oversize => Err(Error::new("the message is larger than the multiplexer's max_message")),
        }))
    }

    fn start_send(&mut self, message: Message) -> Result<(), Error> {
        let sent = match message {
            Message::Text(text) => self.pipe.write(protocol::Message::Text(text.into())),
            Message::Binary(bytes) => self.pipe.write(protocol::Message::Binary(bytes)),
            Message::Ping(payload) if payload.len() > MAX_CONTROL => return Err(too_long()),
            Message::Ping(payload) => self.pipe.ping(payload),
            Message::Pong(payload) if payload.len() > MAX_CONTROL => return Err(too_long()),
            // A browser ignores it.
            Message::Pong(_) => self.pipe.is_open(),
            Message::Close(frame) => {
                self.answer = None;
                self.pipe.close(match frame {
                    // To a browser it is a frame that breaks RFC 6455.
                    Some(CloseFrame { code: ABNORMAL, .. }) => failed(),
                    Some(CloseFrame { code, reason }) => {
                        Close { code: Some(code), reason: reason.to_string() }
                    }
                    None => Close { code: None, reason: String::new() },
                })
            }
        };
        if sent { Ok(()) } else { Err(Error::new("the WebSocket is closed")) }
    }

    fn is_too_large(&self, message: &protocol::Message) -> bool {
        let (protocol::Message::Text(bytes) | protocol::Message::Binary(bytes)) = message;
        self.max_message_size.is_some_and(|max| bytes.len() > max)
    }

    /// Sends the answer to the page's close, if it is due.
    fn answer(&mut self) {
        if let Some(close) = self.answer.take() {
            self.pipe.close(close);
        }
    }
}

impl Drop for Virtual {
    fn drop(&mut self) {
        self.answer();
        // RFC 6455 §7.1.5: without a Close frame the page sees 1006. Nothing happens if there has been one.
        self.pipe.close(Close { code: Some(ABNORMAL), reason: String::new() });
    }
}

/// The close code that stands for "no closing handshake" (RFC 6455 §7.4.1).
const ABNORMAL: CloseCode = 1006;

/// The end of a socket that fails.
fn failed() -> Close {
    Close { code: Some(FAILED), reason: String::new() }
}

/// The error of a native socket, too.
fn too_long() -> Error {
    Error::new("a ping or a pong carries at most 125 bytes")
}

fn from_protocol(message: protocol::Message) -> Result<Message, Error> {
    Ok(match message {
        protocol::Message::Text(bytes) => Message::Text(Utf8Bytes::try_from(bytes).map_err(Error::new)?),
        protocol::Message::Binary(bytes) => Message::Binary(bytes),
    })
}

/// The largest payload of a ping or a pong, in bytes (RFC 6455 §5.5).
const MAX_CONTROL: usize = 125;

/// The largest reason of a Close frame, in bytes: the payload less the code.
const MAX_REASON: usize = MAX_CONTROL - size_of::<CloseCode>();

/// A close by the endpoint, with as much of the reason as there is room for.
pub(crate) fn close(code: CloseCode, reason: impl Into<String>) -> Message {
    let mut reason = reason.into();
    while reason.len() > MAX_REASON {
        reason.pop();
    }
    Message::Close(Some(CloseFrame { code, reason: reason.into() }))
}

/// Whether a native socket failed because a message was larger than its `max_message_size`: it has not been closed, as a
/// virtual one has.
pub(crate) fn is_too_large(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(Broken::TooLarge))
}

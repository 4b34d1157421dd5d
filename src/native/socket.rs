//! A socket as the application holds it: a stream of messages, a sink for them, and a handle for the rest.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::{Sink, Stream};
use manysocket_protocol::client::{Failure, ReadyState, SocketClose, check_close};

use super::driver::wake;
use super::link::{Link, SocketState, State};
use super::{Error, Message};

/// A virtual WebSocket: a [`Stream`] of messages and a [`Sink`] for them.
///
/// The stream ends when the server closes the socket. If the socket fails or its link is lost, the stream returns one
/// error before it ends. The sink accepts messages while fewer than 64 KiB wait; before the socket is open it waits.
/// Dropping the socket closes it without a code (the server sees 1005).
///
/// ```no_run
/// use futures_util::{SinkExt, StreamExt};
/// use manysocket::MultiWebSocket;
///
/// # async fn run() -> Result<(), manysocket::Error> {
/// let multi = MultiWebSocket::new("wss://example.com/multiplexer")?;
/// let socket = multi.open("/ws1")?;
/// let handle = socket.handle();
/// let (mut sink, mut stream) = socket.split();
/// sink.send("hello".into()).await?;
/// let first = stream.next().await;
/// handle.close(Some(1000), "done")?;
/// assert!(handle.closed().await.was_clean);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WebSocket {
    handle: Handle,
}

/// Controls a [`WebSocket`], also after it was split. Clones control the same socket.
#[derive(Clone)]
pub struct Handle {
    place: Arc<Place>,
}

/// A socket's place in its link, for as long as somebody holds it.
struct Place {
    link: Arc<Link>,
    id: usize,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("ready_state", &self.ready_state()).finish_non_exhaustive()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        state.abandon(self.id);
        release(&self.link, state);
    }
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        // A handle may live longer; nobody reads or writes any more.
        self.handle.change(|state, id| state.close(id, None, ""));
    }
}

/// Releases the lock, delivers the events to the sockets, and has the driver send.
fn release(link: &Link, mut state: std::sync::MutexGuard<'_, State>) {
    let wakers = state.deliver();
    let wants_transmit = state.client.wants_transmit();
    drop(state);
    wake(wakers);
    if wants_transmit {
        link.driver.wake();
    }
}

impl WebSocket {
    pub(super) fn new(link: Arc<Link>, id: usize) -> Self {
        Self { handle: Handle { place: Arc::new(Place { link, id }) } }
    }

    /// Returns a handle, which controls the socket also after [`StreamExt::split`](futures_util::StreamExt::split).
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until the server has accepted the socket, and returns the subprotocol that it chose (empty: none).
    ///
    /// # Errors
    /// Returns why the socket failed or ended.
    pub async fn opened(&self) -> Result<String, Error> {
        self.handle.opened().await
    }

    /// Returns the subprotocol that the server chose; empty: none, or the socket is not open yet.
    pub fn protocol(&self) -> String {
        self.handle.protocol()
    }

    /// Returns the bytes of messages that this process has not handed to the network; over HTTP, those that the server has not
    /// confirmed. Flushing the socket waits until there are none.
    pub fn buffered_amount(&self) -> u64 {
        self.handle.buffered_amount()
    }

    /// Returns the state of the socket.
    pub fn ready_state(&self) -> ReadyState {
        self.handle.ready_state()
    }

    /// Closes the socket. See [`Handle::close`].
    ///
    /// # Errors
    /// As [`Handle::close`].
    pub fn close(&self, code: Option<u16>, reason: &str) -> Result<(), Error> {
        self.handle.close(code, reason)
    }

    /// Waits until the socket has ended. See [`Handle::closed`].
    pub async fn closed(&self) -> SocketClose {
        self.handle.closed().await
    }
}

impl Handle {
    fn change<T>(&self, change: impl FnOnce(&mut State, usize) -> T) -> T {
        let Place { link, id } = &*self.place;
        let mut state = link.lock();
        let result = change(&mut state, *id);
        release(link, state);
        result
    }

    /// Waits until the server has accepted the socket, and returns the subprotocol that it chose (empty: none).
    ///
    /// # Errors
    /// Returns why the socket failed or ended.
    pub async fn opened(&self) -> Result<String, Error> {
        poll_fn(|cx| {
            self.change(|state, id| {
                let socket = &state.sockets[id];
                if let Some(error) = end_of(socket) {
                    return Poll::Ready(Err(error));
                }
                match &socket.opened {
                    Some(protocol) => Poll::Ready(Ok(protocol.clone())),
                    None => {
                        state.watch(id, cx);
                        Poll::Pending
                    }
                }
            })
        })
        .await
    }

    /// Waits until the socket has ended, and returns how.
    pub async fn closed(&self) -> SocketClose {
        poll_fn(|cx| {
            self.change(|state, id| match &state.sockets[id].ended {
                Some(ended) => Poll::Ready(ended.close.clone()),
                None => {
                    state.watch(id, cx);
                    Poll::Pending
                }
            })
        })
        .await
    }

    /// Returns the subprotocol that the server chose; empty: none, or the socket is not open yet.
    pub fn protocol(&self) -> String {
        self.change(|state, id| state.sockets[id].opened.clone().unwrap_or_default())
    }

    /// Returns the bytes of messages that this process has not handed to the network; over HTTP, those that the server has not
    /// confirmed. Flushing the socket waits until there are none.
    pub fn buffered_amount(&self) -> u64 {
        self.change(State::buffered_amount)
    }

    /// Returns the state of the socket.
    pub fn ready_state(&self) -> ReadyState {
        self.change(|state, id| match &state.sockets[id] {
            SocketState { ended: Some(_), .. } => ReadyState::Closed,
            SocketState { closing: true, .. } => ReadyState::Closing,
            SocketState { opened: Some(_), .. } => ReadyState::Open,
            _ => ReadyState::Connecting,
        })
    }

    /// Closes the socket after all messages sent so far, with a code and a reason. `None` sends no code; with a reason it sends
    /// 1000. The stream returns the messages that had arrived before, and then ends. A socket that is not open yet fails. Later calls
    /// do nothing.
    ///
    /// # Errors
    /// Returns [`Error::CloseCode`] if the code is neither 1000 nor from 3000 to 4999, or the reason is longer than 123
    /// bytes (WHATWG WebSockets, `close()`).
    pub fn close(&self, code: Option<u16>, reason: &str) -> Result<(), Error> {
        let code = check_close(code, reason.len()).map_err(Error::CloseCode)?;
        self.change(|state, id| state.close(id, code, reason));
        Ok(())
    }
}

/// The error that a socket returns to senders and waiters; `None` while it has not ended.
fn end_of(socket: &SocketState) -> Option<Error> {
    let ended = socket.ended.as_ref()?;
    Some(Error::of(&ended.close, ended.failure.as_ref()).unwrap_or(Error::Closed))
}

impl Stream for WebSocket {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.handle.change(|state, id| {
            if let Some(message) = state.take_message(id) {
                return Poll::Ready(Some(Ok(message.into())));
            }
            let Some(ended) = &mut state.sockets[id].ended else {
                state.wait_to_read(id, cx);
                return Poll::Pending;
            };
            if std::mem::replace(&mut ended.reported, true) {
                return Poll::Ready(None);
            }
            // A socket that its own program gave up has nothing to report.
            let failure = ended.failure.as_ref().filter(|failure| **failure != Failure::GivenUp);
            Poll::Ready(
                Error::of(&ended.close, failure).map(Err).filter(|_| ended.failure != Some(Failure::GivenUp)),
            )
        })
    }
}

impl Sink<Message> for WebSocket {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.handle.change(|state, id| {
            let socket = &state.sockets[id];
            if let Some(error) = end_of(socket) {
                return Poll::Ready(Err(error));
            }
            if socket.closing {
                return Poll::Ready(Err(Error::Closed));
            }
            if socket.opened.is_some() && state.has_room(id) {
                return Poll::Ready(Ok(()));
            }
            state.wait_to_write(id, cx);
            Poll::Pending
        })
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.handle.change(|state, id| {
            let socket = &state.sockets[id];
            match (socket.channel, &socket.opened) {
                (Some(channel), Some(_)) if !socket.closing => {
                    state.client.send(channel, message.into()).map_err(|_| Error::Closed)
                }
                _ => Err(end_of(socket).unwrap_or(Error::Closed)),
            }
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.handle.change(|state, id| {
            if let Some(ended) = &state.sockets[id].ended {
                return Poll::Ready(match Error::of(&ended.close, ended.failure.as_ref()) {
                    Some(error) => Err(error),
                    None => Ok(()),
                });
            }
            if state.buffered_amount(id) == 0 {
                return Poll::Ready(Ok(()));
            }
            state.wait_to_write(id, cx);
            Poll::Pending
        })
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.handle.change(|state, id| state.close(id, None, ""));
        let ended = self.handle.change(|state, id| match &state.sockets[id].ended {
            Some(_) => Poll::Ready(()),
            None => {
                state.watch(id, cx);
                Poll::Pending
            }
        });
        ready!(ended);
        Poll::Ready(Ok(()))
    }
}

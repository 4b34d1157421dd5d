//! Joins a WebSocket that speaks frames to a page's: messages, closes and losses pass in both directions, pings to the page,
//! and pongs from it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{CloseCode, CloseFrame, Message};
use futures_util::future::{Either, select};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::time::timeout;

use crate::budget::Reservation;
use crate::ws::frame::Broken;
use crate::ws::messages::content;
use crate::ws::socket::WebSocket;

/// The timeout for the other side's answer to a close, as in Chromium; then the page sees 1006.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs until both sides have closed, or one is lost; then drops both, so that the other side sees the loss. `held` returns
/// the memory of the connection, which counts for the link of a virtual socket.
pub(crate) async fn bridge<W>(socket: WebSocket, wire: W, held: fn(&W) -> usize)
where
    W: Stream<Item = Result<Message, Broken>> + Sink<Message, Error = Broken> + Unpin,
{
    let mut wire = Counted { wire, held, reservation: socket.reservation(), arrived: 0, sending: 0 };
    wire.account();
    let (mut to_page, mut from_page) = socket.split();
    let (mut to_wire, mut from_wire) = wire.split();
    let closing = AtomicBool::new(false);
    let ended = {
        // Each direction waits for its own receiver only: together they could wait for each other.
        // The page's browser answers the pings of the other side; each connection answers those of its page.
        let (is_pong, is_ping) = (is_pong as fn(&Message) -> bool, is_ping as fn(&Message) -> bool);
        let up = std::pin::pin!(forward(&mut from_page, &mut to_wire, &closing, is_pong));
        let down = std::pin::pin!(forward(&mut from_wire, &mut to_page, &closing, is_ping));
        match select(up, down).await {
            // A close has passed in one direction: the answer passes in the other. After a loss nothing does.
            Either::Left((Ok(()), down)) => timeout(CLOSE_TIMEOUT, down).await.unwrap_or(Err(None)),
            Either::Left((Err(_), _)) => Err(None),
            Either::Right((down, _)) => down,
        }
    };
    let mut socket = to_page.reunite(from_page).expect("two halves of one");
    match ended {
        Ok(()) => {
            // The socket answers a close when it is used again.
            let _ = to_wire.flush().await;
            // No handler receives the page's messages from before it read the close. If they stayed unread, the end of the
            // connection would be a reset, and could overtake the close.
            let answered = async { while socket.next().await.is_some_and(|next| is_message(&next)) {} };
            let _ = timeout(CLOSE_TIMEOUT, answered).await;
        }
        Err(None) => socket.lose(),
        Err(Some(code)) => {
            // A browser fails a connection whose server breaks RFC 6455, and sends the server a Close (§7.1.7).
            socket.fail();
            let frame = CloseFrame { code, reason: "".into() };
            let _ = to_wire.send(Message::Close(Some(frame))).await;
        }
    }
}

/// A connection that is joined to a socket, and its memory.
struct Counted<W> {
    wire: W,
    held: fn(&W) -> usize,
    /// `None`: a native socket has no link.
    reservation: Option<Reservation>,
    /// The cost of the message that waits for the page to take it.
    arrived: usize,
    /// The bytes of the message that is being written. Its pipe counts it until it reads the next one.
    sending: usize,
}

impl<W> Counted<W> {
    fn account(&mut self) {
        if let Some(reservation) = &mut self.reservation {
            reservation.set((self.held)(&self.wire).saturating_sub(self.sending) + self.arrived);
        }
    }
}

impl<W: Stream<Item = Result<Message, Broken>> + Unpin> Stream for Counted<W> {
    type Item = Result<Message, Broken>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.wire.poll_next_unpin(cx);
        self.arrived = match &polled {
            Poll::Ready(Some(Ok(message))) => Reservation::cost(content(message)),
            _ => 0,
        };
        self.account();
        polled
    }
}

impl<W: Sink<Message, Error = Broken> + Unpin> Sink<Message> for Counted<W> {
    type Error = Broken;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.wire.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Broken> {
        self.sending = content(&message);
        let sent = self.wire.start_send_unpin(message);
        self.account();
        sent
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let flushed = self.wire.poll_flush_unpin(cx);
        if flushed.is_ready() {
            self.sending = 0;
        }
        self.account();
        flushed
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.wire.poll_close_unpin(cx)
    }
}

/// Whether more can follow.
fn is_message(next: &Result<Message, axum::Error>) -> bool {
    matches!(next, Ok(message) if !matches!(message, Message::Close(_)))
}

fn is_pong(message: &Message) -> bool {
    matches!(message, Message::Pong(_))
}

fn is_ping(message: &Message) -> bool {
    matches!(message, Message::Ping(_))
}

/// Forwards messages and the control frames that `passes` selects, up to a close, whose answer is left to the other direction:
/// the virtual socket would answer it if it were read again. An error if a side is lost, with the code to close with if
/// it broke the protocol. Both sides count received messages, so that a flood of pongs, of which none is forwarded, ends a
/// turn like messages.
async fn forward<From, To, E>(
    from: &mut From,
    to: &mut To,
    closing: &AtomicBool,
    passes: impl Fn(&Message) -> bool,
) -> Result<(), Option<CloseCode>>
where
    From: Stream<Item = Result<Message, E>> + Unpin,
    To: Sink<Message> + Unpin,
    E: Fault,
{
    loop {
        let message = from.next().await.ok_or(None)?.map_err(|error| error.code())?;
        match message {
            Message::Text(_) | Message::Binary(_) => {
                // To a native socket that has closed nothing can be sent; the close is still to come.
                if to.send(message).await.is_err() && !closing.load(Ordering::Relaxed) {
                    return Err(None);
                }
            }
            Message::Close(_) => {
                closing.store(true, Ordering::Relaxed);
                if to.send(message).await.is_err() {
                    // It is closing already: its own answer goes out now.
                    to.flush().await.map_err(|_| None)?;
                }
                return Ok(());
            }
            Message::Ping(_) | Message::Pong(_) => {
                // Once the receiver has closed, nobody waits for it.
                if passes(&message) {
                    let _ = to.send(message).await;
                }
            }
        }
    }
}

/// Whether an error of a connection is the peer's fault.
trait Fault {
    /// The code to close with, if the peer broke the protocol (RFC 6455 §7.4.1).
    fn code(&self) -> Option<CloseCode>;
}

impl Fault for Broken {
    fn code(&self) -> Option<CloseCode> {
        self.code()
    }
}

impl Fault for axum::Error {
    fn code(&self) -> Option<CloseCode> {
        None
    }
}

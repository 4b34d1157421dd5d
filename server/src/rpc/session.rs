//! The calls of one socket: it runs them one after the other, and reads meanwhile what the page has to say about them.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::ws::{Message, Utf8Bytes, close_code};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::budget::{Reservation, compact};
use crate::turns::Turns;
use crate::ws::socket::{WebSocket, close, is_too_large};

use super::arguments::{Peer, SMALL};
use super::call::{cancellation, refuse};
use super::callee::Callee;
use super::caller::Caller;
use super::control::{Cancel, Control};

/// The cost of a message, compared with copying bytes: some 2 µs, and 50 ns for each byte of a call at most.
const MESSAGE: usize = 512;
const READING: usize = 8;

/// The bytes of calls that wait for the one under way. While there are more, the socket is not read, and the page's
/// messages wait where its window ends.
const MAX_WAITING: usize = 64 * 1024;

/// One socket, and its calls.
pub(super) struct Session {
    callee: Callee,
    peer: Arc<Peer>,
    caller: Caller,
    path: Arc<str>,
    /// `None` once it has ended.
    socket: Option<WebSocket>,
    /// What has been sent is not flushed yet.
    is_unflushed: bool,
    /// The number of the next message that is a call.
    next: u64,
    /// Calls that wait for the one under way, in order.
    waiting: VecDeque<Waiting>,
    /// The memory of `waiting`.
    waiting_bytes: usize,
    running: Option<Running>,
    /// The answer to the last call, until it is sent: it may wait for a page that does not read.
    answer: Option<String>,
    /// The link's memory of `waiting` and `answer`.
    reservation: Option<Reservation>,
    turns: Turns,
}

struct Waiting {
    number: u64,
    call: Call,
}

/// A message that gets an answer.
enum Call {
    Text(Utf8Bytes),
    Binary,
    Cancelled,
}

/// The call under way.
struct Running {
    number: u64,
    cancelled: CancellationToken,
    answer: BoxFuture<'static, String>,
}

/// A reason to go on.
enum Event {
    /// An answer of this many bytes is on its way.
    Sent(usize),
    Answered(String),
    Received(Message),
    /// The socket has ended; the page sent more than a call may have.
    Ended {
        is_too_large: bool,
    },
}

impl Session {
    pub(super) fn new(callee: Callee, peer: Peer, caller: Caller, path: &str, socket: WebSocket) -> Self {
        Self {
            callee,
            reservation: peer.reservation(),
            peer: Arc::new(peer),
            caller,
            path: path.into(),
            socket: Some(socket),
            is_unflushed: false,
            next: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            running: None,
            answer: None,
            turns: Turns::default(),
        }
    }

    /// Answers calls until the socket has ended, and no call is under way.
    pub(super) async fn run(mut self) {
        loop {
            if self.running.is_none() && self.answer.is_none() {
                self.begin_next().await;
            }
            if self.socket.is_none() && self.running.is_none() && self.answer.is_none() {
                return;
            }
            match poll_fn(|cx| self.poll(cx)).await {
                Event::Sent(bytes) => self.turns.spend(bytes).await,
                Event::Answered(answer) => {
                    self.running = None;
                    self.answer = self.socket.is_some().then_some(answer);
                }
                Event::Received(message) => self.receive(message).await,
                Event::Ended { is_too_large } => self.end(is_too_large),
            }
            self.account();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(socket) = &mut self.socket {
            if self.answer.is_some() {
                match socket.poll_ready_unpin(cx) {
                    Poll::Ready(Ok(())) => {
                        let answer = self.answer.take().unwrap_or_default();
                        let bytes = answer.len();
                        self.is_unflushed = true;
                        return Poll::Ready(match socket.start_send_unpin(Message::Text(answer.into())) {
                            Ok(()) => Event::Sent(bytes),
                            Err(_) => Event::Ended { is_too_large: false },
                        });
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Event::Ended { is_too_large: false }),
                    Poll::Pending => {}
                }
            }
            if self.is_unflushed {
                match socket.poll_flush_unpin(cx) {
                    Poll::Ready(Ok(())) => self.is_unflushed = false,
                    Poll::Ready(Err(_)) => return Poll::Ready(Event::Ended { is_too_large: false }),
                    Poll::Pending => {}
                }
            }
        }
        if let Some(running) = &mut self.running
            && let Poll::Ready(answer) = running.answer.poll_unpin(cx)
        {
            return Poll::Ready(Event::Answered(answer));
        }
        if let Some(socket) = &mut self.socket
            && self.waiting_bytes < MAX_WAITING
            && let Poll::Ready(received) = socket.poll_next_unpin(cx)
        {
            return Poll::Ready(match received {
                Some(Ok(message)) => Event::Received(message),
                Some(Err(error)) => Event::Ended { is_too_large: is_too_large(&error) },
                None => Event::Ended { is_too_large: false },
            });
        }
        Poll::Pending
    }

    async fn receive(&mut self, message: Message) {
        let call = match message {
            Message::Text(text) => match Control::read(&text) {
                Some(Control::Cancel(Cancel { cancel })) => {
                    self.cancel(cancel);
                    return self.turns.spend(MESSAGE).await;
                }
                None => Call::Text(text),
            },
            Message::Binary(_) => Call::Binary,
            // The answer to a close goes out while the socket is read to its end.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {
                return self.turns.spend(MESSAGE).await;
            }
        };
        let call = match call {
            // One that has to wait must not keep the buffer that it was read into.
            Call::Text(text) if self.running.is_some() || self.answer.is_some() => {
                Call::Text(Utf8Bytes::try_from(compact(text.as_bytes())).unwrap_or(text))
            }
            call => call,
        };
        self.waiting_bytes += cost(&call);
        self.waiting.push_back(Waiting { number: self.next, call });
        self.next += 1;
    }

    /// Cancels a call that has no answer yet.
    fn cancel(&mut self, number: u64) {
        match &self.running {
            Some(running) if running.number == number => {
                if !self.callee.runs_to_completion {
                    running.cancelled.cancel();
                }
            }
            _ => {
                let place = self.waiting.binary_search_by_key(&number, |waiting| waiting.number);
                if let Some(waiting) = place.ok().and_then(|place| self.waiting.get_mut(place)) {
                    self.waiting_bytes -= cost(&waiting.call);
                    waiting.call = Call::Cancelled;
                    self.waiting_bytes += cost(&waiting.call);
                }
            }
        }
    }

    /// Begins the next call, after others have had their turn.
    async fn begin_next(&mut self) {
        let Some(Waiting { number, call }) = self.waiting.pop_front() else { return };
        self.waiting_bytes -= cost(&call);
        let text = match call {
            Call::Text(text) => text,
            Call::Binary => {
                self.answer = Some(refuse("a call is text, and this message is binary"));
                return;
            }
            Call::Cancelled => {
                self.answer = Some(cancellation());
                return;
            }
        };
        self.turns.spend(MESSAGE + READING * text.len().min(SMALL)).await;
        let cancelled = CancellationToken::new();
        let (callee, peer, caller) = (self.callee.clone(), Arc::clone(&self.peer), self.caller.clone());
        let (path, token) = (Arc::clone(&self.path), cancelled.clone());
        let answer = async move { callee.answer(&peer, &caller, &path, text, &token).await };
        self.running = Some(Running { number, cancelled, answer: answer.boxed() });
    }

    /// Gives up the calls of a page that is gone, unless their function must finish.
    fn end(&mut self, is_too_large: bool) {
        if let Some(mut socket) = self.socket.take()
            && is_too_large
        {
            // The page may not read.
            tokio::spawn(async move { socket.send(close(close_code::SIZE, "the call is too large")).await });
        }
        self.answer = None;
        if !self.callee.runs_to_completion {
            (self.waiting, self.waiting_bytes) = (VecDeque::new(), 0);
            if let Some(running) = &self.running {
                running.cancelled.cancel();
            }
        }
    }

    /// Counts what waits as memory of the link.
    fn account(&mut self) {
        if let Some(reservation) = &mut self.reservation {
            let answer = self.answer.as_ref().map_or(0, |answer| Reservation::cost(answer.len()));
            reservation.set(self.waiting_bytes + answer);
        }
    }
}

/// Returns the memory of a call that waits.
fn cost(call: &Call) -> usize {
    Reservation::cost(match call {
        Call::Text(text) => text.len(),
        Call::Binary | Call::Cancelled => 0,
    })
}

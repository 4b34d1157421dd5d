//! The calls of one socket: it runs them one after the other, or as many at once as the function allows, and the streams that
//! they return beside them. Meanwhile it reads the page's messages about them.

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
use super::call::{Answered, refuse};
use super::callee::Callee;
use super::caller::Caller;
use super::control::{Cancel, Control, Taken};
use super::error::Error;
use super::streams::{MAX_STREAMS, Step, Streams};

/// The cost of a message, compared with copying bytes: some 2 µs, and 50 ns for each byte of a call at most.
const MESSAGE: usize = 512;
const READING: usize = 8;

/// The bytes of calls that wait for those under way. While there are more, the socket is not read, and the page's
/// messages wait where its window ends.
const MAX_WAITING: usize = 64 * 1024;

/// The bytes that are sent before they are flushed, while there is more to send.
const UNFLUSHED: usize = 16 * 1024;

/// One socket, and its calls.
pub(super) struct Session {
    callee: Callee,
    peer: Arc<Peer>,
    caller: Caller,
    path: Arc<str>,
    /// `None` once it has ended.
    socket: Option<WebSocket>,
    /// The bytes that have been sent and not flushed.
    unflushed: usize,
    /// The number of the next message that is a call.
    next: u64,
    /// Calls that wait for those under way, in order.
    waiting: VecDeque<Waiting>,
    /// The memory of `waiting`.
    waiting_bytes: usize,
    /// The calls under way, in order. Answers leave in that order, too.
    running: VecDeque<Running>,
    streams: Streams,
    /// Streams are polled before the calls under way: they take turns.
    are_streams_next: bool,
    /// The answer to the last call, until it is sent: it may wait for a page that does not read.
    answer: Option<String>,
    /// The link's memory of `waiting`, `streams` and answers.
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

/// A call under way.
struct Running {
    number: u64,
    cancelled: CancellationToken,
    state: State,
}

enum State {
    Pending(BoxFuture<'static, Answered>),
    /// Answers to earlier calls go first.
    Done(Answered),
}

/// A reason to go on.
enum Event {
    /// A message of this many bytes is on its way.
    Sent(usize),
    /// The oldest call under way has its answer.
    Answered,
    Streamed(Step),
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
            streams: Streams::new(peer.peer()),
            are_streams_next: false,
            peer: Arc::new(peer),
            caller,
            path: path.into(),
            socket: Some(socket),
            unflushed: 0,
            next: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            running: VecDeque::new(),
            answer: None,
            turns: Turns::default(),
        }
    }

    /// Answers calls until the socket has ended, and no call or stream is under way.
    pub(super) async fn run(mut self) {
        loop {
            while !self.is_busy() && !self.waiting.is_empty() {
                self.begin_next().await;
            }
            if self.socket.is_none()
                && self.running.is_empty()
                && self.answer.is_none()
                && self.streams.are_at_rest()
            {
                return;
            }
            match poll_fn(|cx| self.poll(cx)).await {
                Event::Sent(bytes) => self.turns.spend(bytes).await,
                Event::Answered => self.answer(),
                Event::Streamed(step) if self.socket.is_some() => {
                    let bytes = self.streams.queue(step);
                    self.turns.spend(MESSAGE + bytes).await;
                }
                Event::Streamed(step) => drop(step),
                Event::Received(message) => self.receive(message).await,
                Event::Ended { is_too_large } => self.end(is_too_large),
            }
            self.account();
        }
    }

    /// Returns whether the next call has to wait.
    fn is_busy(&self) -> bool {
        self.running.len() + usize::from(self.answer.is_some()) >= self.callee.max_concurrent
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(event) = self.poll_send(cx) {
            return Poll::Ready(event);
        }
        self.are_streams_next = !self.are_streams_next;
        for is_stream in [self.are_streams_next, !self.are_streams_next] {
            if is_stream {
                if let Poll::Ready(step) = self.streams.poll_step(cx) {
                    return Poll::Ready(Event::Streamed(step));
                }
            } else if self.poll_running(cx) && self.answer.is_none() {
                return Poll::Ready(Event::Answered);
            }
        }
        let Some(socket) = &mut self.socket else { return Poll::Pending };
        if self.waiting_bytes < MAX_WAITING
            && let Poll::Ready(received) = socket.poll_next_unpin(cx)
        {
            return Poll::Ready(match received {
                Some(Ok(message)) => Event::Received(message),
                Some(Err(error)) => Event::Ended { is_too_large: is_too_large(&error) },
                None => Event::Ended { is_too_large: false },
            });
        }
        self.poll_flush(cx)
    }

    /// Polls the calls under way. Returns whether the oldest has its answer.
    fn poll_running(&mut self, cx: &mut Context<'_>) -> bool {
        for running in &mut self.running {
            if let State::Pending(answer) = &mut running.state
                && let Poll::Ready(answered) = answer.poll_unpin(cx)
            {
                running.state = State::Done(answered);
            }
        }
        matches!(self.running.front(), Some(Running { state: State::Done(_), .. }))
    }

    /// Sends the next message; answers go before items of streams.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.socket.is_none() || self.answer.is_none() && !self.streams.has_outgoing() {
            return Poll::Pending;
        }
        if self.unflushed >= UNFLUSHED
            && let Poll::Ready(event) = self.poll_flush(cx)
        {
            return Poll::Ready(event);
        }
        let Some(socket) = &mut self.socket else { return Poll::Pending };
        match socket.poll_ready_unpin(cx) {
            Poll::Ready(Ok(())) => {
                let message = self.answer.take().or_else(|| self.streams.next_outgoing()).unwrap_or_default();
                let bytes = message.len();
                self.unflushed += bytes.max(1);
                Poll::Ready(match socket.start_send_unpin(Message::Text(message.into())) {
                    Ok(()) => Event::Sent(bytes),
                    Err(_) => Event::Ended { is_too_large: false },
                })
            }
            Poll::Ready(Err(_)) => Poll::Ready(Event::Ended { is_too_large: false }),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Flushes the socket; ready only if it has ended.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(socket) = &mut self.socket
            && self.unflushed > 0
        {
            match socket.poll_flush_unpin(cx) {
                Poll::Ready(Ok(())) => self.unflushed = 0,
                Poll::Ready(Err(_)) => return Poll::Ready(Event::Ended { is_too_large: false }),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    /// Takes the answer of the oldest call under way.
    fn answer(&mut self) {
        let Some(Running { number, cancelled, state: State::Done(answered) }) = self.running.pop_front()
        else {
            return;
        };
        if self.socket.is_none() {
            return;
        }
        self.answer = Some(match answered {
            Answered::Text(answer) => answer,
            Answered::Stream(_) if cancelled.is_cancelled() => Error::cancelled().into_answer(),
            Answered::Stream(source) => {
                self.streams.open(number, source);
                format!("{{\"stream\":{number}}}")
            }
        });
    }

    async fn receive(&mut self, message: Message) {
        let call = match message {
            Message::Text(text) => match Control::read(&text) {
                Some(Control::Cancel(Cancel { cancel })) => {
                    self.cancel(cancel);
                    return self.turns.spend(MESSAGE).await;
                }
                Some(Control::Taken(Taken { stream, taken })) => {
                    self.streams.taken(stream, taken);
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
            Call::Text(text) if self.is_busy() || !self.waiting.is_empty() => {
                Call::Text(Utf8Bytes::try_from(compact(text.as_bytes())).unwrap_or(text))
            }
            call => call,
        };
        self.waiting_bytes += cost(&call);
        self.waiting.push_back(Waiting { number: self.next, call });
        self.next += 1;
    }

    /// Cancels a call that has no answer yet, or a stream that has not ended.
    fn cancel(&mut self, number: u64) {
        if let Some(running) = self.running.iter().find(|running| running.number == number) {
            if !self.callee.runs_to_completion {
                running.cancelled.cancel();
            }
            return;
        }
        let place = self.waiting.binary_search_by_key(&number, |waiting| waiting.number);
        if let Some(waiting) = place.ok().and_then(|place| self.waiting.get_mut(place)) {
            self.waiting_bytes -= cost(&waiting.call);
            waiting.call = Call::Cancelled;
            self.waiting_bytes += cost(&waiting.call);
        } else {
            self.streams.cancel(number);
        }
    }

    /// Begins the next call, after others have had their turn.
    async fn begin_next(&mut self) {
        let Some(Waiting { number, call }) = self.waiting.pop_front() else { return };
        self.waiting_bytes -= cost(&call);
        let cancelled = CancellationToken::new();
        let refused = match &call {
            Call::Binary => Some(refuse("a call is text, and this message is binary")),
            Call::Cancelled => Some(Error::cancelled().into_answer()),
            // Each call under way may become one.
            Call::Text(_) if self.streams.count() + self.running.len() >= MAX_STREAMS => {
                let why =
                    format!("{MAX_STREAMS} streams of this socket have not ended: end one, or connect again");
                Some(Error::new("busy", why).into_answer())
            }
            Call::Text(_) => None,
        };
        let state = match (refused, call) {
            (None, Call::Text(text)) => {
                self.turns.spend(MESSAGE + READING * text.len().min(SMALL)).await;
                let (callee, peer, caller) =
                    (self.callee.clone(), Arc::clone(&self.peer), self.caller.clone());
                let (path, token) = (Arc::clone(&self.path), cancelled.clone());
                let answer = async move { callee.answer(&peer, &caller, &path, text, &token).await };
                State::Pending(answer.boxed())
            }
            (refused, _) => State::Done(Answered::Text(refused.unwrap_or_default())),
        };
        self.running.push_back(Running { number, cancelled, state });
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
        self.streams.end();
        if !self.callee.runs_to_completion {
            (self.waiting, self.waiting_bytes) = (VecDeque::new(), 0);
            self.running.iter().for_each(|running| running.cancelled.cancel());
        }
    }

    /// Counts waiting messages and answers as memory of the link.
    fn account(&mut self) {
        if let Some(reservation) = &mut self.reservation {
            let done = self.running.iter().filter_map(|running| match &running.state {
                State::Done(Answered::Text(answer)) => Some(answer),
                _ => None,
            });
            let answers = done.chain(&self.answer).map(|answer| Reservation::cost(answer.len()));
            reservation.set(self.waiting_bytes + self.streams.cost() + answers.sum::<usize>());
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

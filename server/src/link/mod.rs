//! The task of one link: it joins the physical WebSocket, the protocol's endpoint and the handlers' pipes.
//!
//! It never waits for one of them alone. In particular it reads while it cannot write: two ends that both wait for
//! the other to read would wait for ever. What an open takes is in [`opens`].

pub(crate) mod dispatch;
pub(crate) mod drain;
mod limits_watch;
mod opens;
pub(crate) mod registry;

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{self, CloseFrame, Message as WsMessage, Utf8Bytes};
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::{Channel, Close, Endpoint, Event, Millis, Physical, Refusals, Violation};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, Sleep};
use tracing::{debug, warn};

use crate::access::scope::Jail;
use crate::budget::{Budget, Reservation};
use crate::limits::Limits;
use crate::link::dispatch::{Answer, Dispatcher};
use crate::link::drain::{Cause, Departure};
use crate::link::limits_watch::{LimitExceeded, LinkLimits};
use crate::link::registry::Registered;
use crate::metrics::stats::{Counted, Stats, Traffic};
use crate::net::fair_read::Arriving;
use crate::ws::pipe::{Incoming, Pipe, Signals, length};
use crate::ws::socket::is_too_large;

/// How many physical messages are read before what they caused is written: enough to gather answers into batches,
/// little enough that a flood from one page does not keep its answers back.
const READS: usize = 32;

/// How often a link reads and writes before other tasks have their turn. tokio's own measure counts reads of the
/// connection, and one of those brings thousands of the smallest messages: beside four links of these, another's echo took
/// 76 ms at the 99th percentile, with this 8.
const ROUNDS: usize = 8;

/// How long the peer has to answer the physical Close frame; a peer that broke the protocol may never.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A link that ends in the middle of a physical message of which more has come than this is not waited for: an answer can only
/// follow the rest, and what is there of it takes memory. Twice what is read at once.
const KEPT: usize = 64 * 1024;

/// A channel, as far as the handlers' side is concerned.
enum Entry {
    /// Others are being asked first.
    Waiting { target: String, protocols: String, _share: Reservation },
    /// The application is being asked.
    Opening(AbortHandle),
    /// A handler has it, or has left something to be sent. `woken`: the round in which the handler last was.
    Open { pipe: Arc<Pipe>, closed_by_page: bool, closed_by_us: bool, woken: u64 },
}

/// Why a link ended.
enum Ended {
    /// The physical connection is gone.
    Lost,
    /// The client closed it.
    Closed,
    /// The client broke the protocol, or has been silent for too long.
    Violation(Violation),
    /// The client went beyond a limit of the server's.
    Limit(LimitExceeded),
    /// The server is going away or the application has ended the link, and all channels are closed or out of time.
    Departed(CloseFrame),
}

/// The state of a link's task.
pub(crate) struct Link {
    pub(crate) socket: ws::WebSocket,
    /// Of the socket's connection, where [`serve`](crate::net::serve()) has accepted it.
    pub(crate) arriving: Option<Arriving>,
    /// The largest physical message.
    pub(crate) max_size: usize,
    pub(crate) endpoint: Endpoint,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) jail: Jail,
    /// The multiplexer's own path.
    pub(crate) path: Arc<str>,
    pub(crate) limits: Limits,
    pub(crate) stats: Stats,
    pub(crate) _counted: Counted,
    pub(crate) departure: Departure,
    pub(crate) _registered: Registered,
    pub(crate) started: Instant,
}

impl Link {
    /// Runs the link to its end.
    pub(crate) async fn run(self, query: Option<String>) {
        debug!("link up");
        let budget = Arc::new(self.stats.budget());
        let mut task = Task {
            timer: Box::pin(tokio::time::sleep_until(self.started)),
            entries: HashMap::new(),
            opens: JoinSet::new(),
            waiting: VecDeque::new(),
            spending: LinkLimits::new(self.limits, self.stats.clone(), Arc::clone(&budget)),
            budget,
            signals: Arc::default(),
            needs_flush: false,
            turns: Turns { round: 1, ..Turns::default() },
            received: Traffic::default(),
            sent: Traffic::default(),
            link: self,
        };
        let begun = match query {
            Some(query) => task.link.endpoint.receive_query(task.now(), &query),
            None => Ok(()),
        };
        let ended = match begun {
            Ok(()) => std::future::poll_fn(|cx| task.poll_counted(cx)).await,
            Err(violation) => Ended::Violation(violation),
        };
        task.lose_all();
        let stats = &task.link.stats;
        let (code, reason) = match &ended {
            Ended::Lost => (1006, "the connection was lost"),
            Ended::Closed => (1000, "the client closed the link"),
            Ended::Violation(violation) => (violation.code(), violation.reason()),
            Ended::Limit(crossed) => (crossed.code, crossed.reason),
            Ended::Departed(CloseFrame { code: 1001, .. }) => (1001, "the server is shutting down"),
            Ended::Departed(close) => (close.code, "the application ended the link"),
        };
        stats.link_closed(code, reason);
        let frame = match ended {
            Ended::Lost => return debug!("link lost"),
            Ended::Closed => None,
            Ended::Violation(violation) => {
                let limit = violation.limit();
                warn!(limit, "link closed: {violation}");
                if let Some(limit) = limit {
                    stats.limit_crossed(limit);
                }
                Some(CloseFrame { code: violation.code(), reason: violation.reason().into() })
            }
            Ended::Limit(LimitExceeded { limit, .. }) => {
                warn!(code, limit, "link closed: {reason}");
                stats.limit_crossed(limit);
                Some(CloseFrame { code, reason: reason.into() })
            }
            Ended::Departed(close) => {
                debug!(code, "the link departs: {}", close.reason);
                Some(close)
            }
        };
        let closing = async {
            if let Some(frame) = frame {
                task.link.socket.send(WsMessage::Close(Some(frame))).await?;
            }
            if task.arriving() > KEPT {
                return Ok(());
            }
            // The closing handshake to its end (RFC 6455 §7.1.1): an answer, ours or the client's, is on its way, and
            // would be lost with a connection that ends at once.
            while let Some(Ok(_)) = task.link.socket.next().await {}
            Ok::<(), axum::Error>(())
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
        debug!("link closed");
    }
}

struct Task {
    link: Link,
    entries: HashMap<Channel, Entry>,
    opens: JoinSet<(Channel, Answer)>,
    /// Channels whose entries may be waiting, oldest first.
    waiting: VecDeque<Channel>,
    budget: Arc<Budget>,
    spending: LinkLimits,
    signals: Arc<Signals>,
    timer: Pin<Box<Sleep>>,
    needs_flush: bool,
    turns: Turns,
    /// What has not been added to the counts yet.
    received: Traffic,
    sent: Traffic,
}

/// Who may have something to add before the next write.
#[derive(Default)]
struct Turns {
    /// Grows each time that all have had their turn.
    round: u64,
    /// Handlers woken in this round that have not answered.
    awaited: usize,
    /// A handler has sent something of its own accord: others may, too.
    unasked: bool,
    /// All have had their turn since something last came in.
    had: bool,
}

impl Task {
    fn now(&self) -> Millis {
        Millis::try_from(self.link.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Does all that can be done now, and counts it; ready once the link has ended.
    fn poll_counted(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let polled = self.poll(cx);
        self.link.stats.exchanged(&mut self.received, &mut self.sent);
        let Refusals { too_many, too_long } = self.link.endpoint.take_refusals();
        for (count, status, limit) in [(too_many, 503, "max_channels"), (too_long, 431, "max_open")] {
            if count > 0 {
                warn!(count, status, limit, "opens refused");
            }
            for _ in 0..count {
                self.link.stats.channel_refused(status);
                self.link.stats.limit_crossed(limit);
            }
        }
        polled
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        for _ in 0..ROUNDS {
            let mut progress = match self.poll_physical(cx) {
                Ok(progress) => progress,
                Err(ended) => return Poll::Ready(ended),
            };
            progress |= self.poll_opens(cx);
            for channel in self.signals.take(cx) {
                self.pull(channel);
                progress = true;
            }
            if let Err(ended) = self.check_memory() {
                return Poll::Ready(ended);
            }
            if let Err(violation) = self.poll_timer(cx) {
                return Poll::Ready(Ended::Violation(violation));
            }
            if let Some(close) = self.poll_departure(cx) {
                return Poll::Ready(Ended::Departed(close));
            }
            if progress && self.others_may_add() {
                // Handlers that have just been woken answer before anything is written: one batch in place of one
                // physical message each (200 opens: 4 ms in place of 110).
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.turns.had = false;
            match self.poll_write(cx) {
                Ok(true) => {
                    self.spending.written();
                    progress = true;
                }
                Ok(false) => {}
                Err(ended) => return Poll::Ready(ended),
            }
            if !progress {
                return self.poll_deadlines(cx);
            }
        }
        cx.waker().wake_by_ref();
        self.poll_deadlines(cx)
    }

    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let idle = self.link.endpoint.channels() == 0;
        let late = self.spending.poll_deadlines(self.needs_flush, idle, cx);
        late.map_or(Poll::Pending, |crossed| Poll::Ready(Ended::Limit(crossed)))
    }

    /// Whether to let other tasks run before what there is to write is written. Not for a lone message's answer: it
    /// would wake another thread to look for work (30 µs of a ping's 200).
    fn others_may_add(&mut self) -> bool {
        let Turns { round, awaited, unasked, had } = self.turns;
        if had || !self.link.endpoint.wants_transmit() || (awaited == 0 && !unasked && self.opens.is_empty())
        {
            return false;
        }
        self.turns = Turns { round: round + 1, awaited: 0, unasked: false, had: true };
        true
    }

    fn check_memory(&mut self) -> Result<(), Ended> {
        let unfinished = self.link.endpoint.unfinished() + self.arriving();
        self.spending.check_memory(unfinished).map_err(Ended::Limit)
    }

    /// Bytes of a physical message that is not complete; control frames may have been among them, so no more than one may have.
    fn arriving(&self) -> usize {
        self.link.arriving.as_ref().map_or(0, Arriving::unfinished).min(self.link.max_size)
    }

    // ---- the physical connection ----

    fn poll_physical(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let mut progress = self.handle_events();
        for _ in 0..READS {
            let message = match self.link.socket.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(WsMessage::Text(text)))) => Physical::Text(text.into()),
                Poll::Ready(Some(Ok(WsMessage::Binary(bytes)))) => Physical::Binary(bytes),
                Poll::Ready(Some(Ok(WsMessage::Ping(_) | WsMessage::Pong(_)))) => {
                    // Nothing for the endpoint, but there may be more behind it, and nobody else looks for that.
                    progress = true;
                    continue;
                }
                Poll::Ready(Some(Ok(WsMessage::Close(_)))) => return Err(Ended::Closed),
                Poll::Ready(None) => return Err(Ended::Lost),
                Poll::Ready(Some(Err(error))) if is_too_large(&error) => {
                    return Err(Ended::Limit(LimitExceeded::PHYSICAL_MESSAGE));
                }
                Poll::Ready(Some(Err(error))) => {
                    // What every page does that is left. A flood of it must not become one of log lines.
                    debug!("physical connection failed: {error}");
                    return Err(Ended::Lost);
                }
                Poll::Pending => break,
            };
            progress = true;
            if let Some(arriving) = &mut self.link.arriving {
                arriving.complete();
            }
            let now = self.now();
            let received = self.link.endpoint.receive(now, message);
            self.handle_events();
            received.map_err(Ended::Violation)?;
            self.check_memory()?;
        }
        Ok(progress)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let mut progress = false;
        loop {
            // Ready while the write buffer has room; not while the peer does not read.
            match self.link.socket.poll_ready_unpin(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Err(Ended::Lost),
                Poll::Pending => return Ok(progress),
            }
            let Some(message) = self.link.endpoint.poll_transmit() else { break };
            let message = match message {
                Physical::Binary(bytes) => WsMessage::Binary(bytes),
                Physical::Text(bytes) => match Utf8Bytes::try_from(bytes) {
                    Ok(text) => WsMessage::Text(text),
                    Err(_) => unreachable!("an endpoint makes texts of texts"),
                },
            };
            self.link.socket.start_send_unpin(message).map_err(|_| Ended::Lost)?;
            self.needs_flush = true;
            progress = true;
        }
        progress |= self.handle_events();
        if self.needs_flush && !progress {
            // Only when nothing more is to be added: one write to the kernel carries all of it.
            match self.link.socket.poll_flush_unpin(cx) {
                Poll::Ready(Ok(())) => self.needs_flush = false,
                Poll::Ready(Err(_)) => return Err(Ended::Lost),
                Poll::Pending => {}
            }
        }
        Ok(progress)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Result<(), Violation> {
        while let Some(at) = self.link.endpoint.poll_timeout() {
            let at = self.link.started + Duration::from_millis(at);
            if self.timer.deadline() != at {
                self.timer.as_mut().reset(at);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                break;
            }
            let now = self.now();
            self.link.endpoint.handle_timeout(now)?;
        }
        Ok(())
    }

    /// What to close the link with, once it has to end because the server does, or the application says so.
    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Option<CloseFrame> {
        if let Some(cause) = self.link.departure.poll_begin(cx) {
            for entry in self.entries.values() {
                if let Entry::Open { pipe, .. } = entry {
                    self.see_off(pipe);
                    if cause == Cause::Ended {
                        pipe.push(Incoming::Lost);
                    }
                }
            }
        }
        let close = self.link.departure.close()?.clone();
        let is_done = self.link.endpoint.channels() == 0 && !self.needs_flush;
        (is_done || self.link.departure.is_out_of_time(cx)).then_some(close)
    }

    /// Closes a channel if the link is leaving.
    fn see_off(&self, pipe: &Pipe) {
        if let Some(CloseFrame { code, reason }) = self.link.departure.close() {
            pipe.close(Close { code: Some(*code), reason: reason.to_string() });
        }
    }

    // ---- the protocol's events ----

    fn handle_events(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.link.endpoint.poll_event() {
            any = true;
            match event {
                Event::Open { channel, target, protocols } => self.open(channel, target, protocols),
                Event::Message { channel, message } => {
                    self.received.add(length(&message));
                    self.push(channel, Incoming::Message(message));
                }
                Event::Closed { channel, close } => self.closed_by_page(channel, close),
                Event::Oversize { channel } => {
                    let limit = "max_message";
                    warn!(channel, limit, "channel closed: a message larger than any may be");
                    self.link.stats.limit_crossed(limit);
                    self.push(channel, Incoming::Oversize);
                    self.entries.remove(&channel);
                }
                Event::Drained { channel } => self.pull(channel),
                // Only a client sees these.
                Event::Accepted { .. } | Event::Refused { .. } => {}
            }
        }
        any
    }

    fn push(&mut self, channel: Channel, incoming: Incoming) {
        if let Some(Entry::Open { pipe, woken, .. }) = self.entries.get_mut(&channel) {
            pipe.push(incoming);
            if *woken != self.turns.round {
                *woken = self.turns.round;
                self.turns.awaited += 1;
            }
        }
    }

    fn closed_by_page(&mut self, channel: Channel, close: Close) {
        match self.entries.get_mut(&channel) {
            Some(Entry::Waiting { .. } | Entry::Opening(_)) => self.give_up(channel),
            Some(Entry::Open { pipe, closed_by_page, closed_by_us, .. }) => {
                *closed_by_page = true;
                pipe.push(if close.code == Some(1006) { Incoming::Lost } else { Incoming::Close(close) });
                if *closed_by_us {
                    self.entries.remove(&channel);
                } else {
                    // What the pipe had to send is gone; a close that waited behind it need not any more.
                    self.pull(channel);
                }
            }
            None => {}
        }
    }

    // ---- the handlers' pipes ----

    /// Passes on what a handler has read and sent.
    fn pull(&mut self, channel: Channel) {
        let Some(Entry::Open { pipe, closed_by_page, closed_by_us, woken }) = self.entries.get_mut(&channel)
        else {
            return;
        };
        let outgoing = pipe.take(self.link.endpoint.queued(channel) == 0);
        if *woken == self.turns.round {
            *woken = 0;
            self.turns.awaited -= 1;
        } else {
            // Not by room alone, which is there again after each answer: the next one would wait for nobody.
            self.turns.unasked |= !outgoing.messages.is_empty() || outgoing.close.is_some();
        }
        let (messages, units) = outgoing.consumed;
        if messages > 0 {
            self.link.endpoint.consumed(channel, messages, units);
        }
        for message in outgoing.messages {
            self.sent.add(length(&message));
            self.link.endpoint.send(channel, message);
        }
        if let Some(close) = outgoing.close {
            *closed_by_us = true;
            self.link.endpoint.close(channel, close.code, &close.reason);
            if *closed_by_page {
                self.entries.remove(&channel);
            }
        }
    }

    /// Tells all handlers that the link has ended.
    fn lose_all(&mut self) {
        for (_, entry) in self.entries.drain() {
            match entry {
                Entry::Open { pipe, closed_by_page: false, .. } => pipe.push(Incoming::Lost),
                Entry::Open { .. } | Entry::Waiting { .. } => {}
                Entry::Opening(handle) => handle.abort(),
            }
        }
    }
}

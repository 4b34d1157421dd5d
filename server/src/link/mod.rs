//! Runs the task of one link, which joins the physical WebSocket, the protocol's endpoint and the handlers' pipes.
//!
//! The task never waits for only one of them. In particular it reads while it cannot write: if both ends waited for
//! the other to read, neither would proceed. [`opens`] handles opens.

mod carrier;
pub(crate) mod dispatch;
pub(crate) mod drain;
mod exchange;
mod flush;
pub(crate) mod head;
mod limits_watch;
mod opens;
mod pings;
pub(crate) mod registry;
mod reopens;
pub(crate) mod resumptions;
pub(crate) mod tickets;
mod turn;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::CloseFrame;
use axum::http::request::Parts;
use manysocket_protocol::{
    Channel, Close, Endpoint, Event, FAILED, Millis, Physical, Refusals, Side, Violation,
};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet, yield_now};
use tokio::time::{Instant, Sleep};
use tracing::{debug, warn};

use crate::access::scope::Scope;
use crate::budget::{Budget, Reservation, TLS, TLS_OUTPUT};
use crate::limits::Limits;
use crate::link::dispatch::{Dispatcher, OpenAnswer};
use crate::link::drain::Departure;
use crate::link::flush::{FlushScheduler, Woken};
use crate::link::limits_watch::{LimitExceeded, LinkLimits};
use crate::link::pings::Pings;
use crate::link::registry::Registered;
use crate::link::reopens::Reopens;
use crate::link::resumptions::{Parked, Place, ResumeRules, Socket};
use crate::link::tickets::LinkTickets;
use crate::link::turn::{OPEN, Turn, WAKE};
use crate::metrics::stats::{Counted, Stats, Traffic};
use crate::turns::{end_turn, poll_counted};
use crate::ws::frame::{Broken, opcode};
use crate::ws::linger::linger;
use crate::ws::pipe::{Incoming, Pipe, Signals, content, weight};

/// The number of read and write rounds before the task yields. tokio's own budget counts reads of the connection, and
/// one read can bring thousands of tiny messages. Beside four links with such traffic, the echo of another link took
/// 76 ms at the 99th percentile without this limit and 8 ms with it.
const ROUNDS: usize = 8;

/// The memory of an idle link: its task, its tables, its place in the registry, and its connection. Each of 500 idle
/// links takes 8 to 9 KiB.
const IDLE: usize = 8 * 1024;

/// The timeout for the peer's answer to the physical Close frame; a peer that broke the protocol may never answer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// If a link ends partway through a physical message larger than this, it discards further input in place of the closing
/// handshake: the peer's Close can only arrive after the rest, and the buffered part costs memory. Twice the size of one read.
const KEPT: usize = 64 * 1024;

/// The memory of an open while the application handles it: its request, its task, and hyper's upgrade, 10 KiB. Through
/// a gateway it is 40 KiB, with the connection to the upstream.
const OPENING: usize = 32 * 1024;

/// The state of a channel on the handlers' side.
enum ChannelState {
    /// The open waits for earlier opens.
    Waiting { place: u64, asked: Asked, _share: Reservation },
    /// The application is handling the open.
    Opening { handle: AbortHandle, path: Arc<str> },
    /// A handler holds the channel, or has left data to send.
    Open { pipe: Arc<Pipe>, path: Arc<str>, closed_by: Option<Side>, woken: Woken },
}

/// The request of an open.
struct Asked {
    target: String,
    protocols: String,
    headers: String,
}

/// How the first batch of a link has arrived.
pub(crate) enum First {
    /// The query of the handshake may hold it. If it does not, it is the first message.
    Query(String),
    Message(Physical),
}

/// Why a link ended.
enum Ended {
    /// The physical connection is gone.
    Lost,
    /// The client closed it, because its page goes away or has no sockets.
    Left,
    /// The client closed it, because something is wrong.
    Closed,
    /// The client broke the protocol, or was silent for too long.
    Violation(Violation),
    /// The client broke RFC 6455.
    Broken(Broken),
    /// The client exceeded one of the server's limits.
    Limit(LimitExceeded),
    /// The server shuts down or the application has ended the link, and all channels are closed or the drain time is
    /// over.
    Departed(CloseFrame),
}

/// The state of a link's task.
pub(crate) struct Link {
    /// The connection that carries the link; `None` while the link waits for another one.
    pub(crate) socket: Option<Socket>,
    /// The bytes of the connection's handshake, which the link keeps.
    pub(crate) head: usize,
    /// The server ends the TLS of the connection.
    pub(crate) has_tls: bool,
    pub(crate) handshake: Arc<Parts>,
    /// Where connections that resume the link arrive.
    pub(crate) place: Place,
    pub(crate) resume_rules: ResumeRules,
    pub(crate) endpoint: Endpoint,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) scope: Scope,
    /// The multiplexer's own path.
    pub(crate) path: Arc<str>,
    pub(crate) limits: Limits,
    /// The largest message of a channel whose handler sets no limit, in units.
    pub(crate) max_message: u32,
    pub(crate) stats: Stats,
    pub(crate) _counted: Counted,
    pub(crate) departure: Departure,
    pub(crate) registered: Registered,
    pub(crate) tickets: LinkTickets,
    pub(crate) started: Instant,
}

impl Link {
    /// Runs the link to its end.
    pub(crate) async fn run(self, first: First) {
        debug!("link up");
        let budget = self.stats.budget();
        let mut task = Task {
            timer: Box::pin(tokio::time::sleep_until(self.started)),
            channels: HashMap::new(),
            opens: JoinSet::new(),
            waiting: BTreeMap::new(),
            opened: 0,
            due_pipes: VecDeque::new(),
            leaving: Vec::new(),
            spending: LinkLimits::new(self.limits, self.max_message, self.stats.clone(), Arc::clone(&budget)),
            budget,
            signals: Arc::default(),
            pings: Pings::default(),
            reopens: Reopens::default(),
            heard: 0,
            needs_flush: false,
            parked: None,
            has_parked: watch::Sender::new(false),
            is_away: false,
            flush: FlushScheduler::new(),
            received: Traffic::default(),
            sent: Traffic::default(),
            link: self,
        };
        let now = task.now();
        let begun = match first {
            First::Query(query) => task.link.endpoint.receive_query(now, &query),
            First::Message(message) => task.link.endpoint.start_receive(now, message),
        };
        if task.link.place.has_nonce() {
            task.link.endpoint.expect_second_handshake();
        }
        task.link.place.set_tokens(task.link.endpoint.tokens());
        task.count_connection();
        let ended = match begun {
            Ok(()) => poll_fn(|cx| task.poll_counted(cx)).await,
            Err(violation) => Ended::Violation(violation),
        };
        task.link.place.close();
        task.spending.end();
        task.end_all(matches!(ended, Ended::Left)).await;
        let stats = &task.link.stats;
        let (code, reason) = match &ended {
            Ended::Lost => (1006, "the connection was lost"),
            Ended::Left | Ended::Closed => (1000, "the client closed the link"),
            Ended::Violation(violation) => (violation.code(), violation.reason()),
            Ended::Broken(broken) => (broken.code().unwrap_or(1002), "the client broke RFC 6455"),
            Ended::Limit(crossed) => (crossed.code, crossed.reason),
            Ended::Departed(CloseFrame { code: 1001, .. }) => (1001, "the server is shutting down"),
            Ended::Departed(close) => (close.code, "the application ended the link"),
        };
        stats.link_closed(code, reason);
        let frame = match ended {
            Ended::Lost => return debug!("link lost"),
            Ended::Left | Ended::Closed => None,
            Ended::Broken(broken) => {
                // A flood of this must not become one of log lines.
                debug!("link closed: {broken}");
                Some(CloseFrame { code, reason: reason.into() })
            }
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
        let Some(mut socket) = task.link.socket else { return debug!("the link ends without a connection") };
        // Only that: other waiting messages are not sent any more.
        let says_so = task.link.endpoint.forbid_resumption();
        let farewell = says_so.then(|| task.link.endpoint.poll_transmit()).flatten();
        let closing = async move {
            if let Some(Physical::Binary(farewell)) = farewell {
                socket.start_send(opcode::BINARY, farewell)?;
            }
            if let Some(CloseFrame { code, reason }) = frame {
                socket.start_close(Some((code, &reason)))?;
                poll_fn(|cx| socket.poll_flush(cx)).await?;
            }
            if socket.unfinished() <= KEPT {
                // Complete the closing handshake (RFC 6455 §7.1.1): the Close frame of one side is in flight and would be
                // lost if the connection ended now.
                let mut next = |cx: &mut Context<'_>| poll_counted(cx, |_| 0, |cx| socket.poll_next(cx));
                while let Some(Ok(_)) = poll_fn(&mut next).await {}
            }
            if socket.is_closing() {
                // The link has ended, and counts no longer.
                tokio::spawn(linger(socket));
            }
            Ok::<(), Broken>(())
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
        debug!("link closed");
    }
}

struct Task {
    link: Link,
    channels: HashMap<Channel, ChannelState>,
    opens: JoinSet<(Channel, OpenAnswer)>,
    /// The channels with waiting opens, oldest first.
    waiting: BTreeMap<u64, Channel>,
    /// The number of opens that had to wait so far.
    opened: u64,
    /// The channels whose pipes have data for the link.
    due_pipes: VecDeque<Channel>,
    /// The channels that the drain must still close.
    leaving: Vec<Channel>,
    budget: Arc<Budget>,
    spending: LinkLimits,
    signals: Arc<Signals>,
    timer: Pin<Box<Sleep>>,
    pings: Pings,
    reopens: Reopens,
    /// The bytes of the connection that counted as a sign of life.
    heard: u64,
    needs_flush: bool,
    /// Counts the link among those without a connection.
    parked: Option<Parked>,
    /// The same for handlers.
    has_parked: watch::Sender<bool>,
    /// Whether the client has given the last connection up, as a page does that goes into the browser's cache. One that does
    /// not come back has left.
    is_away: bool,
    flush: FlushScheduler,
    /// Traffic that is not in the metrics yet.
    received: Traffic,
    sent: Traffic,
}

impl Task {
    fn now(&self) -> Millis {
        Millis::try_from(self.link.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Does all work that is possible now, and updates the metrics. Ready once the link has ended.
    fn poll_counted(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.spending.watch(cx);
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
        let turn = Turn::begin();
        // Before it reads: a link that departs accepts no opens.
        if self.link.departure.poll_begin(cx) {
            self.leaving = self.channels.keys().copied().collect();
        }
        for _ in 0..ROUNDS {
            let mut progress = match self.poll_physical(cx, &turn) {
                Ok(progress) => progress,
                Err(ended) => return Poll::Ready(ended),
            };
            progress |= self.poll_opens(cx, &turn);
            progress |= self.poll_pipes(cx, &turn);
            if let Err(ended) = self.check_memory() {
                return Poll::Ready(ended);
            }
            if let Err(ended) = self.poll_timer(cx) {
                return Poll::Ready(ended);
            }
            if let Some(close) = self.poll_departure(cx, &turn) {
                return Poll::Ready(Ended::Departed(close));
            }
            if progress && self.link.endpoint.wants_transmit() && self.flush.defer(!self.opens.is_empty()) {
                // Let the handlers that were just woken answer before the write: their answers then share one batch
                // instead of one physical message each (200 opens take 4 ms instead of 110).
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.flush.write();
            match self.poll_write(cx, &turn) {
                Ok(true) => {
                    self.spending.written();
                    progress = true;
                }
                Ok(false) => {}
                Err(ended) => return Poll::Ready(ended),
            }
            if turn.is_over() {
                break;
            }
            if !progress {
                // Output that was written since the last check no longer counts.
                if let Err(ended) = self.check_memory() {
                    return Poll::Ready(ended);
                }
                return self.poll_deadlines(cx);
            }
        }
        end_turn(cx);
        self.poll_deadlines(cx)
    }

    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let idle = self.link.endpoint.channels() == 0 && self.link.socket.is_some();
        let late = self.spending.poll_deadlines(self.needs_flush, idle, cx);
        late.map_or(Poll::Pending, |crossed| Poll::Ready(Ended::Limit(crossed)))
    }

    fn check_memory(&mut self) -> Result<(), Ended> {
        while let Err(exceeded) = self.measure() {
            // Better a link that ends with its connection than one that ends now.
            if self.link.endpoint.held_bytes() == 0 {
                return Err(Ended::Limit(exceeded));
            }
            debug!("the link can no longer be resumed: {}", exceeded.reason);
            self.link.endpoint.forbid_resumption();
            if self.link.socket.is_none() {
                return Err(Ended::Lost);
            }
        }
        Ok(())
    }

    /// Counts the buffers of the connection from now on.
    fn count_connection(&self) {
        if let Some(socket) = &self.link.socket {
            socket.io().count_for(&Reservation::new(Arc::clone(&self.budget)));
        }
    }

    /// Counts the memory that the link holds.
    fn measure(&mut self) -> Result<(), LimitExceeded> {
        let Link { endpoint, socket, head, has_tls, place, .. } = &self.link;
        let tables = endpoint.table_bytes()
            + self.channels.capacity() * size_of::<(Channel, ChannelState)>()
            + self.waiting.len() * size_of::<(u64, Channel)>();
        let opening = self.opens.len() * OPENING;
        let tls = match (*has_tls && socket.is_some(), self.needs_flush) {
            (false, _) => 0,
            (true, false) => TLS,
            (true, true) => TLS + TLS_OUTPUT,
        };
        let socket = socket.as_ref().map_or(0, |socket| socket.held() + socket.io().held(self.needs_flush));
        let buffers = endpoint.unfinished() + endpoint.held_bytes() + place.delayed_bytes() + socket + tls;
        let intake = self.spending.check_memory(IDLE + head + tables + opening + buffers)?;
        self.link.endpoint.set_intake(intake);
        Ok(())
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        while let Some(at) = self.link.endpoint.poll_timeout() {
            let at = self.link.started + Duration::from_millis(at);
            if self.timer.deadline() != at {
                self.timer.as_mut().reset(at);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                break;
            }
            let now = self.now();
            if let Err(violation) = self.link.endpoint.handle_timeout(now) {
                self.lose_carrier(Ended::Violation(violation))?;
            }
            if self.link.socket.is_none() && !self.link.endpoint.can_resume() {
                return Err(if self.is_away { Ended::Left } else { Ended::Lost });
            }
            if self.link.endpoint.is_suspected() {
                self.pings.probe();
            }
        }
        Ok(())
    }

    /// Returns the close frame for the link once its drain is complete: after the server began to shut down, or the
    /// application ended the link.
    fn poll_departure(&mut self, cx: &mut Context<'_>, turn: &Turn) -> Option<CloseFrame> {
        let close = self.link.departure.close()?.clone();
        turn.until_over(|| {
            let channel = self.leaving.pop()?;
            if let Some(ChannelState::Open { pipe, .. }) = self.channels.get(&channel) {
                self.start_drain(pipe);
                if self.link.departure.is_ended() {
                    pipe.push(Incoming::Lost);
                    turn.hand(WAKE);
                }
            }
            Some(0)
        });
        let is_done = self.link.endpoint.channels() == 0 && !self.needs_flush;
        (is_done || self.link.departure.is_out_of_time(cx)).then_some(close)
    }

    /// Closes a channel if the link is leaving.
    fn start_drain(&self, pipe: &Pipe) {
        if let Some(CloseFrame { code, reason }) = self.link.departure.close() {
            pipe.close(Close { code: Some(*code), reason: reason.to_string() });
        }
    }

    // ---- the protocol's events ----

    fn handle_events(&mut self, turn: &Turn) -> bool {
        turn.until_over(|| {
            let event = self.link.endpoint.poll_event()?;
            let mut passed = 0;
            match event {
                Event::Open { channel, target, protocols, headers } => {
                    self.open(channel, Asked { target, protocols, headers });
                }
                Event::Message { channel, message } => {
                    passed = content(&message);
                    self.received.add(passed);
                    turn.hand_message(passed);
                    self.push(channel, Incoming::Message(message), turn);
                }
                Event::Closed { channel, close } => self.closed_by_page(channel, close, turn),
                Event::Oversize { channel } => {
                    let limit = "max_message";
                    warn!(channel, limit, "channel closed: a message larger than any may be");
                    self.link.stats.limit_crossed(limit);
                    self.push(channel, Incoming::Oversize, turn);
                    self.channels.remove(&channel);
                }
                Event::Drained { channel } => passed = self.flush_pipe(channel, turn),
                // Only a client sees these.
                Event::Cookies { .. } | Event::Accepted { .. } | Event::Refused { .. } => {}
            }
            Some(passed)
        })
    }

    fn push(&mut self, channel: Channel, incoming: Incoming, turn: &Turn) {
        if let Some(ChannelState::Open { pipe, woken, .. }) = self.channels.get_mut(&channel) {
            pipe.push(incoming);
            if self.flush.wake(woken) {
                turn.hand(WAKE);
            }
        }
    }

    fn closed_by_page(&mut self, channel: Channel, close: Close, turn: &Turn) {
        match self.channels.get_mut(&channel) {
            Some(ChannelState::Waiting { .. } | ChannelState::Opening { .. }) => self.give_up(channel, turn),
            Some(ChannelState::Open { pipe, path, closed_by, .. }) => {
                if closed_by.is_none() {
                    self.reopens.closed(path);
                }
                let is_lost = matches!(close.code, Some(1006 | FAILED));
                pipe.push(if is_lost { Incoming::Lost } else { Incoming::Close(close) });
                turn.hand(WAKE);
                if closed_by.replace(Side::Client) == Some(Side::Server) {
                    self.channels.remove(&channel);
                } else {
                    // The page has discarded the pipe's data; a close queued behind it can proceed now.
                    self.flush_pipe(channel, turn);
                }
            }
            None => {}
        }
    }

    // ---- the handlers' pipes ----

    /// Forwards reads and messages of the handlers that have signalled.
    fn poll_pipes(&mut self, cx: &Context<'_>, turn: &Turn) -> bool {
        if self.due_pipes.is_empty() {
            self.due_pipes = self.signals.take(cx).into();
        }
        turn.until_over(|| {
            let channel = self.due_pipes.pop_front()?;
            Some(self.flush_pipe(channel, turn))
        })
    }

    /// Forwards the reads and messages of one handler. Returns the cost of the messages in bytes.
    fn flush_pipe(&mut self, channel: Channel, turn: &Turn) -> usize {
        let Some(ChannelState::Open { pipe, path, closed_by, woken }) = self.channels.get_mut(&channel)
        else {
            return 0;
        };
        let outgoing = pipe.take(!self.link.endpoint.is_queued(channel));
        self.flush.signalled(woken, !outgoing.messages.is_empty() || outgoing.close.is_some());
        let (messages, units) = outgoing.consumed;
        if messages > 0 {
            self.link.endpoint.consumed(channel, messages, units);
        }
        for payload in outgoing.pings {
            self.pings.ask(pipe, payload);
        }
        if !outgoing.messages.is_empty() {
            // The handler may have waited for room.
            turn.hand(WAKE);
        }
        let mut passed = 0;
        for message in outgoing.messages {
            self.sent.add(content(&message));
            passed += weight(&message) as usize;
            self.link.endpoint.send(channel, message);
        }
        if let Some(close) = outgoing.close {
            self.link.endpoint.close(channel, close.code, &close.reason);
            if closed_by.replace(Side::Server) == Some(Side::Client) {
                self.waiting.extend(self.reopens.answered(path));
                self.channels.remove(&channel);
            }
        }
        passed
    }

    /// Reports the end of the link to all handlers. A page that has left has closed its sockets, as a browser closes native
    /// ones then (HTML, "make disappear"); otherwise they are lost.
    async fn end_all(&mut self, has_left: bool) {
        let end = || if has_left { Incoming::Close(going_away()) } else { Incoming::Lost };
        let mut turn = Turn::begin();
        for (_, entry) in mem::take(&mut self.channels) {
            match entry {
                ChannelState::Open { pipe, closed_by: None | Some(Side::Server), .. } => {
                    pipe.push(end());
                    turn.hand(WAKE);
                }
                ChannelState::Open { .. } | ChannelState::Waiting { .. } => {}
                ChannelState::Opening { handle, .. } => {
                    handle.abort();
                    turn.hand(OPEN);
                }
            }
            if turn.is_over() {
                yield_now().await;
                turn = Turn::begin();
            }
        }
    }
}

/// The close of a page that goes away (RFC 6455 §7.4.1).
fn going_away() -> Close {
    Close { code: Some(1001), reason: String::new() }
}

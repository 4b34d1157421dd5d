//! Runs the task of one link, which joins the physical WebSocket, the protocol's endpoint and the handlers' pipes.
//!
//! The task never waits for only one of them. In particular it reads while it cannot write: if both ends waited for
//! the other to read, neither would proceed. [`channels`] and [`opens`] handle the events of the protocol, [`ending`] ends the
//! link.

mod carrier;
mod channels;
pub(crate) mod dispatch;
pub(crate) mod drain;
mod ending;
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
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::CloseFrame;
use axum::http::request::Parts;
use manysocket_protocol::{Channel, Close, Endpoint, Millis, Physical, Refusals, Side, Violation};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
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
use crate::link::resumptions::{Mailbox, Parked, ResumeRules, Socket};
use crate::link::tickets::LinkTickets;
use crate::link::turn::{Turn, WAKE};
use crate::metrics::stats::{Counted, Stats, Traffic};
use crate::turns::end_turn;
use crate::ws::frame::Broken;
use crate::ws::pipe::{Incoming, Pipe, Signals};

/// The number of read and write rounds before the task yields. tokio's own budget counts reads of the connection, and
/// one read can bring thousands of tiny messages. Beside four links with such traffic, the echo of another link took
/// 76 ms at the 99th percentile without this limit and 8 ms with it.
const ROUNDS: usize = 8;

/// The memory of an idle link: its task, its tables, its place in the registry, and its connection. Each of 500 idle
/// links takes 8 to 9 KiB.
const IDLE: usize = 8 * 1024;

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
    pub(crate) mailbox: Mailbox,
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
    /// Runs the link to its end. Boxed: the future would hold it three times, 6 KB.
    pub(crate) async fn run(self: Box<Self>, first: First) {
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
        if task.link.mailbox.has_nonce() {
            task.link.endpoint.expect_second_handshake();
        }
        task.link.mailbox.set_tokens(task.link.endpoint.tokens());
        task.count_connection();
        let ended = match begun {
            Ok(()) => poll_fn(|cx| task.poll_counted(cx)).await,
            Err(violation) => Ended::Violation(violation),
        };
        task.link.mailbox.close();
        task.spending.end();
        task.end_all(matches!(ended, Ended::Left)).await;
        // Boxed: each idle link would hold the memory of its end.
        Box::pin(ended.close(&mut task.link)).await;
    }
}

struct Task {
    link: Box<Link>,
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
        let Link { endpoint, socket, head, has_tls, mailbox, .. } = &*self.link;
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
        let buffers = endpoint.unfinished() + endpoint.held_bytes() + mailbox.delayed_bytes() + socket + tls;
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
}

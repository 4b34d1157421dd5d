//! Handles opens: calls the application for each one, as for a native upgrade, and creates or refuses the channel by
//! its answer.

use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::{HeaderValue, StatusCode, header};
use manysocket_protocol::Channel;
use tokio::task::Id;
use tokio::time::Instant;
use tracing::{Instrument, debug, debug_span, warn};

use super::turn::{OPEN, Turn, WAKE};
use super::{Asked, ChannelState, Task};
use crate::access::excerpt::excerpt;
use crate::access::rewrite::Rewrite;
use crate::budget::{ALLOCATION, Reservation};
use crate::link::dispatch::OpenAnswer;
use crate::link::flush::Woken;
use crate::ws::pipe::Pipe;
use crate::ws::socket::WebSocket;

impl Task {
    pub(super) fn open(&mut self, channel: Channel, asked: Asked) {
        // It waits for the rest of its message: an OPEN may stand before the CLOSE that it follows.
        if self.opens.len() + self.waiting.len() >= self.link.limits.max_opening {
            self.link.stats.limit_crossed("max_opening");
        }
        let mut share = Reservation::new(Arc::clone(&self.budget));
        let strings = [&asked.target, &asked.protocols, &asked.headers];
        share.set(strings.iter().map(|string| string.capacity() + ALLOCATION).sum());
        let place = self.opened;
        self.opened += 1;
        self.channels.insert(channel, ChannelState::Waiting { place, asked, _share: share });
        self.waiting.insert(place, channel);
    }

    /// Calls the application for an open.
    fn ask(&mut self, channel: Channel, Asked { target, protocols, headers }: &Asked, turn: &Turn) {
        turn.hand(OPEN);
        self.renew_cookies();
        // Proxies change the paths of native requests; a target has not passed them.
        let rewrite = match self.link.endpoint.dialled_path() {
            Some(dialled) => Rewrite::between(dialled, &self.link.path),
            None => Rewrite::removing(self.link.dispatcher.prefix()),
        };
        let changed = rewrite.apply(target);
        let path = changed.as_deref().unwrap_or(target).split('?').next().unwrap_or_default();
        let allowed = if let Some(refusal) = self.link.departure.refusal() {
            Err(refusal)
        } else if path == &*self.link.path {
            Err((400, "a multiplexer inside a multiplexer"))
        } else if let Some(target) = &changed {
            self.link.scope.check(target).map(|()| target)
        } else {
            Err((403, "the proxy in front does not send this path here"))
        };
        let request = allowed.and_then(|target| {
            let own = self.link.dispatcher.own_headers(headers)?;
            let request = self.link.dispatcher.request(target, protocols, own, self.has_parked.subscribe());
            request.ok_or((400, "the target or the subprotocols cannot stand in a request"))
        });
        match request {
            Ok((request, offer)) => {
                let answer = Arc::clone(&self.link.dispatcher).call(request, offer);
                let (begun, stats) = (Instant::now(), self.link.stats.clone());
                let mut share = Reservation::new(Arc::clone(&self.budget));
                share.set(target.len() + protocols.len() + headers.len());
                let answered = async move {
                    let _share = share;
                    let answer = answer.await;
                    stats.open_latency(begun.elapsed());
                    (channel, answer)
                };
                // The span adds link and channel to the handler's log lines.
                let span = debug_span!("channel", id = channel, path);
                let handle = self.opens.spawn(answered.instrument(span).in_current_span());
                self.channels.insert(channel, ChannelState::Opening { handle, path: path_of(target).into() });
            }
            Err((status, reason)) => {
                warn!(channel, target = excerpt(target), status, "open refused: {reason}");
                self.refuse(channel, status, reason);
            }
        }
    }

    fn refuse(&mut self, channel: Channel, status: u16, reason: &str) {
        self.link.stats.channel_refused(status);
        self.link.endpoint.refuse(channel, status, reason);
    }

    /// Calls the application for the next waiting opens.
    fn ask_waiting(&mut self, turn: &Turn) -> bool {
        let mut any = false;
        while !turn.is_over()
            && self.opens.len() < self.link.limits.max_opening
            && let Some((place, channel)) = self.waiting.pop_first()
        {
            // The page may have given up an open that was held, and used its number again.
            match self.channels.get(&channel) {
                Some(ChannelState::Waiting { place: own, asked, .. }) if *own == place => {
                    if self.reopens.hold(path_of(&asked.target), (place, channel)) {
                        continue;
                    }
                }
                _ => continue,
            }
            if let Some(ChannelState::Waiting { asked, .. }) = self.channels.remove(&channel) {
                self.ask(channel, &asked, turn);
                any = true;
            }
        }
        any
    }

    /// Aborts an open that the page has given up. The application's future ends at its next await.
    pub(super) fn give_up(&mut self, channel: Channel, turn: &Turn) {
        match self.channels.remove(&channel) {
            Some(ChannelState::Opening { handle, .. }) => {
                handle.abort();
                turn.hand(OPEN);
            }
            Some(ChannelState::Waiting { place, .. }) => drop(self.waiting.remove(&place)),
            Some(ChannelState::Open { .. }) | None => {}
        }
        self.link.endpoint.abort(channel);
    }

    pub(super) fn poll_opens(&mut self, cx: &mut Context<'_>, turn: &Turn) -> bool {
        let mut any = false;
        // Each answer may be a panic, and starts another open.
        while !(any && turn.is_over())
            && let Poll::Ready(Some(answered)) = self.opens.poll_join_next_with_id(cx)
        {
            any = true;
            match answered {
                Ok((id, (channel, answer))) => {
                    self.answered(id, channel, answer);
                    turn.hand(WAKE);
                }
                Err(error) if error.is_panic() => {
                    let found = self.channels.iter().find_map(|(&channel, state)| match state {
                        ChannelState::Opening { handle, .. } if handle.id() == error.id() => Some(channel),
                        _ => None,
                    });
                    if let Some(channel) = found {
                        self.channels.remove(&channel);
                        self.refuse(channel, 500, "the handler panicked");
                    }
                }
                // Aborted, because the page gave up.
                Err(_) => {}
            }
        }
        // Each path of a link may have opens that are overdue at the same time.
        any |= turn.until_over(|| match self.reopens.poll_overdue(cx) {
            Poll::Ready(overdue) => {
                self.waiting.extend(overdue);
                Some(0)
            }
            Poll::Pending => None,
        });
        // Later frames of the same message may still abort waiting opens.
        if !self.link.endpoint.is_receiving() {
            any |= self.ask_waiting(turn);
        }
        any
    }

    /// Gives the browser a ticket for the cookies of an answer that follows.
    fn announce_cookies(&mut self, channel: Channel, cookies: &[HeaderValue], path: &str) {
        let Some(origin) = self.link.handshake.headers.get(header::ORIGIN).filter(|_| !cookies.is_empty())
        else {
            return;
        };
        let share = Reservation::new(Arc::clone(&self.budget));
        match self.link.tickets.issue(origin, cookies, path, share) {
            Ok(ticket) => self.link.endpoint.announce_cookies(channel, ticket),
            Err(limit) => {
                warn!(channel, limit, "the browser gets no cookies: too many wait for it");
                self.link.stats.limit_crossed(limit);
            }
        }
    }

    fn answered(&mut self, id: Id, channel: Channel, answer: OpenAnswer) {
        // The page may have given up and reused the channel number; then this answer is for the earlier open.
        if !matches!(self.channels.get(&channel), Some(ChannelState::Opening { handle, .. }) if handle.id() == id)
        {
            return;
        }
        let Some(ChannelState::Opening { path, .. }) = self.channels.remove(&channel) else { return };
        let OpenAnswer { status, protocol, cookies, waiting, minted } = answer;
        self.announce_cookies(channel, &cookies, &path);
        if status != StatusCode::SWITCHING_PROTOCOLS {
            debug!(channel, %status, "open refused by the application");
            let reason = status.canonical_reason().unwrap_or_default();
            return self.refuse(channel, status.as_u16(), reason);
        }
        self.link
            .endpoint
            .accept(channel, protocol.as_ref().and_then(|name| name.to_str().ok()).unwrap_or_default());
        // The limit of a handler with axum's own extractor is its own business.
        let own_limit = waiting.as_ref().map_or(Some(usize::MAX), |waiting| waiting.max_message_size);
        if let Some(units) = self.spending.max_message(own_limit) {
            self.link.endpoint.set_max_message(channel, units);
        }
        let pipe = Arc::new(Pipe::new(
            channel,
            Arc::clone(&self.signals),
            self.link.stats.count_channel(),
            Arc::clone(&self.budget),
        ));
        let state =
            ChannelState::Open { pipe: Arc::clone(&pipe), path, closed_by: None, woken: Woken::default() };
        self.channels.insert(channel, state);
        self.start_drain(&pipe);
        let pipe = match waiting {
            Some(waiting) => waiting.pipe.send(pipe).err(),
            None => Some(pipe),
        };
        // If no handler waits any more, the page sees a connection that breaks at once.
        if let Some(pipe) = pipe {
            let socket = WebSocket::virtual_(pipe, protocol, None);
            if let Some(minted) = minted {
                tokio::spawn(minted.serve(socket));
            }
        }
    }
}

/// The path of a target, without its query.
fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

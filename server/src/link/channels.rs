//! Passes events of the protocol to the handlers' pipes, and what the pipes hold to the protocol.

use std::mem;
use std::task::Context;

use manysocket_protocol::{Channel, Close, Event, FAILED, Side};
use tokio::task::yield_now;
use tracing::warn;

use super::{Asked, ChannelState, Task};
use crate::link::turn::{OPEN, Turn, WAKE};
use crate::ws::pipe::{Incoming, content, weight};

impl Task {
    // ---- the protocol's events ----

    pub(super) fn handle_events(&mut self, turn: &Turn) -> bool {
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
    pub(super) fn poll_pipes(&mut self, cx: &Context<'_>, turn: &Turn) -> bool {
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
    pub(super) async fn end_all(&mut self, has_left: bool) {
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

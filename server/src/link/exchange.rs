//! Reads and writes the physical connection of a link.

use std::task::{Context, Poll};

use manysocket_protocol::{ABANDONED, Physical, Violation};
use tracing::debug;

use super::limits_watch::LimitExceeded;
use super::turn::Turn;
use super::{Ended, Task};
use crate::ws::frame::{Broken, opcode};
use crate::ws::frames::{FramedSocket, Received};

/// The number of physical messages to read before writing the answers: enough to gather answers into batches, and few
/// enough that a flood from one page does not delay its answers.
const READS: usize = 32;

impl Task {
    pub(super) fn poll_physical(&mut self, cx: &mut Context<'_>, turn: &Turn) -> Result<bool, Ended> {
        let mut progress = self.handle_events(turn);
        for _ in 0..READS {
            // Process the last message completely before reading the next, and before counting newer bytes.
            if turn.is_over() || !self.take_in(turn)? {
                break;
            }
            progress |= self.poll_arrivals(cx);
            let Some(socket) = &mut self.link.socket else { break };
            let message = match socket.poll_next(cx) {
                Poll::Ready(Some(Ok(Received::Text(text)))) => Physical::Text(text),
                Poll::Ready(Some(Ok(Received::Binary(bytes)))) => Physical::Binary(bytes),
                Poll::Ready(Some(Ok(Received::Ping(_)))) => {
                    // The pong must be flushed. More messages may be buffered behind the ping, and no wakeup would
                    // announce them.
                    self.needs_flush = true;
                    progress = true;
                    continue;
                }
                Poll::Ready(Some(Ok(Received::Pong(payload)))) => {
                    self.pings.answered(&payload);
                    progress = true;
                    continue;
                }
                // Browsers close with 1001 when a page leaves.
                Poll::Ready(Some(Ok(Received::Close(Some((1000 | 1001, _)))))) => return Err(Ended::Left),
                Poll::Ready(Some(Ok(Received::Close(close)))) => {
                    self.lose_carrier(Ended::Closed)?;
                    self.is_away = close.is_some_and(|(code, _)| code == ABANDONED);
                    break;
                }
                Poll::Ready(None) => {
                    self.lose_carrier(Ended::Lost)?;
                    break;
                }
                Poll::Ready(Some(Err(Broken::TooLarge))) => {
                    return Err(Ended::Limit(LimitExceeded::PHYSICAL_MESSAGE));
                }
                Poll::Ready(Some(Err(broken))) if broken.code().is_some() => {
                    return Err(Ended::Broken(broken));
                }
                Poll::Ready(Some(Err(broken))) => {
                    // Pages that are closed end like this, so it is a debug line. A flood must not fill the log.
                    debug!("physical connection failed: {broken}");
                    self.lose_carrier(Ended::Lost)?;
                    break;
                }
                Poll::Pending => break,
            };
            progress = true;
            let now = self.now();
            let received = self.link.endpoint.start_receive(now, message);
            self.received(received, turn)?;
        }
        let heard = self.link.socket.as_ref().map_or(self.heard, FramedSocket::received_bytes);
        if heard != self.heard {
            // The rest of a message may take minutes on a slow line, and a browser answers pings while its page is busy.
            self.heard = heard;
            self.link.endpoint.heard(self.now());
        }
        Ok(progress)
    }

    /// Processes the rest of the last physical message. Returns false if the turn ends before that is done.
    fn take_in(&mut self, turn: &Turn) -> Result<bool, Ended> {
        while !self.link.endpoint.has_events() {
            let now = self.now();
            match self.link.endpoint.continue_receive(now) {
                Ok(false) => return Ok(true),
                received => self.received(received.map(|_| ()), turn)?,
            }
            if turn.is_over() {
                break;
            }
        }
        Ok(false)
    }

    /// Handles the events of one processing step; all events if the step is the last.
    fn received(&mut self, received: Result<(), Violation>, turn: &Turn) -> Result<(), Ended> {
        if let Err(violation) = received {
            self.handle_events(&Turn::endless());
            return Err(Ended::Violation(violation));
        }
        self.handle_events(turn);
        self.check_memory()
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, turn: &Turn) -> Result<bool, Ended> {
        match self.write(cx, turn) {
            Ok(progress) => Ok(progress),
            // The connection is gone; reading may say why.
            Err(_) => self.lose_carrier(Ended::Lost).map(|()| true),
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, turn: &Turn) -> Result<bool, Broken> {
        let mut progress = false;
        loop {
            let Some(socket) = &mut self.link.socket else { return Ok(progress) };
            match socket.poll_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => return Ok(progress),
            }
            let (opcode, bytes) = match self.link.endpoint.poll_transmit() {
                Some(Physical::Binary(bytes)) => (opcode::BINARY, bytes),
                Some(Physical::Text(bytes)) => (opcode::TEXT, bytes),
                None => match self.pings.next() {
                    Some(payload) => (opcode::PING, payload),
                    None => break,
                },
            };
            socket.start_send(opcode, bytes)?;
            self.needs_flush = true;
            progress = true;
            if turn.is_over() {
                break;
            }
        }
        progress |= self.handle_events(turn);
        if self.needs_flush
            && (!progress || turn.is_over())
            && let Some(socket) = &mut self.link.socket
        {
            // Flush when there is nothing to add in this turn: one write to the kernel carries all of it.
            match socket.poll_flush(cx) {
                Poll::Ready(flushed) => {
                    flushed?;
                    self.needs_flush = false;
                }
                Poll::Pending => {}
            }
        }
        Ok(progress)
    }
}

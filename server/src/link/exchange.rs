//! Reads and writes the physical connection of a link.

use std::task::{Context, Poll};

use manysocket_protocol::{Physical, Violation};
use tracing::debug;

use super::limits_watch::LimitExceeded;
use super::turn::Turn;
use super::{Ended, Task};
use crate::ws::frames::{Broken, Received, opcode};

/// How many physical messages are read before what they caused is written: enough to gather answers into batches,
/// little enough that a flood from one page does not keep its answers back.
const READS: usize = 32;

impl Task {
    pub(super) fn poll_physical(&mut self, cx: &mut Context<'_>, turn: &Turn) -> Result<bool, Ended> {
        let mut progress = self.handle_events(turn);
        for _ in 0..READS {
            // What has been taken in comes before more is read.
            if turn.is_over() || !self.take_in(turn)? {
                break;
            }
            let message = match self.link.socket.poll_next(cx) {
                Poll::Ready(Some(Ok(Received::Text(text)))) => Physical::Text(text),
                Poll::Ready(Some(Ok(Received::Binary(bytes)))) => Physical::Binary(bytes),
                Poll::Ready(Some(Ok(Received::Ping(_)))) => {
                    // Its answer is to be written. There may be more behind it, and nobody else looks for that.
                    self.needs_flush = true;
                    progress = true;
                    continue;
                }
                Poll::Ready(Some(Ok(Received::Pong(_)))) => {
                    progress = true;
                    continue;
                }
                Poll::Ready(Some(Ok(Received::Close(_)))) => return Err(Ended::Closed),
                Poll::Ready(None) => return Err(Ended::Lost),
                Poll::Ready(Some(Err(Broken::TooLarge))) => {
                    return Err(Ended::Limit(LimitExceeded::PHYSICAL_MESSAGE));
                }
                Poll::Ready(Some(Err(broken))) => {
                    // What every page does that is left. A flood of it must not become one of log lines.
                    debug!("physical connection failed: {broken}");
                    return Err(Ended::Lost);
                }
                Poll::Pending => break,
            };
            progress = true;
            let now = self.now();
            let received = self.link.endpoint.start_receive(now, message);
            self.received(received, turn)?;
        }
        Ok(progress)
    }

    /// Takes in the rest of the physical message that came last; false if the turn ends before that is done.
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

    /// Handles what a step of taking in has caused; all of it if it is the last.
    fn received(&mut self, received: Result<(), Violation>, turn: &Turn) -> Result<(), Ended> {
        if let Err(violation) = received {
            self.handle_events(&Turn::endless());
            return Err(Ended::Violation(violation));
        }
        self.handle_events(turn);
        self.check_memory()
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, turn: &Turn) -> Result<bool, Ended> {
        let mut progress = false;
        loop {
            match self.link.socket.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Err(Ended::Lost),
                Poll::Pending => return Ok(progress),
            }
            let Some(message) = self.link.endpoint.poll_transmit() else { break };
            match message {
                Physical::Binary(bytes) => self.link.socket.start_send(opcode::BINARY, bytes),
                Physical::Text(bytes) => self.link.socket.start_send(opcode::TEXT, bytes),
            }
            .map_err(|_| Ended::Lost)?;
            self.needs_flush = true;
            progress = true;
            if turn.is_over() {
                break;
            }
        }
        progress |= self.handle_events(turn);
        if self.needs_flush && !progress {
            // Only when nothing more is to be added: one write to the kernel carries all of it.
            match self.link.socket.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.needs_flush = false,
                Poll::Ready(Err(_)) => return Err(Ended::Lost),
                Poll::Pending => {}
            }
        }
        Ok(progress)
    }
}

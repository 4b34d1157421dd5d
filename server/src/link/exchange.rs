//! Reads and writes the physical connection of a link.

use std::task::{Context, Poll};

use manysocket_protocol::{Physical, Violation};
use tracing::debug;

use super::limits_watch::LimitExceeded;
use super::turn::Turn;
use super::{Ended, Task};
use crate::ws::frame::{Broken, opcode};
use crate::ws::frames::Received;

/// The number of physical messages to read before writing the answers: enough to gather answers into batches, and few
/// enough that a flood from one page does not delay its answers.
const READS: usize = 32;

impl Task {
    pub(super) fn poll_physical(&mut self, cx: &mut Context<'_>, turn: &Turn) -> Result<bool, Ended> {
        let mut progress = self.handle_events(turn);
        for _ in 0..READS {
            // Process the last message completely before reading the next.
            if turn.is_over() || !self.take_in(turn)? {
                break;
            }
            let message = match self.link.socket.poll_next(cx) {
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
                Poll::Ready(Some(Ok(Received::Close(Some((1000 | 1001, _)))))) => return Err(Ended::Left),
                Poll::Ready(Some(Ok(Received::Close(_)))) => return Err(Ended::Closed),
                Poll::Ready(None) => return Err(Ended::Lost),
                Poll::Ready(Some(Err(Broken::TooLarge))) => {
                    return Err(Ended::Limit(LimitExceeded::PHYSICAL_MESSAGE));
                }
                Poll::Ready(Some(Err(broken))) if broken.code().is_some() => {
                    return Err(Ended::Broken(broken));
                }
                Poll::Ready(Some(Err(broken))) => {
                    // Pages that are closed end like this, so it is a debug line. A flood must not fill the log.
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
        let heard = self.link.socket.received_bytes();
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
        let mut progress = false;
        loop {
            match self.link.socket.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Err(Ended::Lost),
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
            self.link.socket.start_send(opcode, bytes).map_err(|_| Ended::Lost)?;
            self.needs_flush = true;
            progress = true;
            if turn.is_over() {
                break;
            }
        }
        progress |= self.handle_events(turn);
        if self.needs_flush && !progress {
            // Flush only when there is nothing to add: one write to the kernel carries all of it.
            match self.link.socket.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.needs_flush = false,
                Poll::Ready(Err(_)) => return Err(Ended::Lost),
                Poll::Pending => {}
            }
        }
        Ok(progress)
    }
}

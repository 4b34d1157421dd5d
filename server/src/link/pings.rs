//! Pings of the physical connection: they answer the pings of handlers, and find out whether a silent page is still there.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use crate::ws::pipe::Pipe;

/// A ping of a handler.
#[derive(Debug)]
struct Asked {
    pipe: Arc<Pipe>,
    payload: Bytes,
}

/// The physical pings of a link. At most one has no answer, whatever the number of handlers that ping: it stands for all pings
/// before it.
#[derive(Debug, Default)]
pub(super) struct Pings {
    /// The number of pings sent; the last one carries it.
    sent: u64,
    in_flight: bool,
    /// The handlers' pings before the one in flight, and those after it.
    covered: Vec<Asked>,
    waiting: Vec<Asked>,
    is_probe_due: bool,
}

impl Pings {
    /// Adds a ping of a handler, whose messages before it the connection has taken.
    pub(super) fn ask(&mut self, pipe: &Arc<Pipe>, payload: Bytes) {
        self.waiting.push(Asked { pipe: Arc::clone(pipe), payload });
    }

    /// Asks for a ping, because the page has been silent.
    pub(super) fn probe(&mut self) {
        self.is_probe_due = !self.in_flight;
    }

    /// Returns the payload of the ping that is due.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        if self.in_flight || (!self.is_probe_due && self.waiting.is_empty()) {
            return None;
        }
        (self.in_flight, self.is_probe_due) = (true, false);
        self.covered = mem::take(&mut self.waiting);
        self.sent += 1;
        Some(self.payload())
    }

    /// Handles a pong. One that answers nothing has no meaning (RFC 6455 §5.5.3).
    pub(super) fn answered(&mut self, payload: &[u8]) {
        if self.in_flight && *payload == *self.payload() {
            self.in_flight = false;
            for Asked { pipe, payload } in mem::take(&mut self.covered) {
                pipe.pong(payload);
            }
        }
    }

    /// Begins anew with another connection: the ping in flight is lost.
    pub(super) fn restart(&mut self) {
        let waiting = mem::take(&mut self.waiting);
        self.waiting = mem::take(&mut self.covered);
        self.waiting.extend(waiting);
        (self.in_flight, self.is_probe_due) = (false, false);
    }

    fn payload(&self) -> Bytes {
        Bytes::copy_from_slice(&self.sent.to_be_bytes())
    }
}

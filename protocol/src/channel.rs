//! The states of the two directions of a channel (§4, §7).

use crate::Payload;
use crate::flow_control::{Queue, Window};

/// Both directions of a channel. The connection removes the channel once both have ended.
#[derive(Debug)]
pub(crate) struct ChannelState<P> {
    pub(crate) sending: Sending<P>,
    pub(crate) receiving: Receiving,
    /// Whether the channel is in the connection's queue of channels with something to send.
    pub(crate) scheduled: bool,
}

/// The direction from this side to the peer.
#[derive(Debug)]
pub(crate) enum Sending<P> {
    /// The server has not answered the open.
    Opening,
    /// This side may send messages.
    Open(Queue<P>),
    /// This side sends the terminal frame once the queue is empty.
    Ending(Queue<P>, End<P>),
    /// This side has sent the terminal frame.
    Ended,
}

impl<P: Payload> Sending<P> {
    /// Drops the messages that wait; returns their bytes.
    pub(crate) fn discard(&mut self) -> u64 {
        match self {
            Sending::Open(queue) | Sending::Ending(queue, _) => {
                let bytes = queue.bytes();
                *queue = Queue::new(0);
                bytes
            }
            Sending::Opening | Sending::Ended => 0,
        }
    }
}

/// The terminal frame of a direction.
#[derive(Debug)]
pub(crate) enum End<P> {
    Close { code: u32, reason: P },
    Refuse { status: u32, reason: P },
}

/// The direction from the peer to this side.
#[derive(Debug)]
pub(crate) enum Receiving {
    /// A client may receive only the answer to its open, a server only the abort of the open.
    Opening,
    /// The peer may send messages.
    Open(Window),
    /// This side has given the channel up. It drops everything that arrives before the peer's terminal frame.
    Discarding,
    /// The terminal frame has arrived.
    Ended,
}

impl Receiving {
    /// Changes to a state that has no window. Returns by how many units the window had grown.
    pub(crate) fn close_window(&mut self, next: Self) -> u32 {
        match std::mem::replace(self, next) {
            Self::Open(window) => window.growth(),
            _ => 0,
        }
    }
}

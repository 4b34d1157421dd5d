//! What crosses to JavaScript, as 32-bit words. `js/link.js` reads them with the same numbers.

use manysocket_protocol::connection::Event;
use manysocket_protocol::{Batch, Kind};

use crate::payload::Slot;

/// The first word of an event; bit 8 of a message's is set if it completes the message.
mod tag {
    pub(super) const TEXT: u32 = 0;
    pub(super) const BINARY: u32 = 1;
    pub(super) const ACCEPTED: u32 = 2;
    pub(super) const REFUSED: u32 = 3;
    pub(super) const CLOSED: u32 = 4;
    pub(super) const OVERSIZE: u32 = 5;
    pub(super) const FIN: u32 = 1 << 8;
}

/// Five words: tag, channel, start and length of the text or payload, code or status.
pub(crate) fn event(event: &Event, out: &mut Vec<u32>) {
    match *event {
        Event::Data { channel, kind, fin, span } => {
            let kind = if kind == Kind::Text { tag::TEXT } else { tag::BINARY };
            let fin = if fin { tag::FIN } else { 0 };
            out.extend([kind | fin, channel, span.start, span.units, 0]);
        }
        Event::Accepted { channel, protocol } => {
            out.extend([tag::ACCEPTED, channel, protocol.start, protocol.units, 0]);
        }
        Event::Refused { channel, status, reason } => {
            out.extend([tag::REFUSED, channel, reason.start, reason.units, status]);
        }
        Event::Closed { channel, code, reason } => {
            out.extend([tag::CLOSED, channel, reason.start, reason.units, code]);
        }
        Event::Oversize { channel } => out.extend([tag::OVERSIZE, channel, 0, 0, 0]),
        // A server's, and one that this client does not ask for.
        Event::Open { .. } | Event::Drained { .. } => {}
    }
}

/// Four words: place, start, length, and whether the payload ends here.
pub(crate) fn payload(slot: &Slot, out: &mut Vec<u32>) {
    out.extend([slot.slot, slot.start, slot.units, slot.ends.into()]);
}

/// The payloads of both runs, each with its count in front.
pub(crate) fn batch(batch: &Batch<Slot>, out: &mut Vec<u32>) {
    for run in [&batch.text, &batch.binary] {
        out.push(run.len() as u32);
        for part in run {
            payload(&part.payload, out);
        }
    }
}

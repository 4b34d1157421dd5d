//! Payloads as places in a table that JavaScript keeps.

use manysocket_protocol::{Payload, Side};

/// A payload, or what is left of it to send.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// Its place in the table; 0: the empty payload, which has none.
    pub(crate) slot: u32,
    pub(crate) start: u32,
    pub(crate) units: u32,
    /// Whether it reaches to the payload's end.
    pub(crate) ends: bool,
    is_text: bool,
}

impl Slot {
    pub(crate) fn text(slot: u32, units: u32) -> Self {
        Self { slot, start: 0, units, ends: true, is_text: true }
    }

    pub(crate) fn binary(slot: u32, bytes: u32) -> Self {
        Self { slot, start: 0, units: bytes, ends: true, is_text: false }
    }
}

impl Payload for Slot {
    const SIDE: Option<Side> = Some(Side::Client);

    fn units(&self) -> u32 {
        self.units
    }

    /// Leaves room for one unit in the piece of a text: whoever has the text cuts behind a surrogate pair when the
    /// cut would go through it, and the next piece has one fewer. To ask here would cost an import.
    fn split_to(&mut self, units: u32) -> Self {
        let units = if self.is_text { units - 1 } else { units };
        let head = Self { slot: self.slot, start: self.start, units, ends: false, is_text: self.is_text };
        self.start += units;
        self.units -= units;
        head
    }
}

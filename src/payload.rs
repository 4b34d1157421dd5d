//! Payloads as places in a table that JavaScript keeps.

use std::rc::Rc;

use manysocket_protocol::Payload;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// The table, as far as wasm has to ask it.
    #[derive(Debug)]
    pub type Payloads;

    /// Whether the text in `slot` has a surrogate pair across `at`.
    #[wasm_bindgen(method, js_name = cutsPair)]
    fn cuts_pair(this: &Payloads, slot: u32, at: u32) -> bool;
}

/// A payload, or what is left of it to send.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// Its place in the table; 0: the empty payload, which has none.
    pub(crate) slot: u32,
    pub(crate) start: u32,
    pub(crate) units: u32,
    /// Whether it reaches to the payload's end.
    pub(crate) ends: bool,
    /// Of a text: where to ask about surrogate pairs.
    table: Option<Rc<Payloads>>,
}

impl Slot {
    pub(crate) fn text(slot: u32, units: u32, table: &Rc<Payloads>) -> Self {
        Self { slot, start: 0, units, ends: true, table: Some(Rc::clone(table)) }
    }

    pub(crate) fn binary(slot: u32, bytes: u32) -> Self {
        Self { slot, start: 0, units: bytes, ends: true, table: None }
    }
}

impl Payload for Slot {
    fn units(&self) -> u32 {
        self.units
    }

    fn split_to(&mut self, units: u32) -> Self {
        let cuts_pair =
            self.table.as_ref().is_some_and(|table| table.cuts_pair(self.slot, self.start + units));
        let units = if cuts_pair { units - 1 } else { units };
        let head = Self { slot: self.slot, start: self.start, units, ends: false, table: None };
        self.start += units;
        self.units -= units;
        head
    }
}

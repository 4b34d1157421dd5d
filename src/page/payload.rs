//! Payloads that wait to be sent.

use manysocket_protocol::{Payload, Side};

use std::cell::Cell;
use std::rc::Rc;

use crate::page::glue::{self, JsString, Uint8Array};

/// A message to send, a string of a frame, or the rest of one.
#[derive(Default)]
pub(crate) enum Content {
    #[default]
    Empty,
    /// A part of a text.
    Text(Text),
    /// Bytes in wasm's memory.
    Small(Small),
    /// A part of an array.
    Array(Array),
}

/// Bytes in wasm's memory, which never shrinks: so few may wait there.
pub(crate) struct Small(Vec<u8>);

thread_local! {
    /// The bytes of all of them.
    static SMALL: Cell<u32> = const { Cell::new(0) };
}

/// A part of a text, and whether it is all of it.
pub(crate) struct Text {
    text: JsString,
    start: u32,
    units: u32,
    is_whole: bool,
}

/// A part of an array.
pub(crate) struct Array {
    pub(crate) array: Uint8Array,
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Whether the page can change it once this task is over.
    pub(crate) is_lent: bool,
    /// Whether its memory is used again once this part, the last, has been sent.
    pub(crate) is_spare: bool,
}

impl Content {
    pub(crate) fn text(text: JsString, units: u32) -> Self {
        if units == 0 {
            return Content::Empty;
        }
        Content::Text(Text { text, start: 0, units, is_whole: true })
    }

    pub(crate) fn array(array: Uint8Array, length: u32, is_lent: bool) -> Self {
        if length == 0 {
            Content::Empty
        } else {
            Content::Array(Array { array, start: 0, end: length, is_lent, is_spare: false })
        }
    }
}

/// A physical message that is kept until the server has acknowledged it.
#[derive(Clone)]
pub(crate) enum Held {
    /// The head and the text.
    Text(Vec<u8>, JsString),
    /// The bytes, and their memory if it may be used again. Up to 16 MiB are kept: not in wasm's memory, which never shrinks.
    Array { part: Uint8Array, _spare: Option<Rc<Spare>> },
}

/// Memory of a message that is kept, for the next one. Acknowledgements are cumulative, so the last part of a message may have it.
pub(crate) struct Spare(Uint8Array);

impl Drop for Spare {
    fn drop(&mut self) {
        glue::recycle(&self.0);
    }
}

impl Held {
    pub(crate) fn copy(bytes: &[u8]) -> Self {
        let part = glue::copy_in(bytes.as_ptr() as u32, bytes.len() as u32);
        Held::Array { part, _spare: None }
    }
}

impl Content {
    /// Returns a binary message as it is kept. The page may change an array that it has lent.
    pub(crate) fn hold(&mut self) -> Held {
        match self {
            Content::Array(array) => {
                let (start, end) = (array.start, array.end);
                if array.is_lent {
                    let copy = glue::copy_large(&array.array, start, end);
                    let part = glue::part(&copy, 0, end - start);
                    Held::Array { part, _spare: Some(Rc::new(Spare(copy))) }
                } else {
                    // Not once it has been sent.
                    let is_spare = std::mem::take(&mut array.is_spare);
                    let _spare = is_spare.then(|| Rc::new(Spare(array.array.clone())));
                    Held::Array { part: glue::part(&array.array, start, end), _spare }
                }
            }
            Content::Small(small) => Held::copy(small.bytes()),
            Content::Empty | Content::Text(_) => Held::copy(&[]),
        }
    }
}

impl Small {
    /// The bytes of all that wait.
    pub(crate) fn sum() -> u32 {
        SMALL.get()
    }

    /// A copy of an array's bytes.
    pub(crate) fn copy(array: &Uint8Array, length: u32) -> Self {
        let mut bytes = vec![0; length as usize];
        glue::copy_array_out(array, bytes.as_mut_ptr() as u32);
        Self::new(bytes)
    }

    fn new(bytes: Vec<u8>) -> Self {
        SMALL.set(SMALL.get() + bytes.len() as u32);
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        SMALL.set(SMALL.get() - self.0.len() as u32);
    }
}

impl Text {
    /// The part, as a text.
    pub(crate) fn get(&self) -> JsString {
        if self.is_whole {
            self.text.clone()
        } else {
            glue::slice(&self.text, self.start, self.start + self.units)
        }
    }

    /// Appends the part to the run that is being put together.
    pub(crate) fn add(&self) {
        if self.is_whole { glue::add_text(&self.text) } else { glue::add_text(&self.get()) }
    }

    /// Its length in bytes of UTF-8.
    pub(crate) fn bytes(&self) -> u64 {
        glue::utf8_length(&self.get()) as u64
    }

    /// Takes units off the front: one fewer if they end inside a surrogate pair.
    fn split_to(&mut self, units: u32) -> Self {
        let units = units - glue::is_pair(&self.text, self.start + units);
        let head = Self { text: self.text.clone(), start: self.start, units, is_whole: false };
        self.start += units;
        self.units -= units;
        self.is_whole = false;
        head
    }
}

impl Payload for Content {
    const SIDE: Option<Side> = Some(Side::Client);

    type Held = Held;

    fn units(&self) -> u32 {
        match self {
            Content::Empty => 0,
            Content::Text(text) => text.units,
            Content::Small(small) => small.0.len() as u32,
            Content::Array(array) => array.end - array.start,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Content::Text(text) => text.bytes(),
            _ => self.units().into(),
        }
    }

    fn split_to(&mut self, units: u32) -> Self {
        match self {
            Content::Empty => Content::Empty,
            Content::Text(text) => Content::Text(text.split_to(units)),
            Content::Small(small) => {
                let bytes = std::mem::take(&mut small.0);
                SMALL.set(SMALL.get() - bytes.len() as u32);
                let (head, rest) = bytes.split_at_checked(units as usize).unwrap_or_default();
                *small = Small::new(rest.to_vec());
                Content::Small(Small::new(head.to_vec()))
            }
            Content::Array(array) => {
                let start = array.start;
                array.start += units;
                Content::Array(Array {
                    array: array.array.clone(),
                    start,
                    end: array.start,
                    is_spare: false,
                    ..*array
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen::prelude::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    fn text(text: &str) -> Content {
        Content::text(JsValue::from_str(text).unchecked_into(), text.encode_utf16().count() as u32)
    }

    fn read(content: &Content) -> String {
        match content {
            Content::Text(text) => glue::to_string(&text.get(), content.units()),
            _ => String::new(),
        }
    }

    #[wasm_bindgen_test]
    fn a_text_is_not_cut_inside_a_surrogate_pair() {
        let mut rest = text("ab\u{1f600}cd");
        let head = rest.split_to(3);
        assert_eq!((read(&head), head.units(), head.bytes()), ("ab".into(), 2, 2));
        let middle = rest.split_to(2);
        assert_eq!((read(&middle), middle.units(), middle.bytes()), ("\u{1f600}".into(), 2, 4));
        assert_eq!((read(&rest), rest.units(), rest.bytes()), ("cd".into(), 2, 2));
    }

    #[wasm_bindgen_test]
    fn a_text_of_more_than_ascii_counts_its_bytes() {
        let content = text("n\u{e9}\u{20ac}");
        assert_eq!((content.units(), content.bytes()), (3, 6));
        assert_eq!(read(&content), "n\u{e9}\u{20ac}");
        assert_eq!(Content::text(JsValue::from_str("").unchecked_into(), 0).units(), 0);
    }
}

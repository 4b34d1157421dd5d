//! Holds messages that have arrived for a page.

use manysocket_protocol::Violation;
use manysocket_protocol::client::{Host, Source};
use manysocket_protocol::connection::Span;
use manysocket_protocol::physical::PAIR_CUT;

use crate::page::glue::{self, ArrayBuffer, JsString};
use crate::page::payload::Content;

/// A page, which keeps texts and buffers in JavaScript.
pub(super) struct Page;

/// A message that has arrived, or a piece of one.
pub(super) enum Message {
    Text(JsString),
    /// A part of a buffer. It becomes a separate buffer when the page asks for it.
    Binary {
        buffer: ArrayBuffer,
        start: u32,
        length: u32,
    },
}

impl Host for Page {
    type Key = u32;
    type Payload = Content;
    type Message = Message;

    fn join(pieces: Vec<Message>) -> Message {
        let binary = |piece: &Message| if let Message::Binary { length, .. } = piece { *length } else { 0 };
        if let Some(Message::Text(_)) = pieces.first() {
            for piece in &pieces {
                if let Message::Text(text) = piece {
                    glue::add_text(text);
                }
            }
            return Message::Text(glue::take_run());
        }
        let length = pieces.iter().map(binary).sum();
        let joined = glue::new_array(length);
        let mut at = 0;
        for piece in &pieces {
            if let Message::Binary { buffer, start, length } = piece {
                glue::copy_buffer(buffer, *start, *length, &joined, at);
                at += length;
            }
        }
        Message::Binary { buffer: glue::buffer_of(&joined), start: 0, length }
    }
}

/// The contents of a physical message.
pub(super) struct Arrived<'a> {
    /// The text run, and its length in UTF-16 code units.
    pub(super) text: Option<JsString>,
    pub(super) units: u32,
    /// Whether the text is ASCII: no surrogate pair can be cut.
    pub(super) is_ascii: bool,
    /// The physical message, if it is binary, and where its binary run begins.
    pub(super) buffer: Option<&'a ArrayBuffer>,
    pub(super) binary_at: u32,
}

impl Arrived<'_> {
    /// A part of the text run.
    fn part(
        &self,
        span: Span,
        slice: impl Fn(&JsString, u32, u32) -> JsString,
    ) -> Result<JsString, Violation> {
        let Some(text) = &self.text else { return Ok(glue::take_run()) };
        if span.units == self.units {
            return Ok(text.clone());
        }
        let end = span.start + span.units;
        if !self.is_ascii && glue::is_pair(text, span.start) + glue::is_pair(text, end) > 0 {
            return Err(PAIR_CUT);
        }
        Ok(slice(text, span.start, end))
    }
}

impl Source<Message> for Arrived<'_> {
    fn text(&self, span: Span, is_last: bool) -> Result<Message, Violation> {
        let slice = if is_last { glue::slice } else { glue::slice_alone };
        Ok(Message::Text(self.part(span, slice)?))
    }

    fn binary(&self, span: Span, is_last: bool) -> Result<Message, Violation> {
        // A physical text message holds no binary.
        let buffer = self.buffer.ok_or(PAIR_CUT)?.clone();
        let start = self.binary_at + span.start;
        if is_last {
            return Ok(Message::Binary { buffer, start, length: span.units });
        }
        let buffer = glue::slice_buffer(&buffer, start, start + span.units);
        Ok(Message::Binary { buffer, start: 0, length: span.units })
    }

    fn string(&self, span: Span) -> Result<String, Violation> {
        Ok(glue::to_string(&self.part(span, glue::slice)?, span.units))
    }
}

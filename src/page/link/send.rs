//! Sends a page's messages: payloads taken in, batches put together, and physical messages handed over.

use manysocket_protocol::physical::{LENGTHS, text_head, write_lengths};
use manysocket_protocol::{Kind, Millis, Payload, Transmit};

use super::PageLink;
use super::events::tell_later;
use crate::page::glue::{self, JsString, Uint8Array};
use crate::page::payload::{Array, Content, Held, Small};
use crate::page::table::with;

/// A batch is not kept waiting for the task to end once it holds this much.
const ENOUGH: u32 = 32 * 1024;

/// A binary payload from here on is sent before the page can change it, if credit allows: then nobody copies it.
const LARGE: u32 = 32 * 1024;

/// Bytes of small payloads that may wait in wasm's memory. Others wait outside of it: it never shrinks.
const MOST_SMALL: u32 = 512 * 1024;

/// Messages of all sockets that may wait in wasm's queues, which take 1/3 MiB then. Further ones wait in JavaScript.
const MOST_WAITING: usize = 8 * 1024;

/// Messages of each socket that may wait in any case, so that no socket waits for another.
const LEAST_WAITING: usize = 32;

/// The memory for batches that a link keeps: a full batch, in characters of three bytes.
const KEPT: usize = 128 * 1024;

impl PageLink {
    /// The bytes that the physical socket has carried.
    pub(super) fn sent(&self) -> u64 {
        let buffered = if self.is_open { glue::buffered_amount(self.number) } else { 0.0 };
        self.inner.sent(buffered as u64)
    }

    /// The bytes of a socket's messages that have not left.
    pub(crate) fn buffered(&mut self, channel: u32) -> f64 {
        let sent = self.sent();
        self.inner.buffered_amount(channel, sent) as f64
    }

    /// Puts the batch together (docs/protocol.md §2.3). Returns whether its text is ASCII.
    pub(super) fn write_batch(&mut self) -> bool {
        let Self { batch, out, .. } = self;
        let mut text_units = 0;
        for part in &batch.text {
            if let Content::Text(text) = &part.payload {
                text.add();
                text_units += part.payload.units();
            }
        }
        let headers = batch.headers.len();
        out.clear();
        // The text's length in bytes is known only once it is encoded, behind the headers: the lengths go in front of them
        // then, into room for the longest.
        out.resize(LENGTHS, 0);
        out.extend_from_slice(&batch.headers);
        let mut text_bytes = 0;
        if text_units > 0 {
            // A UTF-16 code unit is at most three bytes of UTF-8.
            text_bytes = append(out, 3 * text_units, glue::encode_run);
            out.truncate(LENGTHS + headers + text_bytes as usize);
        }
        for part in &batch.binary {
            match &part.payload {
                Content::Small(small) => out.extend_from_slice(small.bytes()),
                Content::Array(array) => {
                    let part = glue::part(&array.array, array.start, array.end);
                    append(out, array.end - array.start, |target| glue::copy_array_out(&part, target));
                }
                Content::Empty | Content::Text(_) => {}
            }
        }
        self.out_start = write_lengths(&mut self.out, headers as u32, text_bytes);
        text_bytes == text_units
    }
}

/// Appends up to `length` bytes, which JavaScript writes to the address that it is given.
fn append<T>(out: &mut Vec<u8>, length: u32, write: impl FnOnce(u32) -> T) -> T {
    let at = out.len();
    out.resize(at + length as usize, 0);
    write(out.as_mut_ptr() as u32 + at as u32)
}

/// Queues a text; 0 if the socket sends no more, 2 if further messages have to wait until it is no longer full.
pub(crate) fn send_text(link: u32, channel: u32, text: JsString, units: u32) -> u32 {
    let queued = with(link, |this| this.queue(channel, Kind::Text, Content::text(text, units)));
    if queued == Queued::Enough {
        flush(link);
    }
    queued.answer(link, channel)
}

/// Queues a binary message, which the page may change once this returns. Returns the same as [`send_text`].
pub(crate) fn send_binary(link: u32, channel: u32, array: Uint8Array, length: u32) -> u32 {
    let is_lent = length >= LARGE;
    let queued = with(link, |this| {
        let content = if length == 0 {
            Content::Empty
        } else if is_lent {
            Content::array(array, length, true)
        } else if Small::sum() + length <= MOST_SMALL {
            Content::Small(Small::copy(&array, length))
        } else {
            Content::array(glue::copy(&array), length, false)
        };
        this.queue(channel, Kind::Binary, content)
    });
    if queued == Queued::Enough {
        flush(link);
        if is_lent {
            with(link, |this| this.copy_lent(channel));
        }
    }
    queued.answer(link, channel)
}

/// The result of a message to send.
#[derive(Default, PartialEq)]
enum Queued {
    /// The socket sends no more.
    #[default]
    Refused,
    /// It is sent when the task ends.
    Taken,
    /// It is to be sent at once.
    Enough,
}

impl Queued {
    fn answer(self, link: u32, channel: u32) -> u32 {
        match self {
            Self::Refused => 0,
            Self::Taken => 1,
            Self::Enough => 1 + u32::from(with(link, |this| this.is_full(channel))),
        }
    }
}

impl PageLink {
    /// Whether further messages of a socket have to wait outside of wasm's memory.
    pub(crate) fn is_full(&self, channel: u32) -> bool {
        let most = MOST_WAITING.checked_div(self.inner.sockets()).unwrap_or_default();
        self.inner.waiting_messages(channel) >= most.max(LEAST_WAITING)
    }

    fn queue(&mut self, channel: u32, kind: Kind, content: Content) -> Queued {
        let units = content.units();
        if self.inner.send(channel, kind, content).is_err() {
            return Queued::Refused;
        }
        self.pending += units;
        if self.flush_soon() || self.pending >= ENOUGH || self.is_full(channel) {
            Queued::Enough
        } else {
            Queued::Taken
        }
    }

    /// Copies what credit held back of an array that the page has lent, or a link that is still being dialled.
    fn copy_lent(&mut self, channel: u32) {
        if let Some(Content::Array(lent @ Array { is_lent: true, .. })) = self.inner.last_waiting(channel) {
            let array = glue::copy_large(&lent.array, lent.start, lent.end);
            *lent = Array { array, start: 0, end: lent.end - lent.start, is_lent: false, is_spare: true };
        }
    }

    /// Takes in that a part of the last physical message has been sent, and gives its memory back.
    fn sent_part(&mut self, channel: Option<u32>, payload: Content, is_ascii: bool, sent: u64) {
        let bytes = if is_ascii { payload.units().into() } else { payload.bytes() };
        if let Some(channel) = channel {
            self.inner.handed_over_part(channel, bytes, sent);
        }
        if let Content::Array(Array { array, is_spare: true, .. }) = payload {
            glue::recycle(&array);
        }
    }

    /// Begins a flush; returns the bytes that the physical socket has carried, and the time. `None` while it is not open.
    fn begin_flush(&mut self) -> Option<(u64, Millis)> {
        self.flush_is_due = false;
        self.pending = 0;
        self.flushed_at = glue::now();
        self.set_timer();
        self.is_open.then(|| (self.sent(), glue::millis()))
    }

    /// The next physical message.
    fn next(&mut self, now: Millis) -> Option<Outgoing> {
        let transmit = self.inner.poll_transmit(now, &mut self.batch)?;
        // Kept before it is sent: the page may have replaced `send`, and its code may call in.
        Some(match transmit {
            Transmit::Text { channel, fin, text } => {
                let head = text_head(channel, fin);
                self.inner.keep(text.units(), || Held::Text(head.clone(), text_of(&text)));
                Outgoing::Text(channel, head, text)
            }
            Transmit::Batch => {
                let is_ascii = self.write_batch();
                let bytes = self.out.get(self.out_start..).unwrap_or_default();
                self.inner.keep(bytes.len() as u32, || Held::copy(bytes));
                Outgoing::Batch(std::mem::take(&mut self.out), self.out_start, is_ascii)
            }
            Transmit::Raw { channel, mut payload } => {
                self.inner.keep(payload.units(), || payload.hold());
                Outgoing::Raw(channel, payload)
            }
            Transmit::Again(held) => Outgoing::Again(held),
        })
    }

    /// Takes in that a batch has been sent, and takes its memory back.
    fn sent_batch(&mut self, out: Vec<u8>, is_ascii: bool, sent: u64) {
        if out.capacity() <= KEPT {
            self.out = out;
        }
        let mut batch = std::mem::take(&mut self.batch);
        for run in [&mut batch.text, &mut batch.binary] {
            while let Some(part) = run.pop() {
                self.sent_part(part.channel, part.payload, is_ascii, sent);
            }
        }
        self.batch = batch;
    }
}

/// A physical message.
enum Outgoing {
    /// A channel, the head, and the text.
    Text(u32, Vec<u8>, Content),
    /// The bytes, where in them the batch begins, and whether its text is ASCII.
    Batch(Vec<u8>, usize, bool),
    /// A channel, and its payload.
    Raw(u32, Content),
    /// Messages that an earlier connection may have lost.
    Again(Held),
}

/// The text of a message.
fn text_of(content: &Content) -> JsString {
    match content {
        Content::Text(text) => text.get(),
        _ => glue::take_run(),
    }
}

/// Sends queued messages, as far as credit allows.
pub(crate) fn flush(link: u32) {
    let Some((sent, now)) = with(link, PageLink::begin_flush) else { return };
    // The page's replacement of `send` may call in: the link is not borrowed meanwhile.
    while let Some(outgoing) = with(link, |this| this.next(now)) {
        match outgoing {
            Outgoing::Text(channel, head, content) => {
                let text = text_of(&content);
                let bytes = glue::send_text(link, head.as_ptr() as u32, head.len() as u32, &text) as u64;
                with(link, |this| {
                    this.inner.handed_over(bytes);
                    let content = bytes.saturating_sub(head.len() as u64);
                    this.inner.handed_over_part(channel, content, sent);
                });
            }
            Outgoing::Batch(out, start, is_ascii) => {
                let bytes = (out.len() - start) as u32;
                glue::send_memory(link, (out.as_ptr() as usize + start) as u32, bytes);
                with(link, |this| {
                    this.inner.handed_over(bytes.into());
                    this.sent_batch(out, is_ascii, sent);
                });
            }
            Outgoing::Again(held) => {
                let bytes = match &held {
                    Held::Text(head, text) => {
                        glue::send_text(link, head.as_ptr() as u32, head.len() as u32, text) as u64
                    }
                    Held::Array { part: array, .. } => {
                        glue::send_array(link, array);
                        glue::length_of(array).into()
                    }
                };
                with(link, |this| this.inner.handed_over(bytes));
            }
            Outgoing::Raw(channel, payload) => {
                let bytes = payload.units();
                match &payload {
                    Content::Array(array) => {
                        glue::send_array(link, &glue::part(&array.array, array.start, array.end));
                    }
                    Content::Small(small) => glue::send_memory(link, small.bytes().as_ptr() as u32, bytes),
                    Content::Empty | Content::Text(_) => {}
                }
                with(link, |this| {
                    this.inner.handed_over(bytes.into());
                    this.sent_part(Some(channel), payload, true, sent);
                });
            }
        }
    }
    // Opens beyond the limit that the server has announced meanwhile have failed.
    tell_later(link);
    with(link, PageLink::set_timer);
    glue::flushed(link);
}

//! The wasm client: the protocol's state machine with an interface made of numbers.
//!
//! Strings and buffers never cross into wasm: a short string costs 420 ns there and a number 4 ns.
//! JavaScript keeps every payload in a table and names it here by its place; what wasm wants sent,
//! and what has arrived, it writes as 32-bit words that JavaScript reads out of its memory. No
//! method calls back into the page, so no method can be entered twice.

mod payload;
mod words;

use manysocket_protocol::connection::{self, Side};
use manysocket_protocol::{Millis, Settings, Transmit, Violation};
use wasm_bindgen::prelude::*;

use payload::Slot;

// Half the size of the default allocator, whose thread support a page has no use for (KB gzip: 9.0
// against 11.8 for classes of this size).
#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();

/// What [`Connection::transmit`] found to send.
#[wasm_bindgen]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outgoing {
    /// Nothing.
    None = 0,
    /// A physical text message. Words: channel, 1 if it ends its message, payload.
    Text = 1,
    /// A batch. Words: count of texts, their payloads, count of binaries, their payloads.
    Batch = 2,
    /// A physical binary message of one payload. Words: the payload.
    Raw = 3,
}

/// The client's end of one link. A payload is four words: its place in the table, where in it the
/// piece begins, how long the piece is, and 1 if the payload is thereby sent to its end.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Connection {
    inner: connection::Connection<Slot>,
    /// The headers of the batch being received or sent.
    headers: Vec<u8>,
    /// Events, or what to send.
    words: Vec<u32>,
    violation: Option<Violation>,
}

#[wasm_bindgen]
impl Connection {
    /// A link that is about to be dialled. Times are milliseconds of any monotonic clock.
    #[wasm_bindgen(constructor)]
    pub fn new(now: f64) -> Connection {
        // The server pings: a timer in a page sleeps when its tab does (§8).
        let settings = Settings { ping_interval: 0, ..Settings::default() };
        Connection {
            inner: connection::Connection::new(Side::Client, settings, false, millis(now)),
            headers: Vec::new(),
            words: Vec::new(),
            violation: None,
        }
    }

    /// Channels that have not ended.
    #[wasm_bindgen(getter)]
    pub fn channels(&self) -> u32 {
        self.inner.channels()
    }

    /// Opens a channel; 0 if the server does not allow any more.
    pub fn open(&mut self, target: u32, target_units: u32, protocols: u32, protocols_units: u32) -> u32 {
        let target = Slot::text(target, target_units);
        let protocols = Slot::text(protocols, protocols_units);
        self.inner.open(target, protocols).unwrap_or(0)
    }

    /// Queues a text; false if the channel does not take any more.
    #[wasm_bindgen(js_name = sendText)]
    pub fn send_text(&mut self, channel: u32, slot: u32, units: u32) -> bool {
        let text = Slot::text(slot, units);
        self.inner.send(channel, manysocket_protocol::Kind::Text, text)
    }

    /// Queues a binary message; false if the channel does not take any more.
    #[wasm_bindgen(js_name = sendBinary)]
    pub fn send_binary(&mut self, channel: u32, slot: u32, bytes: u32) -> bool {
        self.inner.send(channel, manysocket_protocol::Kind::Binary, Slot::binary(slot, bytes))
    }

    /// Closes a channel after what is queued; code 0: none.
    pub fn close(&mut self, channel: u32, code: u16, reason: u32, reason_units: u32) {
        let reason = Slot::text(reason, reason_units);
        self.inner.close(channel, (code != 0).then_some(code), reason);
    }

    /// Gives a channel up.
    pub fn abort(&mut self, channel: u32) {
        self.inner.abort(channel);
    }

    /// The page took a message of so many units.
    pub fn consumed(&mut self, channel: u32, units: u32) {
        self.inner.consumed(channel, 1, units);
    }

    /// Makes room for the headers of a batch, and tells where in memory to write them.
    #[wasm_bindgen(js_name = headersBuffer)]
    pub fn headers_buffer(&mut self, length: u32) -> *const u8 {
        self.headers.clear();
        self.headers.resize(length as usize, 0);
        self.headers.as_ptr()
    }

    /// Takes in the batch whose headers have been written; false on a violation.
    #[wasm_bindgen(js_name = receiveBatch)]
    pub fn receive_batch(&mut self, now: f64, text_units: u32, binary_bytes: u32) -> bool {
        let received = self.inner.receive_batch(millis(now), &self.headers, text_units, binary_bytes);
        self.keep(received)
    }

    /// Takes in a physical text message; false on a violation.
    #[wasm_bindgen(js_name = receiveText)]
    pub fn receive_text(&mut self, now: f64, channel: u32, fin: bool, units: u32) -> bool {
        let received = self.inner.receive_text(millis(now), channel, fin, units);
        self.keep(received)
    }

    /// Whether a physical binary message is a payload rather than a batch.
    #[wasm_bindgen(js_name = expectsRaw)]
    pub fn expects_raw(&self, length: u32) -> bool {
        self.inner.expects_raw(length)
    }

    /// Takes in a physical binary message that is a payload; false on a violation.
    #[wasm_bindgen(js_name = receiveRaw)]
    pub fn receive_raw(&mut self, now: f64, length: u32) -> bool {
        let received = self.inner.receive_raw(millis(now), length);
        self.keep(received)
    }

    /// Where in memory stands what the server did wrong, for the console: ASCII.
    #[wasm_bindgen(js_name = violationPointer)]
    pub fn violation_pointer(&self) -> *const u8 {
        self.violation.map_or("", |violation| violation.reason()).as_ptr()
    }

    /// The length of that.
    #[wasm_bindgen(js_name = violationLength)]
    pub fn violation_length(&self) -> u32 {
        self.violation.map_or(0, |violation| violation.reason().len() as u32)
    }

    /// Writes all events as words; tells how many words. See [`words::event`].
    pub fn events(&mut self) -> u32 {
        self.words.clear();
        while let Some(event) = self.inner.poll_event() {
            words::event(&event, &mut self.words);
        }
        self.words.len() as u32
    }

    /// Writes the next physical message to send as words, a batch's headers as bytes.
    pub fn transmit(&mut self) -> Outgoing {
        self.words.clear();
        match self.inner.poll_transmit() {
            None => Outgoing::None,
            Some(Transmit::Text { channel, fin, text }) => {
                self.words.extend([channel, fin.into()]);
                words::payload(&text, &mut self.words);
                Outgoing::Text
            }
            Some(Transmit::Batch(batch)) => {
                self.headers = words::batch(batch, &mut self.words);
                Outgoing::Batch
            }
            Some(Transmit::Raw(payload)) => {
                words::payload(&payload, &mut self.words);
                Outgoing::Raw
            }
        }
    }

    /// Writes the first batch, for the handshake, as [`Outgoing::Batch`].
    pub fn handshake(&mut self, max_bytes: u32) {
        self.words.clear();
        let batch = self.inner.handshake(max_bytes);
        self.headers = words::batch(batch, &mut self.words);
    }

    /// Where the words are in memory.
    #[wasm_bindgen(js_name = wordsPointer)]
    pub fn words_pointer(&self) -> *const u32 {
        self.words.as_ptr()
    }

    /// Where the headers of a batch to send are in memory.
    #[wasm_bindgen(js_name = headersPointer)]
    pub fn headers_pointer(&self) -> *const u8 {
        self.headers.as_ptr()
    }

    /// The length of those headers.
    #[wasm_bindgen(js_name = headersLength)]
    pub fn headers_length(&self) -> u32 {
        self.headers.len() as u32
    }

    /// When to call [`Connection::handle_timeout`]; infinity: never.
    #[wasm_bindgen(js_name = pollTimeout)]
    pub fn poll_timeout(&self) -> f64 {
        self.inner.poll_timeout().map_or(f64::INFINITY, |at| at as f64)
    }

    /// Does what is due; false if the link is dead.
    #[wasm_bindgen(js_name = handleTimeout)]
    pub fn handle_timeout(&mut self, now: f64) -> bool {
        let handled = self.inner.handle_timeout(millis(now));
        self.keep(handled)
    }
}

impl Connection {
    fn keep(&mut self, result: Result<(), Violation>) -> bool {
        self.violation = result.err();
        self.violation.is_none()
    }
}

/// A page's clock has fractions of a millisecond; the protocol has no use for them.
fn millis(now: f64) -> Millis {
    now as Millis
}

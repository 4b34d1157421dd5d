//! The wasm client: the protocol's state machine with an interface made of numbers.
//!
//! Strings and buffers never cross into wasm: a short string costs 420 ns there and a number 4 ns.
//! JavaScript keeps every payload in a table and names it here by its place; what wasm wants sent,
//! and what has arrived, it writes as 32-bit words that JavaScript reads out of its memory. No
//! function calls back into the page, so none can be entered twice. `js/wasm.js` calls the functions as wasm exports them.

#[cfg(not(target_arch = "wasm32"))]
mod native;
mod payload;
mod words;

use std::cell::RefCell;

use manysocket_protocol::connection::{Connection, Side};
use manysocket_protocol::{Batch, Kind, Millis, Settings, Transmit, Violation};
use wasm_bindgen::prelude::*;

#[cfg(not(target_arch = "wasm32"))]
pub use native::*;
use payload::Slot;

// Half the size of the default allocator, whose thread support a page has no use for (KB gzip: 9.0
// against 11.8 for classes of this size).
#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();

/// What [`transmit`] found to send: nothing.
pub const NOTHING: u32 = 0;
/// A physical text message. Words: channel, 1 if it ends its message, payload.
pub const TEXT: u32 = 1;
/// A batch. Words: count of texts, their payloads, count of binaries, their payloads.
pub const BATCH: u32 = 2;
/// A physical binary message of one payload. Words: the payload.
pub const RAW: u32 = 3;

/// The client's end of one link. A payload is four words: its place in the table, where in it the
/// piece begins, how long the piece is, and 1 if the payload is thereby sent to its end.
struct Link {
    inner: Connection<Slot>,
    /// The headers of the batch being received.
    headers: Vec<u8>,
    /// The batch being sent.
    batch: Batch<Slot>,
    /// Events, or what to send.
    words: Vec<u32>,
    /// The number of the rule that the server broke.
    violation: u32,
}

impl Link {
    fn keep(&mut self, result: Result<(), Violation>) -> bool {
        self.violation = result.map_or_else(|violation| violation.number(), |()| 0);
        self.violation == 0
    }
}

thread_local! {
    /// By number. JavaScript holds numbers and not objects: exported classes were 0.5 KB more after compression.
    static LINKS: RefCell<Vec<Option<Box<Link>>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `act` with a link; one that is not there is a mistake of this package's, and answered with nothing.
fn with<T: Default>(link: u32, act: impl FnOnce(&mut Link) -> T) -> T {
    LINKS.with(|links| match links.try_borrow_mut() {
        Ok(mut links) => {
            links.get_mut(link as usize).and_then(Option::as_mut).map(|link| act(link)).unwrap_or_default()
        }
        Err(_) => T::default(),
    })
}

/// Makes a link that is about to be dialled; gives its number. Times are milliseconds of any monotonic clock.
#[wasm_bindgen]
pub fn create(now: f64) -> u32 {
    // The server pings: a timer in a page sleeps when its tab does (§8).
    let settings = Settings { ping_interval: 0, ..Settings::default() };
    let link = Some(Box::new(Link {
        inner: Connection::new(Side::Client, settings, false, millis(now)),
        headers: Vec::new(),
        batch: Batch::default(),
        words: Vec::new(),
        violation: 0,
    }));
    LINKS.with(|links| {
        let Ok(mut links) = links.try_borrow_mut() else { return u32::MAX };
        let free = links.iter().position(Option::is_none);
        match free {
            Some(at) => links[at] = link,
            None => links.push(link),
        }
        free.unwrap_or(links.len() - 1) as u32
    })
}

/// Gives a link up.
#[wasm_bindgen]
pub fn release(link: u32) {
    LINKS.with(|links| {
        if let Ok(mut links) = links.try_borrow_mut()
            && let Some(link) = links.get_mut(link as usize)
        {
            *link = None;
        }
    });
}

/// Channels that have not ended.
#[wasm_bindgen]
pub fn channels(link: u32) -> u32 {
    with(link, |link| link.inner.channels())
}

/// Opens a channel; 0 if the server does not allow any more.
#[wasm_bindgen]
pub fn open(link: u32, target: u32, target_units: u32, protocols: u32, protocols_units: u32) -> u32 {
    with(link, |link| {
        let target = Slot::text(target, target_units);
        let protocols = Slot::text(protocols, protocols_units);
        link.inner.open(target, protocols).unwrap_or(0)
    })
}

/// Queues a text; false if the channel does not take any more.
#[wasm_bindgen(js_name = sendText)]
pub fn send_text(link: u32, channel: u32, slot: u32, units: u32) -> bool {
    with(link, |link| {
        let text = Slot::text(slot, units);
        link.inner.send(channel, Kind::Text, text).is_ok()
    })
}

/// Queues a binary message; false if the channel does not take any more.
#[wasm_bindgen(js_name = sendBinary)]
pub fn send_binary(link: u32, channel: u32, slot: u32, bytes: u32) -> bool {
    with(link, |link| link.inner.send(channel, Kind::Binary, Slot::binary(slot, bytes)).is_ok())
}

/// Closes a channel after what is queued; code 0: none.
#[wasm_bindgen]
pub fn close(link: u32, channel: u32, code: u16, reason: u32, reason_units: u32) {
    with(link, |link| {
        let reason = Slot::text(reason, reason_units);
        link.inner.close(channel, (code != 0).then_some(code), reason);
    });
}

/// Gives a channel up.
#[wasm_bindgen]
pub fn abort(link: u32, channel: u32) {
    with(link, |link| link.inner.abort(channel));
}

/// The page took a message of so many units; true if there is something to send for that.
#[wasm_bindgen]
pub fn consumed(link: u32, channel: u32, units: u32) -> bool {
    with(link, |link| link.inner.consumed(channel, 1, units))
}

/// Makes room for the headers of a batch, and tells where in memory to write them.
#[wasm_bindgen(js_name = headersBuffer)]
pub fn headers_buffer(link: u32, length: u32) -> u32 {
    with(link, |link| {
        link.headers.clear();
        link.headers.resize(length as usize, 0);
        link.headers.as_ptr() as u32
    })
}

/// Takes in the batch whose headers have been written; false on a violation.
#[wasm_bindgen(js_name = receiveBatch)]
pub fn receive_batch(link: u32, now: f64, text_units: u32, binary_bytes: u32) -> bool {
    with(link, |link| {
        let received = link.inner.receive_batch(millis(now), &link.headers, text_units, binary_bytes);
        link.keep(received)
    })
}

/// Takes in a physical text message; false on a violation.
#[wasm_bindgen(js_name = receiveText)]
pub fn receive_text(link: u32, now: f64, channel: u32, fin: bool, units: u32) -> bool {
    with(link, |link| {
        let received = link.inner.receive_text(millis(now), channel, fin, units);
        link.keep(received)
    })
}

/// Whether a physical binary message is a payload rather than a batch.
#[wasm_bindgen(js_name = expectsRaw)]
pub fn expects_raw(link: u32, length: u32) -> bool {
    with(link, |link| link.inner.expects_raw(length))
}

/// Takes in a physical binary message that is a payload; false on a violation.
#[wasm_bindgen(js_name = receiveRaw)]
pub fn receive_raw(link: u32, now: f64, length: u32) -> bool {
    with(link, |link| {
        let received = link.inner.receive_raw(millis(now), length);
        link.keep(received)
    })
}

/// The number of the rule that the server broke (docs/protocol.md §9); 0: none.
#[wasm_bindgen]
pub fn violation(link: u32) -> u32 {
    with(link, |link| link.violation)
}

/// Writes all events as words; tells how many words. See `words::event`.
#[wasm_bindgen]
pub fn events(link: u32) -> u32 {
    with(link, |link| {
        link.words.clear();
        while let Some(event) = link.inner.poll_event() {
            words::event(&event, &mut link.words);
        }
        link.words.len() as u32
    })
}

/// Writes the next physical message to send as words, a batch's headers as bytes.
#[wasm_bindgen]
pub fn transmit(link: u32) -> u32 {
    with(link, |link| {
        link.words.clear();
        match link.inner.poll_transmit(&mut link.batch) {
            None => NOTHING,
            Some(Transmit::Text { channel, fin, text }) => {
                link.words.extend([channel, fin.into()]);
                words::payload(&text, &mut link.words);
                TEXT
            }
            Some(Transmit::Batch) => {
                words::batch(&link.batch, &mut link.words);
                BATCH
            }
            Some(Transmit::Raw { payload, .. }) => {
                words::payload(&payload, &mut link.words);
                RAW
            }
        }
    })
}

/// Writes the first batch, for the handshake, as [`BATCH`].
#[wasm_bindgen]
pub fn handshake(link: u32, max_bytes: u32) {
    with(link, |link| {
        link.words.clear();
        link.inner.handshake(max_bytes, &mut link.batch);
        words::batch(&link.batch, &mut link.words);
    });
}

/// Where the words are in memory.
#[wasm_bindgen(js_name = wordsPointer)]
pub fn words_pointer(link: u32) -> u32 {
    with(link, |link| link.words.as_ptr() as u32)
}

/// Where the headers of a batch to send are in memory.
#[wasm_bindgen(js_name = headersPointer)]
pub fn headers_pointer(link: u32) -> u32 {
    with(link, |link| link.batch.headers.as_ptr() as u32)
}

/// The length of those headers.
#[wasm_bindgen(js_name = headersLength)]
pub fn headers_length(link: u32) -> u32 {
    with(link, |link| link.batch.headers.len() as u32)
}

/// When to call [`handle_timeout`]; infinity: never.
#[wasm_bindgen(js_name = pollTimeout)]
pub fn poll_timeout(link: u32) -> f64 {
    with(link, |link| link.inner.poll_timeout().map_or(f64::INFINITY, |at| at as f64))
}

/// Does what is due; false if the link is dead.
#[wasm_bindgen(js_name = handleTimeout)]
pub fn handle_timeout(link: u32, now: f64) -> bool {
    with(link, |link| {
        let handled = link.inner.handle_timeout(millis(now));
        link.keep(handled)
    })
}

/// A page's clock has fractions of a millisecond; the protocol has no use for them.
fn millis(now: f64) -> Millis {
    now as Millis
}

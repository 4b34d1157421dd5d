//! Functions of JavaScript for Rust (`js/glue.js`).
//!
//! Links are numbers. Strings of Rust cross as address and length.

use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/core.js")]
extern "C" {
    /// Hands over the exports of the wasm.
    pub(crate) fn begin(exports: &JsValue);
}

#[wasm_bindgen(module = "/js/delivery.js")]
extern "C" {
    /// Delivers queued events in a later task.
    #[wasm_bindgen(js_name = deliverLater)]
    pub(crate) fn deliver_later();
}

#[wasm_bindgen(module = "/js/utf8.js")]
extern "C" {
    /// The bytes that a text has in UTF-8.
    #[wasm_bindgen(js_name = utf8Length)]
    pub(crate) fn utf8_length(text: &JsString) -> f64;
}

#[wasm_bindgen(module = "/js/glue.js")]
extern "C" {
    // Handles. Those of js-sys bring 4 KB of closures and promises along.

    /// A string.
    #[derive(Clone)]
    pub type JsString;
    /// A buffer.
    #[derive(Clone)]
    pub type ArrayBuffer;
    /// An array over a buffer, or a part of one.
    #[derive(Clone)]
    pub type Uint8Array;
}

/// The imports. Their numbers are `i32`: wasm-bindgen writes a function of JavaScript around an import with others.
mod raw {
    use wasm_bindgen::prelude::*;

    use super::{ArrayBuffer, JsString, Uint8Array};

    #[wasm_bindgen(module = "/js/glue.js")]
    extern "C" {
        // ---- time ----

        /// Milliseconds of a monotonic clock.
        pub(crate) fn now() -> f64;
        /// Calls `timeout` for a link in some milliseconds, in place of an earlier call; Infinity: never.
        #[wasm_bindgen(js_name = setTimer)]
        pub(crate) fn set_timer(link: i32, milliseconds: f64);
        /// Calls `flush` for a link once all messages of this task are queued; not 0 if the caller is to flush at
        /// once, too.
        #[wasm_bindgen(js_name = flushLater)]
        pub(crate) fn flush_later(link: i32) -> i32;

        /// Called when messages may have left.
        pub(crate) fn flushed(link: i32);

        // ---- the physical socket ----

        /// Makes the physical socket. The URL's length is in bytes.
        pub(crate) fn dial(link: i32, url: i32, length: i32);
        /// The bytes that the physical socket still holds.
        #[wasm_bindgen(js_name = bufferedAmount)]
        pub(crate) fn buffered_amount(link: i32) -> f64;
        /// Sends a text behind a head of up to eleven characters; returns its bytes, the head included.
        #[wasm_bindgen(js_name = sendText)]
        pub(crate) fn send_text(link: i32, head: i32, length: i32, text: &JsString) -> f64;
        /// Sends bytes of wasm's memory.
        #[wasm_bindgen(js_name = sendMemory)]
        pub(crate) fn send_memory(link: i32, bytes: i32, length: i32);
        /// Sends an array.
        #[wasm_bindgen(js_name = sendArray)]
        pub(crate) fn send_array(link: i32, array: &Uint8Array);
        /// Gives a link up that broke a rule of `docs/protocol.md` §9.
        pub(crate) fn broke(link: i32, rule: i32);
        /// Gives a link up that sent a physical message of this length.
        #[wasm_bindgen(js_name = sentTooMuch)]
        pub(crate) fn sent_too_much(link: i32, length: i32);
        /// Opens the unanswered sockets of a link over another one.
        pub(crate) fn silent(link: i32);
        /// Closes the physical socket of a link that no socket uses.
        #[wasm_bindgen(js_name = closeIdle)]
        pub(crate) fn close_idle(link: i32);
        /// Dials another physical socket for a link; the addition to the query is in wasm's memory.
        pub(crate) fn redial(link: i32, query: i32, length: i32);
        /// Ends a link that cannot be resumed.
        #[wasm_bindgen(js_name = giveUp)]
        pub(crate) fn give_up(link: i32);

        // ---- sockets ----

        /// Queues a text for a socket.
        #[wasm_bindgen(js_name = arrivedText)]
        pub(crate) fn arrived_text(link: i32, key: i32, text: &JsString);
        /// Queues a binary message for a socket.
        #[wasm_bindgen(js_name = arrivedBinary)]
        pub(crate) fn arrived_binary(link: i32, key: i32, buffer: &ArrayBuffer, start: i32, length: i32);
        /// Fetches cookies for a ticket of 16 bytes. The further events of the socket wait for that.
        pub(crate) fn cookies(link: i32, key: i32, ticket: i32);
        /// Queues `open` for a socket, with the subprotocol.
        pub(crate) fn opened(link: i32, key: i32, protocol: i32, length: i32);
        /// Queues `error` for a socket, and says why on the console: a kind of failure, a status, and the server's words.
        pub(crate) fn failed(link: i32, key: i32, kind: i32, status: i32, words: i32, length: i32);
        /// Queues `close` for a socket.
        pub(crate) fn closed(
            link: i32,
            key: i32,
            code: i32,
            reason: i32,
            length: i32,
            was_clean: i32,
            unsent: f64,
        );

        // ---- text ----

        /// A part of a text. It keeps the whole text.
        pub(crate) fn slice(text: &JsString, start: i32, end: i32) -> JsString;
        /// A part of a text with separate memory.
        #[wasm_bindgen(js_name = sliceAlone)]
        pub(crate) fn slice_alone(text: &JsString, start: i32, end: i32) -> JsString;
        /// 1 if a surrogate pair lies across a position.
        #[wasm_bindgen(js_name = isPair)]
        pub(crate) fn is_pair(text: &JsString, at: i32) -> i32;
        /// The UTF-16 code unit at a position, in bounds.
        #[wasm_bindgen(js_name = charCode)]
        pub(crate) fn char_code(text: &JsString, at: i32) -> i32;
        /// Appends a text to the run that is being put together.
        #[wasm_bindgen(js_name = addText)]
        pub(crate) fn add_text(text: &JsString);
        /// Encodes the run into wasm's memory, and begins another; returns its bytes.
        #[wasm_bindgen(js_name = encodeRun)]
        pub(crate) fn encode_run(target: i32) -> i32;
        /// The run, and begins another.
        #[wasm_bindgen(js_name = takeRun)]
        pub(crate) fn take_run() -> JsString;
        /// The text that bytes of a buffer are; a text of no use if they are not UTF-8, and then the next call of
        /// [`decoded_units`] returns -1.
        pub(crate) fn decode(buffer: &ArrayBuffer, start: i32, end: i32) -> JsString;
        /// The length of the last decoded text, in UTF-16 code units; -1 if it was not UTF-8.
        #[wasm_bindgen(js_name = decodedUnits)]
        pub(crate) fn decoded_units() -> i32;

        // ---- bytes ----

        /// Copies the part of a buffer from `start` on, at most `length` bytes, into wasm's memory.
        #[wasm_bindgen(js_name = copyOut)]
        pub(crate) fn copy_out(buffer: &ArrayBuffer, start: i32, length: i32, target: i32);
        /// A part of an array, over the same memory.
        pub(crate) fn part(array: &Uint8Array, start: i32, end: i32) -> Uint8Array;
        /// An array with a copy of bytes of wasm's memory.
        #[wasm_bindgen(js_name = copyIn)]
        pub(crate) fn copy_in(bytes: i32, length: i32) -> Uint8Array;
        /// Copies an array's bytes into wasm's memory.
        #[wasm_bindgen(js_name = copyArrayOut)]
        pub(crate) fn copy_array_out(array: &Uint8Array, target: i32);
        /// A copy of an array.
        pub(crate) fn copy(array: &Uint8Array) -> Uint8Array;
        /// The length of an array.
        #[wasm_bindgen(js_name = lengthOf)]
        pub(crate) fn length_of(array: &Uint8Array) -> i32;
        /// A copy of a part of a large array. It may be longer than the part.
        #[wasm_bindgen(js_name = copyLarge)]
        pub(crate) fn copy_large(array: &Uint8Array, start: i32, end: i32) -> Uint8Array;
        /// Reuses the memory of such a copy for the next.
        pub(crate) fn recycle(array: &Uint8Array);
        /// An array over fresh memory.
        #[wasm_bindgen(js_name = newArray)]
        pub(crate) fn new_array(length: i32) -> Uint8Array;
        /// Copies a part of a buffer into an array.
        #[wasm_bindgen(js_name = copyBuffer)]
        pub(crate) fn copy_buffer(from: &ArrayBuffer, start: i32, length: i32, to: &Uint8Array, at: i32);
        /// A part of a buffer, copied.
        #[wasm_bindgen(js_name = sliceBuffer)]
        pub(crate) fn slice_buffer(buffer: &ArrayBuffer, start: i32, end: i32) -> ArrayBuffer;
        /// The buffer of an array that has all of it.
        #[wasm_bindgen(js_name = bufferOf)]
        pub(crate) fn buffer_of(array: &Uint8Array) -> ArrayBuffer;
    }
}

pub(crate) use raw::{add_text, buffer_of, copy, now, recycle, take_run};

/// Addresses, lengths and links are `u32` in Rust.
trait Number {
    type Raw;
    fn raw(self) -> Self::Raw;
}

impl Number for u32 {
    type Raw = i32;
    fn raw(self) -> i32 {
        self.cast_signed()
    }
}

impl Number for f64 {
    type Raw = f64;
    fn raw(self) -> f64 {
        self
    }
}

impl<'a, T> Number for &'a T {
    type Raw = &'a T;
    fn raw(self) -> &'a T {
        self
    }
}

macro_rules! with_u32 {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty $(as $cast:ty)?)?;)*) => {
        $(pub(crate) fn $name($($argument: $type),*) $(-> $result)? {
            raw::$name($(Number::raw($argument)),*) $($(as $cast)?)?
        })*
    };
}

with_u32! {
    fn set_timer(link: u32, milliseconds: f64);
    fn flush_later(link: u32) -> u32 as u32;
    fn flushed(link: u32);
    fn dial(link: u32, url: u32, length: u32);
    fn buffered_amount(link: u32) -> f64;
    fn send_text(link: u32, head: u32, length: u32, text: &JsString) -> f64;
    fn send_memory(link: u32, bytes: u32, length: u32);
    fn send_array(link: u32, array: &Uint8Array);
    fn broke(link: u32, rule: u32);
    fn sent_too_much(link: u32, length: u32);
    fn silent(link: u32);
    fn close_idle(link: u32);
    fn redial(link: u32, query: u32, length: u32);
    fn give_up(link: u32);
    fn length_of(array: &Uint8Array) -> u32 as u32;
    fn arrived_text(link: u32, key: u32, text: &JsString);
    fn arrived_binary(link: u32, key: u32, buffer: &ArrayBuffer, start: u32, length: u32);
    fn cookies(link: u32, key: u32, ticket: u32);
    fn opened(link: u32, key: u32, protocol: u32, length: u32);
    fn failed(link: u32, key: u32, kind: u32, status: u32, words: u32, length: u32);
    fn closed(link: u32, key: u32, code: u32, reason: u32, length: u32, was_clean: u32, unsent: f64);
    fn slice(text: &JsString, start: u32, end: u32) -> JsString;
    fn slice_alone(text: &JsString, start: u32, end: u32) -> JsString;
    fn is_pair(text: &JsString, at: u32) -> u32 as u32;
    fn char_code(text: &JsString, at: u32) -> u32 as u32;
    fn encode_run(target: u32) -> u32 as u32;
    fn decode(buffer: &ArrayBuffer, start: u32, end: u32) -> JsString;
    fn decoded_units() -> i32;
    fn copy_out(buffer: &ArrayBuffer, start: u32, length: u32, target: u32);
    fn part(array: &Uint8Array, start: u32, end: u32) -> Uint8Array;
    fn copy_in(bytes: u32, length: u32) -> Uint8Array;
    fn copy_array_out(array: &Uint8Array, target: u32);
    fn copy_large(array: &Uint8Array, start: u32, end: u32) -> Uint8Array;
    fn new_array(length: u32) -> Uint8Array;
    fn copy_buffer(from: &ArrayBuffer, start: u32, length: u32, to: &Uint8Array, at: u32);
    fn slice_buffer(buffer: &ArrayBuffer, start: u32, end: u32) -> ArrayBuffer;
}

/// The protocol's clock: a page's has fractions of a millisecond, of which the protocol has no use.
pub(crate) fn millis() -> u64 {
    now() as u64
}

/// A text, in Rust's memory. Each code unit is a call: for short ones.
pub(crate) fn to_string(text: &JsString, units: u32) -> String {
    let units = (0..units).map(|at| char_code(text, at) as u16);
    char::decode_utf16(units).map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

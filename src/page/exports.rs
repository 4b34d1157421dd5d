//! The exports that JavaScript calls (`js/link.js`): functions of numbers and handles, called as the wasm exports them.
//!
//! A link is a number. One that has been given up does nothing.

use wasm_bindgen::prelude::*;

use crate::page::glue::{ArrayBuffer, JsString, Uint8Array};
use crate::page::link::{self, PageLink};
use crate::page::table;

/// Runs when the wasm is started.
#[wasm_bindgen(start)]
pub fn start() {
    crate::page::glue::begin(&wasm_bindgen::exports());
}

/// Makes a link that is about to be dialled; returns its number. Infinity: it is never idle. `resumes`: 1 if it outlives its
/// physical sockets.
#[wasm_bindgen]
pub fn create(idle_timeout: f64, resumes: u32) -> u32 {
    let idle_timeout = (idle_timeout != f64::INFINITY).then_some(idle_timeout as u64);
    table::add(|number| PageLink::new(number, idle_timeout, resumes == 1))
}

/// Gives a link up.
#[wasm_bindgen]
pub fn release(link: u32) {
    table::remove(link);
}

/// Opens a socket; 0 if the server's limit forbids another.
#[wasm_bindgen]
#[expect(clippy::too_many_arguments, reason = "each string crosses as a handle and its length")]
pub fn open(
    link: u32,
    key: u32,
    target: JsString,
    units: u32,
    protocols: JsString,
    more: u32,
    headers: JsString,
    further: u32,
) -> u32 {
    link::open(link, key, (target, units), (protocols, more), (headers, further))
}

/// Queues a text; 0 if the socket sends no more, 2 if further messages have to wait until it is no longer full.
#[wasm_bindgen(js_name = sendText)]
pub fn send_text(link: u32, channel: u32, text: JsString, units: u32) -> u32 {
    link::send_text(link, channel, text, units)
}

/// Queues a binary message. Returns the same as `sendText`.
#[wasm_bindgen(js_name = sendBinary)]
pub fn send_binary(link: u32, channel: u32, array: Uint8Array, length: u32) -> u32 {
    link::send_binary(link, channel, array, length)
}

/// Returns 1 while further messages of a socket have to wait.
#[wasm_bindgen(js_name = isFull)]
pub fn is_full(link: u32, channel: u32) -> u32 {
    table::with(link, |link| link.is_full(channel)).into()
}

/// Takes that the page has read a message.
#[wasm_bindgen]
pub fn consumed(link: u32, channel: u32, units: u32) {
    table::with(link, |link| link.consumed(channel, units));
}

/// Closes a socket after its queued messages; code 0: none.
#[wasm_bindgen]
pub fn close(link: u32, channel: u32, code: u16, reason: JsString, units: u32) {
    link::close(link, channel, code, reason, units);
}

/// Asks the server for a sign of life.
#[wasm_bindgen]
pub fn probe(link: u32) {
    table::with(link, PageLink::probe);
}

/// Gives a socket up without an event.
#[wasm_bindgen]
pub fn abort(link: u32, channel: u32) {
    table::with(link, |link| link.abort(channel));
}

/// Gives a socket up: `error`, then `close` with 1006.
#[wasm_bindgen]
pub fn fail(link: u32, channel: u32) {
    link::fail(link, channel);
}

/// Returns the bytes of a socket's messages that have not left.
#[wasm_bindgen]
pub fn buffered(link: u32, channel: u32) -> f64 {
    table::with(link, |link| link.buffered(channel))
}

/// Dials: the physical handshake carries the sockets opened until now.
#[wasm_bindgen]
pub fn dial(link: u32, url: &JsString, units: u32) {
    link::dial(link, url, units);
}

/// Takes that the physical socket is open.
#[wasm_bindgen(js_name = physicalOpened)]
pub fn physical_opened(link: u32) {
    table::with(link, PageLink::opened);
}

/// Sends queued messages, as far as credit allows.
#[wasm_bindgen]
pub fn flush(link: u32) {
    link::flush(link);
}

/// Takes in a physical text message.
#[wasm_bindgen(js_name = receiveText)]
pub fn receive_text(link: u32, data: &JsString, length: u32) {
    link::receive_text(link, data, length);
}

/// Takes in a physical binary message.
#[wasm_bindgen(js_name = receiveBinary)]
pub fn receive_binary(link: u32, buffer: &ArrayBuffer, length: u32) {
    link::receive_binary(link, buffer, length);
}

/// Handles the timeouts that are due.
#[wasm_bindgen(js_name = handleTimeout)]
pub fn handle_timeout(link: u32) {
    link::handle_timeout(link);
}

/// Takes that the physical socket has ended: it has failed, or it was closed.
#[wasm_bindgen]
pub fn lost(link: u32, has_failed: u32) {
    link::lost(link, has_failed == 1);
}

/// Takes that the physical socket has ended; 1 if the link waits for another one.
#[wasm_bindgen(js_name = carrierLost)]
pub fn carrier_lost(link: u32, random: u32) -> u32 {
    link::carrier_lost(link, random).into()
}

/// Takes that another physical socket is open, which resumes the link.
#[wasm_bindgen]
pub fn redialled(link: u32) {
    link::redialled(link);
}

/// Returns 1 while the link waits to be resumed.
#[wasm_bindgen(js_name = isInterrupted)]
pub fn is_interrupted(link: u32) -> u32 {
    table::with(link, |link| link.is_interrupted()).into()
}

/// Lets the server know that the link ends with its physical socket.
#[wasm_bindgen]
pub fn leave(link: u32) {
    link::leave(link);
}

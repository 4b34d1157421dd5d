//! One physical WebSocket and the sockets over it, from dialling to its end. A link is never used again.

mod calls;
mod events;
mod host;
mod receive;
mod send;

use manysocket_protocol::client;
use manysocket_protocol::physical::HANDSHAKE_BYTES;
use manysocket_protocol::{Batch, CLIENT_MAX_MESSAGE, HANDSHAKE_PARAMETER, Millis, Settings};

use crate::page::glue::{self, JsString};
use crate::page::payload::Content;
pub(crate) use calls::{carrier_lost, close, dial, fail, handle_timeout, leave, lost, open, redialled};
use host::Page;
pub(crate) use receive::{receive_binary, receive_text};
pub(crate) use send::{flush, send_binary, send_text};

/// Milliseconds without a flush after which the next message of the same task is sent at once: a task may be long.
/// (`js/delivery.js` says whether the first of a task is.)
const LONGEST_WAIT: f64 = 2.0;

/// A link of a page.
pub(crate) struct PageLink {
    number: u32,
    inner: client::Link<Page>,
    /// Whether the physical socket is open.
    is_open: bool,
    /// Where batches are put together.
    batch: Batch<Content>,
    out: Vec<u8>,
    /// Where in `out` the batch begins.
    out_start: usize,
    /// The beginning of a batch that has arrived.
    head: Vec<u8>,
    /// Units queued since the last flush.
    pending: u32,
    flush_is_due: bool,
    /// When the last flush was, in milliseconds.
    flushed_at: f64,
    /// When the timer fires, if one runs.
    timer: Option<Millis>,
}

impl PageLink {
    /// Makes a link that is about to be dialled.
    pub(crate) fn new(number: u32, idle_timeout: Option<Millis>, resumes: bool) -> Self {
        // The server pings: a timer in a page sleeps when its tab does (docs/protocol.md §8).
        let mut settings = Settings::new().ping_interval(0).max_message(CLIENT_MAX_MESSAGE);
        settings.resume_timeout = resumes.into();
        Self {
            number,
            inner: client::Link::new(settings, idle_timeout, glue::millis()),
            is_open: false,
            batch: Batch::default(),
            out: Vec::new(),
            out_start: 0,
            head: Vec::new(),
            pending: 0,
            flush_is_due: false,
            flushed_at: 0.0,
            timer: None,
        }
    }

    /// Whether the link waits for another physical socket.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.inner.is_interrupted()
    }

    /// The page took a message.
    pub(crate) fn consumed(&mut self, channel: u32, units: u32) {
        self.inner.consumed(channel, units);
        self.flush_if_due();
    }

    /// Gives a socket up without an event.
    pub(crate) fn abort(&mut self, channel: u32) {
        self.inner.abort(glue::millis(), channel);
        self.flush_soon();
    }

    /// Takes in that the physical socket is open.
    pub(crate) fn opened(&mut self) {
        self.is_open = true;
    }

    /// The URL of the physical handshake: the multiplexer's, with the first batch as one more parameter (docs/protocol.md
    /// §3). The page's own query stays as it is.
    fn handshake(&mut self, url: &JsString, units: u32) -> String {
        let mut url = glue::to_string(url, units);
        self.inner.set_dialled_path(path_of(&url));
        self.inner.handshake(HANDSHAKE_BYTES, &mut self.batch);
        self.write_batch();
        url.push(if url.as_bytes().contains(&b'?') { '&' } else { '?' });
        url.push_str(HANDSHAKE_PARAMETER);
        url.push('=');
        base64url(self.out.get(self.out_start..).unwrap_or_default(), &mut url);
        url
    }

    /// Asks the server for a sign of life.
    pub(crate) fn probe(&mut self) {
        self.inner.probe(glue::millis());
        self.flush_if_due();
    }

    /// Schedules a write of the queue for the end of the task. Returns whether it is to be sent at once, too.
    fn flush_soon(&mut self) -> bool {
        let is_first = !std::mem::replace(&mut self.flush_is_due, true);
        is_first && glue::flush_later(self.number) != 0 || glue::now() - self.flushed_at > LONGEST_WAIT
    }

    /// The same, if there is anything to send.
    fn flush_if_due(&mut self) {
        if !self.inner.wants_transmit() {
            self.set_timer();
        } else if !self.flush_is_due {
            // Not `flush_soon`: the page's next message is still the first of its task. A worker that blocks behind it
            // would never send it.
            glue::flush_later(self.number);
        }
    }

    /// Sets the timer, unless one runs that is early enough, or clears it.
    fn set_timer(&mut self) {
        let at = self.inner.poll_timeout();
        let is_set = match (at, self.timer) {
            (Some(at), Some(timer)) => timer <= at,
            (at, timer) => at == timer,
        };
        if !is_set {
            self.timer = at;
            glue::set_timer(self.number, at.map_or(f64::INFINITY, |at| at as f64 - glue::now()));
        }
    }
}

/// The path of an absolute URL, as a URL parser writes it: from the third slash to the query. (Searching for a text costs 1 KB.)
fn path_of(url: &str) -> &str {
    let end = url.bytes().position(|byte| byte == b'?').unwrap_or(url.len());
    let mut slashes = url.bytes().enumerate().filter(|(_, byte)| *byte == b'/');
    let start = slashes.nth(2).map_or(end, |(at, _)| at);
    url.get(start..end).unwrap_or_default()
}

/// Appends bytes in base64url without padding (RFC 4648 §5).
fn base64url(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        // n bytes take n + 1 digits.
        for digit in 0..=group.len() {
            let digit = DIGITS.get((bits >> (18 - 6 * digit)) as usize & 63);
            out.push(digit.copied().unwrap_or_default().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

    use super::{base64url, path_of};

    wasm_bindgen_test_configure!(run_in_browser);

    #[wasm_bindgen_test]
    fn the_path_of_a_url_has_neither_host_nor_query() {
        for (url, path) in [
            ("ws://host/multiplexer", "/multiplexer"),
            ("wss://[::1]:8443/app/m%20x/mux?token=a/b://c", "/app/m%20x/mux"),
            ("ws://host/", "/"),
            ("ws://host/?a=/b", "/"),
        ] {
            assert_eq!(path_of(url), path, "{url}");
        }
    }

    #[wasm_bindgen_test]
    fn base64url_is_that_of_rfc_4648() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg"),
            (b"\xff\xef\xbe", "_---"),
            (b"\xfb\xff", "-_8"),
        ] {
            let mut out = String::new();
            base64url(bytes, &mut out);
            assert_eq!(out, text);
        }
    }
}

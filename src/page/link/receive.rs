//! Handles the server's messages.

use manysocket_protocol::Violation;
use manysocket_protocol::physical::{NOT_UTF8, read_lengths, read_text_head};

use super::PageLink;
use super::events::{broke, tell};
use super::host::Arrived;
use crate::page::glue::{self, ArrayBuffer, JsString};
use crate::page::table::with;

/// The longest physical message, in bytes or UTF-16 code units: a piece of the largest size that this side's HELLO announces,
/// 1 MiB, in characters of three bytes, and 64 KiB of headers. Headers go through wasm's memory, which never shrinks.
const LONGEST: u32 = 3 * 1024 * 1024 + 64 * 1024;

/// The bytes of a batch that are copied at once to see its lengths and headers: most batches have no longer headers.
const HEAD: u32 = 512;

/// Takes in a physical text message.
pub(crate) fn receive_text(link: u32, data: &JsString, length: u32) {
    took(link, length, |this| {
        let (channel, fin, head) = read_text_head(|at| (at < length).then(|| glue::char_code(data, at)))?;
        let units = length - head;
        let text = Some(glue::slice(data, head, length));
        let arrived = Arrived { text, units, is_ascii: false, buffer: None, binary_at: 0 };
        this.inner.receive_text(glue::millis(), channel, fin, units, &arrived)
    });
}

/// Takes in a physical binary message.
pub(crate) fn receive_binary(link: u32, buffer: &ArrayBuffer, length: u32) {
    took(link, length, |this| {
        let mut arrived =
            Arrived { text: None, units: 0, is_ascii: true, buffer: Some(buffer), binary_at: 0 };
        if this.inner.expects_raw(length) {
            return this.inner.receive_raw(glue::millis(), length, &arrived);
        }
        let mut head = std::mem::take(&mut this.head);
        let received = this.receive_batch(buffer, length, &mut head, &mut arrived);
        // It is at most as long as the longest headers: 3 MiB would stay for good.
        if head.capacity() <= 16 * HEAD as usize {
            this.head = head;
        }
        received
    });
}

impl PageLink {
    fn receive_batch(
        &mut self,
        buffer: &ArrayBuffer,
        length: u32,
        head: &mut Vec<u8>,
        arrived: &mut Arrived<'_>,
    ) -> Result<(), Violation> {
        head.resize(HEAD.min(length) as usize, 0);
        glue::copy_out(buffer, 0, HEAD.min(length), head.as_mut_ptr() as u32);
        let [headers_at, text_at, binary_at] = read_lengths(head, length)?;
        if text_at > HEAD {
            head.resize(text_at as usize, 0);
            glue::copy_out(buffer, 0, text_at, head.as_mut_ptr() as u32);
        }
        let text_bytes = binary_at - text_at;
        if text_bytes > 0 {
            arrived.text = Some(glue::decode(buffer, text_at, binary_at));
            arrived.units = u32::try_from(glue::decoded_units()).map_err(|_| NOT_UTF8)?;
            arrived.is_ascii = arrived.units == text_bytes;
        }
        arrived.binary_at = binary_at;
        let headers = head.get(headers_at as usize..text_at as usize).unwrap_or_default();
        self.inner.receive_batch(glue::millis(), headers, arrived.units, length - binary_at, arrived)
    }
}

/// Takes in a physical message with `take`, and continues with its events.
fn took(link: u32, length: u32, take: impl FnOnce(&mut PageLink) -> Result<(), Violation>) {
    if length > LONGEST {
        return glue::sent_too_much(link, length);
    }
    let violation = with(link, |this| take(this).err());
    tell(link);
    match violation {
        None => with(link, PageLink::flush_if_due),
        Some(violation) => broke(link, violation),
    }
}

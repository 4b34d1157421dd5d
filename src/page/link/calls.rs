//! Calls of JavaScript on a link, by its number.

use manysocket_protocol::client::Timeout;

use super::events::{broke, tell_later};
use super::send::flush;
use crate::page::glue::{self, JsString};
use crate::page::payload::Content;
use crate::page::table::with;

/// Opens a socket. Returns its channel; 0 if the server's limit forbids another.
pub(crate) fn open(
    link: u32,
    key: u32,
    target: (JsString, u32),
    protocols: (JsString, u32),
    headers: (JsString, u32),
) -> u32 {
    let (opened, is_urgent) = with(link, |this| {
        let offered = glue::to_string(&protocols.0, protocols.1);
        let [target, protocols, headers] =
            [target, protocols, headers].map(|(text, units)| Content::text(text, units));
        let opened = this.inner.open(glue::millis(), key, target, protocols, offered, headers);
        (opened, this.flush_soon())
    });
    tell_later(link);
    if is_urgent {
        flush(link);
    }
    opened.unwrap_or_default()
}

/// Closes a socket; code 0: none.
pub(crate) fn close(link: u32, channel: u32, code: u16, reason: JsString, units: u32) {
    let is_urgent = with(link, |this| {
        let code = (code != 0).then_some(code);
        this.inner.close(glue::millis(), channel, code, Content::text(reason, units));
        this.flush_soon()
    });
    if is_urgent {
        flush(link);
    }
}

/// Gives a socket up: `error`, then `close` with 1006.
pub(crate) fn fail(link: u32, channel: u32) {
    with(link, |this| {
        this.inner.fail(glue::millis(), channel);
        this.flush_soon();
    });
    tell_later(link);
}

/// Dials the multiplexer.
pub(crate) fn dial(link: u32, url: &JsString, units: u32) {
    let url = with(link, |this| this.handshake(url, units));
    glue::dial(link, url.as_ptr() as u32, url.len() as u32);
}

/// Handles the timeouts that are due.
pub(crate) fn handle_timeout(link: u32) {
    let due = with(link, |this| {
        this.timer = None;
        Some(this.inner.handle_timeout(glue::millis()))
    });
    tell_later(link);
    match due {
        Some(Ok(Timeout::Idle)) => glue::close_idle(link),
        Some(Ok(Timeout::Silent)) => glue::silent(link),
        Some(Ok(Timeout::Drain)) => flush(link),
        Some(Ok(Timeout::Dial)) => {
            let query = with(link, |this| this.inner.resume_query());
            glue::redial(link, query.as_ptr() as u32, query.len() as u32);
            with(link, super::PageLink::set_timer);
        }
        Some(Ok(Timeout::Lost)) => glue::give_up(link),
        Some(Err(violation)) => broke(link, violation),
        None => {}
    }
}

/// The physical socket has ended, and another one may follow it. Returns whether the link waits for one.
pub(crate) fn carrier_lost(link: u32, random: u32) -> bool {
    with(link, |this| {
        this.is_open = false;
        let waits = this.inner.carrier_lost(glue::millis(), random);
        this.set_timer();
        waits
    })
}

/// Another physical socket is open.
pub(crate) fn redialled(link: u32) {
    with(link, |this| {
        this.is_open = true;
        this.inner.redialled(glue::millis());
    });
    flush(link);
}

/// The link is about to end.
pub(crate) fn leave(link: u32) {
    if with(link, |this| this.inner.forbid_resumption()) {
        flush(link);
    }
}

/// The physical socket has ended.
pub(crate) fn lost(link: u32, has_failed: bool) {
    with(link, |this| this.inner.lost(has_failed));
    tell_later(link);
}

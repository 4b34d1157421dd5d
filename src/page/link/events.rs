//! The events of a link's sockets, on their way to JavaScript.

use manysocket_protocol::Violation;
use manysocket_protocol::client::{Failure, SocketEvent};

use super::host::Message;
use crate::page::glue;
use crate::page::table::with;

/// Ends the link because the server broke the protocol.
pub(super) fn broke(link: u32, violation: Violation) {
    glue::broke(link, violation.number());
}

/// Hands the events of sockets to JavaScript, which queues them, and has them delivered in a later task.
pub(super) fn tell_later(link: u32) {
    if tell(link) {
        glue::deliver_later();
    }
}

/// Hands the events of sockets to JavaScript, which queues them; returns whether there were any.
pub(super) fn tell(link: u32) -> bool {
    let mut any = false;
    while let Some(event) = with(link, |this| this.inner.poll_event()) {
        any = true;
        match event {
            SocketEvent::Message { key, message: Message::Text(text) } => {
                glue::arrived_text(link, key, &text);
            }
            SocketEvent::Message { key, message: Message::Binary { buffer, start, length } } => {
                glue::arrived_binary(link, key, &buffer, start, length);
            }
            SocketEvent::Cookies { key, ticket } => {
                glue::cookies(link, key, ticket.bytes().as_ptr() as u32);
            }
            SocketEvent::Open { key, protocol } => {
                glue::opened(link, key, protocol.as_ptr() as u32, protocol.len() as u32);
            }
            SocketEvent::Error { key, failure } => {
                let (kind, status, words) = match &failure {
                    Failure::Refused { status, reason } => (REFUSED, *status, reason.as_str()),
                    Failure::Subprotocol { chosen } => (SUBPROTOCOL, 0, chosen.as_str()),
                    Failure::Unanswered => (UNANSWERED, 0, ""),
                    _ => (SILENT, 0, ""),
                };
                glue::failed(link, key, kind, status, words.as_ptr() as u32, words.len() as u32);
            }
            SocketEvent::Close { key, close, unsent } => {
                let (reason, length) = (close.reason.as_ptr() as u32, close.reason.len() as u32);
                let unsent = unsent.bytes(with(link, |this| this.sent())) as f64;
                glue::closed(link, key, close.code.into(), reason, length, close.was_clean.into(), unsent);
            }
        }
    }
    any
}

// Why a socket failed, as far as the console says (`js/link.js`).
const SILENT: u32 = 0;
const REFUSED: u32 = 1;
const SUBPROTOCOL: u32 = 2;
const UNANSWERED: u32 = 3;

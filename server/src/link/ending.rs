//! Ends a link: counts and logs the reason, and closes the connection.

use std::future::poll_fn;
use std::task::Context;
use std::time::Duration;

use axum::extract::ws::CloseFrame;
use manysocket_protocol::Physical;
use tracing::{debug, warn};

use super::{Ended, Link};
use crate::link::limits_watch::LimitExceeded;
use crate::link::resumptions::Socket;
use crate::metrics::stats::Stats;
use crate::turns::poll_counted;
use crate::ws::frame::{Broken, opcode};
use crate::ws::linger::linger;

/// The timeout for the peer's answer to the physical Close frame; a peer that broke the protocol may never answer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// If a link ends partway through a physical message larger than this, it discards further input in place of the closing
/// handshake: the peer's Close can only arrive after the rest, and the buffered part costs memory. Twice the size of one read.
const KEPT: usize = 64 * 1024;

impl Ended {
    /// Counts and logs the end, and closes the connection if there is one.
    pub(super) async fn close(self, link: &mut Link) {
        let is_lost = matches!(self, Self::Lost);
        let frame = self.report(&link.stats);
        if is_lost {
            return debug!("link lost");
        }
        let Link { socket, endpoint, .. } = link;
        let Some(mut socket) = socket.take() else { return debug!("the link ends without a connection") };
        // The other messages that wait are not sent any more.
        let forbids = endpoint.forbid_resumption();
        let farewell = forbids.then(|| endpoint.poll_transmit()).flatten();
        let closing = async {
            if let Some(Physical::Binary(farewell)) = farewell {
                socket.start_send(opcode::BINARY, farewell)?;
            }
            if let Some(CloseFrame { code, reason }) = frame {
                socket.start_close(Some((code, &reason)))?;
                poll_fn(|cx| socket.poll_flush(cx)).await?;
            }
            finish(socket).await;
            Ok::<(), Broken>(())
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
        debug!("link closed");
    }

    /// Counts and logs the end; returns the close frame for the peer.
    fn report(self, stats: &Stats) -> Option<CloseFrame> {
        let (code, reason) = match &self {
            Self::Lost => (1006, "the connection was lost"),
            Self::Left | Self::Closed => (1000, "the client closed the link"),
            Self::Violation(violation) => (violation.code(), violation.reason()),
            Self::Broken(broken) => (broken.code().unwrap_or(1002), "the client broke RFC 6455"),
            Self::Limit(exceeded) => (exceeded.code, exceeded.reason),
            Self::Departed(CloseFrame { code: 1001, .. }) => (1001, "the server is shutting down"),
            Self::Departed(close) => (close.code, "the application ended the link"),
        };
        stats.link_closed(code, reason);
        match self {
            Self::Lost | Self::Left | Self::Closed => return None,
            // A flood of these must not become one of log lines.
            Self::Broken(broken) => debug!("link closed: {broken}"),
            Self::Violation(violation) => {
                let limit = violation.limit();
                warn!(limit, "link closed: {violation}");
                if let Some(limit) = limit {
                    stats.limit_crossed(limit);
                }
            }
            Self::Limit(LimitExceeded { limit, .. }) => {
                warn!(code, limit, "link closed: {reason}");
                stats.limit_crossed(limit);
            }
            Self::Departed(close) => {
                debug!(code, "the link departs: {}", close.reason);
                return Some(close);
            }
        }
        Some(CloseFrame { code, reason: reason.into() })
    }
}

/// Completes the closing handshake (RFC 6455 §7.1.1): the Close frame of one side is in flight and would be lost if the
/// connection ended now.
async fn finish(mut socket: Socket) {
    if socket.unfinished() <= KEPT {
        let mut next = |cx: &mut Context<'_>| poll_counted(cx, |_| 0, |cx| socket.poll_next(cx));
        while let Some(Ok(_)) = poll_fn(&mut next).await {}
    }
    if socket.is_closing() {
        // The link has ended, and counts no longer.
        tokio::spawn(linger(socket));
    }
}

//! Watches the connection to an upstream server. The gateway pings a silent upstream, and closes the connection if no
//! answer arrives. A network failure or a stopped process sends neither FIN nor RST. An upstream that has never
//! answered a ping is still pinged, so that proxies in between keep the connection, but its connection stays open.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::ws::Message;
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::time::{Instant, Sleep};
use tracing::warn;

use crate::gateway::upstream::{Upstream, Wire};
use crate::ws::frame::Broken;

/// The silence after which the gateway sends a ping, and the interval until the second ping. It equals the interval
/// for a link's peer (docs/protocol.md §8), and is below the time after which proxies in between drop a silent
/// connection.
const INTERVAL: Duration = Duration::from_secs(25);

/// The time to answer the second ping: longer than any live server stalls.
const GRACE: Duration = Duration::from_secs(10);

/// The memory of an idle connection to an upstream, without its TLS.
const CONNECTION: usize = 4 * 1024;

pub(crate) struct Watched {
    wire: Wire,
    upstream: Upstream,
    heard: Instant,
    /// The number of pings sent since then.
    asked: u32,
    /// True once the upstream has answered a ping. Some servers never do, and browsers, which never ping, do not
    /// notice.
    answers: bool,
    timer: Pin<Box<Sleep>>,
}

impl Watched {
    pub(crate) fn new(wire: Wire, upstream: Upstream) -> Self {
        let heard = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until(heard + INTERVAL));
        Self { wire, upstream, heard, asked: 0, answers: false, timer }
    }

    /// Returns the bytes that the connection holds.
    pub(crate) fn held(&self) -> usize {
        CONNECTION + self.upstream.tls_memory() + self.wire.held()
    }

    /// Sends the ping that is due when the timer fires. Returns false if the connection must be closed.
    fn check(&mut self, cx: &mut Context<'_>) -> bool {
        let (now, silent_at) = (Instant::now(), self.heard + INTERVAL);
        let next = match self.asked {
            // A message does not reset the timer: that would cost work for each one.
            0 if now < silent_at => silent_at,
            _ if !self.answers => {
                let next = self.ask(cx, now + INTERVAL);
                self.asked = 0;
                next
            }
            0 => self.ask(cx, now + INTERVAL),
            1 => self.ask(cx, now + GRACE),
            _ => return false,
        };
        self.timer.as_mut().reset(next);
        true
    }

    /// Sends a ping, to be answered by `by`, and returns `by`.
    fn ask(&mut self, cx: &mut Context<'_>, by: Instant) -> Instant {
        self.asked += 1;
        // If the send buffer is full, unacknowledged data is in flight already and serves as a probe.
        if matches!(self.wire.poll_ready_unpin(cx), Poll::Ready(Ok(()))) {
            let _ = self.wire.start_send_unpin(Message::Ping(Bytes::new()));
            let _ = self.wire.poll_flush_unpin(cx);
        }
        by
    }
}

/// Checks the timer only while the bridge waits for a message: a page that does not read must not count against the
/// upstream.
impl Stream for Watched {
    type Item = Result<Message, Broken>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let polled = self.wire.poll_next_unpin(cx);
            if polled.is_ready() {
                self.heard = Instant::now();
                self.asked = 0;
                self.answers |= matches!(polled, Poll::Ready(Some(Ok(Message::Pong(_)))));
                return polled;
            }
            ready!(self.timer.as_mut().poll(cx));
            if !self.check(cx) {
                warn!(upstream = %self.upstream, "closing the connection to a silent upstream");
                return Poll::Ready(Some(Err(Broken::Io(io::ErrorKind::TimedOut.into()))));
            }
        }
    }
}

impl Sink<Message> for Watched {
    type Error = Broken;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.wire.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Broken> {
        self.wire.start_send_unpin(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.wire.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.wire.poll_close_unpin(cx)
    }
}

//! The connection to an upstream, watched: one that says nothing is asked for a sign of life, and given up if none comes. A
//! network that has gone away, or a process that stands still, sends neither an end nor a reset. An upstream that has never
//! answered is asked, so that proxies in between keep the connection, and not given up.

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
use crate::ws::frames::Broken;

/// After so long a silence it is asked, and once more after another: as a link's peer is (docs/protocol.md §8), and below the
/// time after which proxies in between drop a silent connection.
const INTERVAL: Duration = Duration::from_secs(25);

/// What it has for the last answer: longer than any live server is held up.
const GRACE: Duration = Duration::from_secs(10);

pub(crate) struct Watched {
    wire: Wire,
    upstream: Upstream,
    heard: Instant,
    /// How often it has been asked since.
    asked: u32,
    /// Whether it has ever answered. There are servers that never do, and a browser, which never asks, does not mind.
    answers: bool,
    timer: Pin<Box<Sleep>>,
}

impl Watched {
    pub(crate) fn new(wire: Wire, upstream: Upstream) -> Self {
        let heard = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until(heard + INTERVAL));
        Self { wire, upstream, heard, asked: 0, answers: false, timer }
    }

    /// What is due when the timer has fired; false if it is to be given up.
    fn check(&mut self, cx: &mut Context<'_>) -> bool {
        let (now, silent_at) = (Instant::now(), self.heard + INTERVAL);
        let next = match self.asked {
            // The timer is not set anew with every message.
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

    /// Asks for a sign of life, to come by then.
    fn ask(&mut self, cx: &mut Context<'_>, by: Instant) -> Instant {
        self.asked += 1;
        // Where there is no room, something unanswered is under way already.
        if matches!(self.wire.poll_ready_unpin(cx), Poll::Ready(Ok(()))) {
            let _ = self.wire.start_send_unpin(Message::Ping(Bytes::new()));
            let _ = self.wire.poll_flush_unpin(cx);
        }
        by
    }
}

/// Time passes only while somebody waits for a message: an upstream whose page does not read is not to blame.
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
                warn!(upstream = %self.upstream, "an upstream that says nothing is given up");
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

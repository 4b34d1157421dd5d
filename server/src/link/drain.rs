//! Drains a link: closes its channels with a code within a time limit, and then the link. The links of a server that shuts down begin
//! one after the other.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::CloseFrame;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::metrics::stats::Stats;

/// Links that begin at once when their server shuts down.
const AT_ONCE: usize = 100;

/// The time that each further link adds, until the longest.
const PACE: Duration = Duration::from_millis(1);

/// The reason for a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The server shuts down. Handlers may still send their messages.
    Shutdown,
    /// The application has ended the link. Its page receives and sends nothing more.
    Ended,
}

/// Waits for a reason to drain, and tracks the drain.
#[derive(Debug)]
pub(crate) struct Departure {
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    /// That of the server which accepted the connection; `None` if it is not [`serve`](crate::serve()).
    server: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// The close frame once the application ends the link. `None` once the sender is gone, so that nobody can end the
    /// link any more.
    ended: Option<oneshot::Receiver<CloseFrame>>,
    /// The time for channels to close.
    drain: Duration,
    stats: Stats,
    /// The server shuts down, and the link's turn comes.
    turn: Option<Turn>,
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Turn {
    comes: Pin<Box<Sleep>>,
    /// When the time of all links is over.
    end: Instant,
}

#[derive(Debug)]
struct Begun {
    cause: Cause,
    close: CloseFrame,
    out_of_time: Pin<Box<Sleep>>,
}

impl Departure {
    pub(crate) fn new(
        shutdown: CancellationToken,
        server: Option<CancellationToken>,
        ended: oneshot::Receiver<CloseFrame>,
        drain: Duration,
        stats: Stats,
    ) -> Self {
        let server = server.map(|server| Box::pin(server.cancelled_owned()));
        Self {
            shutdown: Box::pin(shutdown.cancelled_owned()),
            server,
            ended: Some(ended),
            drain,
            stats,
            turn: None,
            begun: None,
        }
    }

    /// Returns whether the drain begins now.
    pub(crate) fn poll_begin(&mut self, cx: &mut Context<'_>) -> bool {
        if self.begun.is_some() {
            return false;
        }
        let Some((cause, close, end)) = self.poll_cause(cx) else { return false };
        let out_of_time = Box::pin(tokio::time::sleep_until(end));
        self.begun = Some(Begun { cause, close, out_of_time });
        true
    }

    /// Returns whether the application has ended the link, so that its page receives nothing more.
    pub(crate) fn is_ended(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| begun.cause == Cause::Ended)
    }

    /// Returns the reason for the drain to begin now, the close that pages see, and the time when it must end.
    fn poll_cause(&mut self, cx: &mut Context<'_>) -> Option<(Cause, CloseFrame, Instant)> {
        if let Some(Poll::Ready(ended)) = self.ended.as_mut().map(|ended| Pin::new(ended).poll(cx)) {
            self.ended = None;
            if let Ok(close) = ended {
                return Some((Cause::Ended, close, Instant::now() + self.drain));
            }
        }
        let close = CloseFrame { code: 1001, reason: "the server is shutting down".into() };
        if self.turn.is_none() {
            let is_server_leaving =
                self.server.as_mut().is_some_and(|server| server.as_mut().poll(cx).is_ready());
            if !is_server_leaving && self.shutdown.as_mut().poll(cx).is_pending() {
                return None;
            }
            let now = Instant::now();
            let wait = wait(self.stats.links(), self.drain, random());
            let end = now + self.drain;
            // A timer of no time fires up to a millisecond later.
            if wait.is_zero() {
                return Some((Cause::Shutdown, close, end));
            }
            self.turn = Some(Turn { comes: Box::pin(tokio::time::sleep(wait)), end });
        }
        let Turn { comes, end } = self.turn.as_mut()?;
        comes.as_mut().poll(cx).is_ready().then_some((Cause::Shutdown, close, *end))
    }

    /// Returns the close frame for channels and link, once the drain has begun.
    pub(crate) fn close(&self) -> Option<&CloseFrame> {
        self.begun.as_ref().map(|begun| &begun.close)
    }

    /// Returns the status and reason with which to refuse opens, once the drain has begun.
    pub(crate) fn refusal(&self) -> Option<(u16, &'static str)> {
        self.begun.as_ref().map(|begun| match begun.cause {
            Cause::Shutdown => (503, "the server is shutting down"),
            Cause::Ended => (401, "the link has been ended"),
        })
    }

    /// Returns whether the time for channels to close is over.
    pub(crate) fn is_out_of_time(&mut self, cx: &mut Context<'_>) -> bool {
        self.begun.as_mut().is_some_and(|begun| begun.out_of_time.as_mut().poll(cx).is_ready())
    }
}

/// Returns how long a link waits for its turn when its server shuts down: so that not all pages dial another server in the same
/// instant. `random` is from 0 to 1. A fifth of the drain time is left for the last link.
fn wait(links: usize, drain: Duration, random: f64) -> Duration {
    let links = u32::try_from(links.saturating_sub(AT_ONCE)).unwrap_or(u32::MAX);
    PACE.saturating_mul(links).min(drain * 4 / 5).mul_f64(random)
}

/// Returns a random number from 0 to 1.
fn random() -> f64 {
    let number = getrandom::u32().unwrap_or_default();
    f64::from(number) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAIN: Duration = Duration::from_secs(5);

    #[test]
    fn few_links_do_not_wait_and_none_waits_for_all_of_the_time() {
        assert_eq!(wait(AT_ONCE, DRAIN, 1.0), Duration::ZERO);
        assert_eq!(wait(1_000_000, Duration::ZERO, 1.0), Duration::ZERO);
        assert_eq!(wait(200, DRAIN, 1.0), Duration::from_millis(100));
        assert_eq!(wait(1_000_000, DRAIN, 1.0), Duration::from_secs(4));
        assert_eq!(wait(1_000_000, DRAIN, 0.0), Duration::ZERO);
    }

    /// Three servers restart one after the other, and the pages of each dial the other two.
    #[test]
    fn a_rolling_restart_has_no_peak_of_handshakes() {
        let mut links = [3_333_usize, 3_333, 3_334];
        let mut dials = Vec::new();
        for server in 0..3 {
            let leaving = std::mem::take(&mut links[server]);
            let start = DRAIN * u32::try_from(server).expect("small");
            dials.extend((0..leaving).map(|_| start + wait(leaving, DRAIN, random())));
            links[(server + 1) % 3] += leaving / 2;
            links[(server + 2) % 3] += leaving - leaving / 2;
        }
        assert_eq!(links.iter().sum::<usize>(), 10_000);
        dials.sort();
        let second = Duration::from_secs(1);
        let in_a_second = |from: usize| dials.partition_point(|at| *at < dials[from] + second) - from;
        let most = (0..dials.len()).map(in_a_second).max().unwrap_or_default();
        let steady = dials.len() / 15;
        assert!(most <= 2 * steady, "{most} handshakes in one second, and {steady} on average");
        // As it was: all of a server in one instant.
        assert!(7_500 > 2 * steady);
    }
}

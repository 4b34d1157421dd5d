//! Seeks a WebSocket for a link that goes over HTTP.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::dial::{self, Wire};
use super::link::Link;
use super::target::Target;

/// The time until the first attempt; it doubles with each.
const FIRST_ATTEMPT: Duration = Duration::from_secs(5);

/// The longest time between two attempts: networks that refuse WebSockets rarely change.
const LAST_ATTEMPT: Duration = Duration::from_secs(300);

/// How long a WebSocket that was found must last. Some proxies let them open and end them soon.
const LASTS: Duration = Duration::from_secs(60);

/// When a link seeks a WebSocket.
#[derive(Debug)]
pub(super) struct Seek {
    delay: Duration,
    /// When the WebSocket was found that carries the link.
    found: Option<Instant>,
}

impl Default for Seek {
    fn default() -> Self {
        Self { delay: FIRST_ATTEMPT, found: None }
    }
}

/// A WebSocket that is being sought.
pub(super) type Sought = Pin<Box<dyn Future<Output = Box<Found>> + Send>>;

/// A WebSocket that is open, and the time for which the link had waited before it was dialled.
pub(super) struct Found {
    pub(super) wire: Wire,
    delay: Duration,
}

impl Seek {
    /// Tries from time to time, until one opens and the link can change to it.
    pub(super) fn begin(&self, link: Arc<Link>, target: Target) -> Sought {
        let mut delay = self.delay;
        Box::pin(async move {
            loop {
                sleep(delay).await;
                let query = {
                    let client = &link.lock().client;
                    client.can_resume().then(|| client.resume_query())
                };
                if let Some(query) = query
                    && let Ok(Ok(wire)) = timeout(delay, dial::dial_websocket(&target, &query)).await
                {
                    return Box::new(Found { wire, delay });
                }
                delay = later(delay);
            }
        })
    }

    /// Takes in that a WebSocket was found that carries the link from now on.
    pub(super) fn found(&mut self, found: &Found) {
        self.delay = found.delay;
        self.found = Some(Instant::now());
    }

    /// Takes in that a connection has ended. If it is a WebSocket that was found and has not lasted, the link goes over HTTP at once,
    /// and seeks another one later than before.
    pub(super) fn ended(&mut self, target: &Target) {
        match self.found.take().map(|at| at.elapsed()) {
            None => {}
            Some(lasted) if lasted < LASTS => self.delay = later(self.delay),
            Some(_) => {
                self.delay = FIRST_ATTEMPT;
                target.is_blocked.store(false, Relaxed);
            }
        }
    }
}

fn later(delay: Duration) -> Duration {
    (2 * delay).min(LAST_ATTEMPT)
}

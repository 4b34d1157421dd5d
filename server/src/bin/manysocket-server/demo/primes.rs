//! Defines the demo function that streams: prime numbers, and how many of its streams run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{Stream, stream};
use manysocket_server::Site;
use manysocket_server::rpc::{Error, Streamed, rpc};

/// The largest limit: some seconds of work.
const MOST: u32 = 10_000_000;

/// Returns the functions.
pub(super) fn site<S: Clone + Send + Sync + 'static>() -> Site<S> {
    let running = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&running);
    let below = move |limit: u32| {
        let running = Arc::clone(&running);
        async move { below(limit, &running) }
    };
    let running = move || {
        let running = seen.load(Ordering::Relaxed);
        async move { running }
    };
    Site::new()
        .endpoint("/below", rpc(below).arguments(["limit"]).endpoint())
        .endpoint("/running", rpc(running).endpoint())
}

/// Streams the primes below a limit. The server computes the next one only when the page has room for it.
fn below(limit: u32, running: &Arc<AtomicUsize>) -> Result<Streamed<impl Stream<Item = u32> + use<>>, Error> {
    if limit > MOST {
        return Err(Error::new("too-far", format!("the limit is at most {MOST}")));
    }
    let counted = Counted::new(running);
    Ok(Streamed(stream::unfold((2, counted), move |(from, counted)| async move {
        let prime = (from..limit).find(|&candidate| is_prime(candidate))?;
        Some((prime, (prime + 1, counted)))
    })))
}

fn is_prime(candidate: u32) -> bool {
    (2..)
        .take_while(|divisor| divisor * divisor <= candidate)
        .all(|divisor| !candidate.is_multiple_of(divisor))
}

/// Counts a stream until it is dropped: at its end, or when the page needs no more.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(running))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

//! Counts, and the data that all pages share.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Counts since the start.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Counts {
    /// Links that pages dialled, left, and lost.
    pub(crate) links: u64,
    pub(crate) links_left: u64,
    pub(crate) links_lost: u64,
    /// The longest silence before a lost link was noticed, in milliseconds.
    pub(crate) longest_silence: u128,
    /// Dials that failed.
    pub(crate) dials_failed: u64,
    /// Channels that were accepted, refused, taken back before the answer, closed in good order, and lost.
    pub(crate) opened: u64,
    pub(crate) refused: u64,
    pub(crate) taken_back: u64,
    pub(crate) closed: u64,
    pub(crate) lost: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) received_bytes: u64,
    /// Acknowledged commits, and answered calls.
    pub(crate) commits: u64,
    pub(crate) calls: u64,
    /// Messages that topics reported as dropped for a slow reader.
    pub(crate) dropped: u64,
    /// Failed checks.
    pub(crate) violations: u64,
}

/// The known state of one page's number in a document.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Known {
    /// The last acknowledged number.
    pub(crate) acknowledged: u64,
    /// Whether one more was sent whose answer was lost.
    pub(crate) uncertain: bool,
}

/// Shared by all pages.
#[derive(Debug)]
pub(crate) struct Tally {
    begun: Instant,
    counts: Mutex<Counts>,
    /// Publishers that closed in good order: the number of their messages, and when their close was acknowledged.
    pub(crate) finished: Mutex<HashMap<u64, (u64, u128)>>,
    pub(crate) known: Mutex<HashMap<String, Known>>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            counts: Mutex::default(),
            finished: Mutex::default(),
            known: Mutex::default(),
        }
    }
}

impl Tally {
    /// Changes or reads the counts.
    pub(crate) fn count<T>(&self, act: impl FnOnce(&mut Counts) -> T) -> T {
        act(&mut lock(&self.counts))
    }

    /// Reports a failed check.
    pub(crate) fn violation(&self, what: &str) {
        eprintln!("VIOLATION at {} ms: {what}", self.now() / 1000);
        self.count(|counts| counts.violations += 1);
    }

    /// Returns the microseconds since the start.
    pub(crate) fn now(&self) -> u128 {
        self.begun.elapsed().as_micros()
    }

    /// Returns the counts as JSON.
    pub(crate) fn line(&self, elapsed: Duration) -> String {
        #[derive(Serialize)]
        struct Line {
            seconds: f64,
            #[serde(flatten)]
            counts: Counts,
        }
        let line = Line { seconds: elapsed.as_secs_f64(), counts: self.count(|counts| counts.clone()) };
        serde_json::to_string(&line).expect("plain data")
    }
}

/// Ignores poison: a page that panicked left the data consistent.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

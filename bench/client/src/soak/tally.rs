//! What has been done, and what all pages have to know of each other.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Counts since the start.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Counts {
    /// Links that were dialled, left by their pages, and lost.
    pub(crate) links: u64,
    pub(crate) links_left: u64,
    pub(crate) links_lost: u64,
    /// The longest that a lost link was silent before that was noticed, in milliseconds.
    pub(crate) longest_silence: u128,
    /// Dials that failed.
    pub(crate) dials_failed: u64,
    /// Channels that were accepted, refused, given up before the answer, closed in good order, and lost.
    pub(crate) opened: u64,
    pub(crate) refused: u64,
    pub(crate) taken_back: u64,
    pub(crate) closed: u64,
    pub(crate) lost: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) received_bytes: u64,
    /// Commits that were acknowledged, and calls that were answered.
    pub(crate) commits: u64,
    pub(crate) calls: u64,
    /// What topics told of messages left out for a slow reader.
    pub(crate) dropped: u64,
    /// Things that must hold and did not.
    pub(crate) violations: u64,
}

/// What a document is known to have of one page.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Known {
    /// The last number that was acknowledged.
    pub(crate) acknowledged: u64,
    /// One more has been sent, and its answer was lost.
    pub(crate) uncertain: bool,
}

/// Shared by all pages.
#[derive(Debug)]
pub(crate) struct Tally {
    begun: Instant,
    counts: Mutex<Counts>,
    /// Publishers that closed in good order: how many messages they had sent, and when they heard of their close.
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

    /// Something that must hold does not.
    pub(crate) fn violation(&self, what: &str) {
        eprintln!("VIOLATION at {} ms: {what}", self.now() / 1000);
        self.count(|counts| counts.violations += 1);
    }

    /// Microseconds since the start.
    pub(crate) fn now(&self) -> u128 {
        self.begun.elapsed().as_micros()
    }

    /// The counts as JSON.
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

/// A page that has panicked leaves whole data behind.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Limits the connections that have not named the link that they resume. At the limit, a new one replaces the oldest.
//!
//! A client sends RESUME as soon as its connection is open. If the server refused further connections instead, a thousand silent ones
//! would keep all clients from their links.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The most of them: all pages of a server may come back at once.
pub(super) const MOST: usize = 1024;

/// The connections. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Unclaimed(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    /// The number of the next one.
    next: u64,
    /// By number, so that the first is the oldest.
    waiting: BTreeMap<u64, CancellationToken>,
}

/// Counts a connection as unclaimed until it is dropped.
#[derive(Debug)]
pub(super) struct UnclaimedGuard {
    unclaimed: Unclaimed,
    number: u64,
    displaced: CancellationToken,
}

impl Unclaimed {
    /// Adds a connection. Returns its guard, and whether the oldest had to give way.
    pub(super) fn add(&self) -> (UnclaimedGuard, bool) {
        let displaced = CancellationToken::new();
        let mut all = self.lock();
        let number = all.next;
        all.next += 1;
        all.waiting.insert(number, displaced.clone());
        let oldest = if all.waiting.len() > MOST { all.waiting.pop_first() } else { None };
        drop(all);
        // Without the lock: it wakes the task of the connection.
        let has_displaced = oldest.map(|(_, oldest)| oldest.cancel()).is_some();
        (UnclaimedGuard { unclaimed: self.clone(), number, displaced }, has_displaced)
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnclaimedGuard {
    /// Waits for what a connection says. Returns `None` if it has to give way before.
    pub(super) async fn wait<T>(self, saying: impl Future<Output = Option<T>>) -> Option<T> {
        self.displaced.run_until_cancelled(saying).await.flatten()
    }
}

impl Drop for UnclaimedGuard {
    fn drop(&mut self) {
        self.unclaimed.lock().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn the_oldest_gives_way_and_those_that_have_gone_count_no_longer() {
        let unclaimed = Unclaimed::default();
        let mut guards: Vec<_> = (0..MOST).map(|_| unclaimed.add()).collect();
        assert!(guards.iter().all(|(_, has_displaced)| !has_displaced));
        let (second, _) = guards.remove(1);
        assert_eq!(second.wait(ready(Some("RESUME"))).await, Some("RESUME"));
        let (next, has_displaced) = unclaimed.add();
        assert!(!has_displaced, "a place is free");
        let (_last, has_displaced) = unclaimed.add();
        assert!(has_displaced);
        let (oldest, _) = guards.remove(0);
        assert_eq!(oldest.wait(pending::<Option<()>>()).await, None);
        assert_eq!(next.wait(ready(Some("RESUME"))).await, Some("RESUME"));
        let (_, has_displaced) = unclaimed.add();
        assert!(!has_displaced, "the one that gave way counts no longer");
    }
}

//! A set of names that changes while the server runs: the rooms, topics or documents that there are now.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How long changes are gathered after one has been told: at most ten messages a second, however fast names change. People
/// take a tenth of a second for at once.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);

/// The changes that are remembered, or as many as there are names if that is more: whoever is further behind is told
/// the whole list again, which is then hardly longer.
const REMEMBERED: usize = 1024;

/// Names that come and go. Clones are the same set.
///
/// What creates things at run time owns one, and gives a clone to the [`Site`](crate::Site) or the
/// [`Endpoint`](crate::Endpoint) that has a path for them.
///
/// ```
/// use manysocket_server::Listing;
///
/// let rooms = Listing::new();
/// assert!(rooms.insert("blue"));
/// assert!(!rooms.insert("blue"), "it is there");
/// rooms.insert("Grüner Raum / 2");
/// assert!(rooms.remove("blue"));
/// assert_eq!(rooms.snapshot(), ["Grüner Raum / 2".into()]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Listing {
    names: Arc<watch::Sender<Names>>,
}

/// What has happened to a [`Listing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// All names, sorted; what was told before no longer counts.
    All(Vec<Arc<str>>),
    /// What has changed since the last time.
    Some {
        /// Names that are there now and were not.
        added: Vec<Arc<str>>,
        /// Names that were there and are not now.
        removed: Vec<Arc<str>>,
    },
}

impl Listing {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a name, as it is before percent-encoding. `false` if it is there, or could not be a segment of a path: nothing
    /// that a URL parser leaves as it is leads to an empty one, `.` or `..`, not even percent-encoded.
    pub fn insert(&self, name: &str) -> bool {
        if matches!(name, "" | "." | "..") {
            return false;
        }
        self.names.send_if_modified(|names| {
            let name: Arc<str> = name.into();
            let is_new = names.present.insert(Arc::clone(&name));
            if is_new {
                names.remember(name, true);
            }
            is_new
        })
    }

    /// Takes a name out. `false` if it was not there.
    pub fn remove(&self, name: &str) -> bool {
        self.names.send_if_modified(|names| {
            let taken = names.present.take(name);
            let was_there = taken.is_some();
            if let Some(name) = taken {
                names.remember(name, false);
            }
            was_there
        })
    }

    /// The names there are now, sorted.
    pub fn snapshot(&self) -> Vec<Arc<str>> {
        self.names.borrow().all()
    }

    /// Returns a receiver that wakes at each change.
    pub(crate) fn watch(&self) -> watch::Receiver<Names> {
        self.names.subscribe()
    }

    /// Returns how many changes there have been.
    pub(crate) fn position(&self) -> u64 {
        self.names.borrow().position
    }

    /// Returns the next names behind `after`, sorted.
    pub(crate) fn names_after(&self, after: Option<&str>, count: usize) -> Vec<Arc<str>> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.names.borrow();
        names.present.range::<str, _>((begin, Bound::Unbounded)).take(count).cloned().collect()
    }

    /// Returns the next changes behind a position, oldest first: a name, and whether it came. `None` if they are forgotten.
    pub(crate) fn changes_after(&self, position: u64, count: usize) -> Option<Vec<(Arc<str>, bool)>> {
        let names = self.names.borrow();
        let behind = usize::try_from(names.position - position).ok()?;
        let begin = names.log.len().checked_sub(behind)?;
        Some(names.log.range(begin..).take(count).cloned().collect())
    }

    /// Follows what happens from now on.
    pub fn changes(&self) -> Changes {
        Changes { names: self.names.subscribe(), position: None, next: Instant::now() }
    }
}

/// Follows a [`Listing`].
#[derive(Debug)]
pub struct Changes {
    names: watch::Receiver<Names>,
    /// Up to where the changes have been told; `None` before the first time.
    position: Option<u64>,
    next: Instant,
}

impl Changes {
    /// The names there are now, sorted, told or not.
    pub fn snapshot(&self) -> Vec<Arc<str>> {
        self.names.borrow().all()
    }

    /// At first all names, at once; then each change as it happens, and together what happens within a tenth of
    /// a second after. A name that comes and goes in that time is not told. Nothing is lost if the future is
    /// dropped. Pending for ever when all clones of the listing are gone.
    pub async fn next(&mut self) -> Change {
        loop {
            if self.position.is_some() {
                if self.names.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                // Seen only once it is told: the future may be dropped while it waits.
                self.names.mark_changed();
                sleep_until(self.next).await;
            }
            let names = self.names.borrow_and_update();
            let change = names.since(self.position);
            self.position = Some(names.position);
            if change != (Change::Some { added: vec![], removed: vec![] }) {
                self.next = Instant::now() + INTERVAL;
                return change;
            }
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Names {
    present: BTreeSet<Arc<str>>,
    /// The latest changes, oldest first: a name, and whether it came.
    log: VecDeque<(Arc<str>, bool)>,
    /// Counts all changes.
    position: u64,
}

impl Names {
    fn all(&self) -> Vec<Arc<str>> {
        self.present.iter().cloned().collect()
    }

    fn remember(&mut self, name: Arc<str>, came: bool) {
        self.log.push_back((name, came));
        self.position += 1;
        while self.log.len() > REMEMBERED.max(self.present.len()) {
            self.log.pop_front();
        }
    }

    fn since(&self, position: Option<u64>) -> Change {
        let behind = position.and_then(|position| usize::try_from(self.position - position).ok());
        let Some(behind) = behind.filter(|behind| *behind <= self.log.len()) else {
            return Change::All(self.all());
        };
        // A name's first change tells whether it was there before, the last whether it is now.
        let mut changed = BTreeMap::<&Arc<str>, (bool, bool)>::new();
        for (name, came) in self.log.range(self.log.len() - behind..) {
            changed.entry(name).and_modify(|(_, last)| *last = *came).or_insert((*came, *came));
        }
        let with = |kind| {
            let which = changed.iter().filter(move |(_, change)| **change == (kind, kind));
            which.map(|(name, _)| Arc::clone(name)).collect()
        };
        Change::Some { added: with(true), removed: with(false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(added: &[&str], removed: &[&str]) -> Change {
        let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
        Change::Some { added: names(added), removed: names(removed) }
    }

    #[tokio::test(start_paused = true)]
    async fn changes_come_at_once_then_gathered() {
        let listing = Listing::new();
        listing.insert("a");
        let mut changes = listing.changes();
        assert_eq!(changes.next().await, Change::All(vec!["a".into()]));
        tokio::time::advance(INTERVAL).await;
        let start = Instant::now();
        listing.insert("b");
        assert_eq!(changes.next().await, some(&["b"], &[]));
        assert_eq!(start.elapsed(), Duration::ZERO);
        for name in ["c", "d", "e"] {
            listing.insert(name);
        }
        listing.remove("d");
        listing.remove("a");
        assert_eq!(changes.next().await, some(&["c", "e"], &["a"]));
        assert!(start.elapsed() >= INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_and_goes_in_between_is_not_told() {
        let listing = Listing::new();
        let mut changes = listing.changes();
        assert_eq!(changes.next().await, Change::All(vec![]));
        listing.insert("a");
        listing.remove("a");
        let quiet = tokio::time::timeout(INTERVAL * 10, changes.next()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        listing.insert("b");
        // A future that is dropped while it gathers loses nothing.
        let dropped = tokio::time::timeout(Duration::ZERO, changes.next()).await;
        drop(dropped);
        listing.insert("c");
        listing.remove("b");
        listing.insert("b");
        match changes.next().await {
            Change::Some { added, removed } => {
                assert!(added.contains(&"c".into()), "{added:?}");
                assert!(removed.is_empty());
            }
            all => panic!("{all:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_far_behind_gets_all_again() {
        let listing = Listing::new();
        let mut changes = listing.changes();
        changes.next().await;
        for _ in 0..REMEMBERED {
            listing.insert("a");
            listing.remove("a");
        }
        listing.insert("b");
        assert_eq!(changes.next().await, Change::All(vec!["b".into()]));
    }

    #[test]
    fn names_that_cannot_be_in_a_path_are_not_taken() {
        let listing = Listing::new();
        for name in ["", ".", ".."] {
            assert!(!listing.insert(name), "{name:?}");
        }
        assert!(listing.insert("..."));
    }
}

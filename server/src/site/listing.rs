//! A set of names that changes at run time, such as the current rooms, topics or documents.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The interval in which changes are gathered into one message: at most ten messages a second, however fast names
/// change. People perceive a delay of a tenth of a second as instantaneous.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);

/// The minimum number of changes in the log; the log holds as many as there are names if that is more. A follower that
/// is further behind gets the whole list again, which is then hardly longer than the changes.
const REMEMBERED: usize = 1024;

/// A shared set of names that an application adds and removes. Clones share the set.
///
/// The code that creates rooms or other items owns a listing, and gives a clone to the [`Site`](crate::Site) or the
/// [`Endpoint`](crate::Endpoint) that has a path for them.
///
/// ```
/// use manysocket_server::Listing;
///
/// let rooms = Listing::new();
/// assert!(rooms.insert("blue"));
/// assert!(!rooms.insert("blue"), "it is present already");
/// rooms.insert("Grüner Raum / 2");
/// assert!(rooms.remove("blue"));
/// assert_eq!(rooms.snapshot(), ["Grüner Raum / 2".into()]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Listing {
    names: Arc<watch::Sender<Names>>,
}

/// A change of a [`Listing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// All names, sorted. They replace everything reported before.
    All(Vec<Arc<str>>),
    /// The changes since the last report.
    Some {
        /// Names that were added.
        added: Vec<Arc<str>>,
        /// Names that were removed.
        removed: Vec<Arc<str>>,
    },
}

impl Listing {
    /// Creates an empty listing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a name, without percent-encoding. Returns `false` if the name is present already, or cannot be a path
    /// segment: URL parsers normalise an empty segment, `.` and `..` away, even percent-encoded.
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

    /// Removes a name. Returns `false` if it was not present.
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

    /// Returns the current names, sorted.
    pub fn snapshot(&self) -> Vec<Arc<str>> {
        self.names.borrow().all()
    }

    /// Returns a receiver that wakes at each change.
    pub(crate) fn watch(&self) -> watch::Receiver<Names> {
        self.names.subscribe()
    }

    /// Returns the number of changes so far.
    pub(crate) fn position(&self) -> u64 {
        self.names.borrow().position
    }

    /// Returns the next names after `after`, sorted.
    pub(crate) fn names_after(&self, after: Option<&str>, count: usize) -> Vec<Arc<str>> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.names.borrow();
        names.present.range::<str, _>((begin, Bound::Unbounded)).take(count).cloned().collect()
    }

    /// Returns the next changes after a position, oldest first: a name, and whether it was added. Returns `None` if
    /// the log no longer holds them.
    pub(crate) fn changes_after(&self, position: u64, count: usize) -> Option<Vec<(Arc<str>, bool)>> {
        let names = self.names.borrow();
        let behind = usize::try_from(names.position - position).ok()?;
        let begin = names.log.len().checked_sub(behind)?;
        Some(names.log.range(begin..).take(count).cloned().collect())
    }

    /// Returns a follower, which first reports all names and then each change.
    pub fn changes(&self) -> Changes {
        Changes { names: self.names.subscribe(), position: None, next: Instant::now() }
    }
}

/// Follows a [`Listing`].
#[derive(Debug)]
pub struct Changes {
    names: watch::Receiver<Names>,
    /// The position up to which changes have been reported; `None` before the first report.
    position: Option<u64>,
    next: Instant,
}

impl Changes {
    /// Returns the current names, sorted, including changes that are not reported yet.
    pub fn snapshot(&self) -> Vec<Arc<str>> {
        self.names.borrow().all()
    }

    /// Returns the next change. The first call returns all names immediately. Later calls wait for a change, and
    /// gather the changes of a tenth of a second after the last report. A name that is added and removed within that
    /// time is not reported.
    ///
    /// Dropping the future loses no change. The future stays pending for ever once all clones of the listing are
    /// dropped.
    pub async fn next(&mut self) -> Change {
        loop {
            if self.position.is_some() {
                if self.names.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                // Mark the change as seen only when it is reported: the caller may drop the future during the wait.
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
    /// The latest changes, oldest first: a name, and whether it was added.
    log: VecDeque<(Arc<str>, bool)>,
    /// The number of changes so far.
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
        // A name's first change shows whether it was present before, its last change whether it is present now.
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
    async fn a_name_added_and_removed_in_between_is_not_reported() {
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
    async fn a_follower_far_behind_gets_all_names_again() {
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

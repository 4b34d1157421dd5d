//! The argument of a hook: a durable commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tracing::error;

use super::log::Entry;

/// A hook for commits that the store has written.
pub(super) type Hook = dyn Fn(&Committed<'_>) + Send + Sync;

/// A commit that the store has written.
#[derive(Debug)]
pub struct Committed<'a> {
    key: &'a str,
    entry: &'a Entry,
}

impl Committed<'_> {
    /// Returns the document's name.
    pub fn name(&self) -> &str {
        // A key is the collection, a slash, and the name.
        self.key.split_once('/').map_or(self.key, |(_, name)| name)
    }

    /// Returns the version that the commit made.
    pub fn version(&self) -> u64 {
        self.entry.version
    }

    /// Returns the commit's JSON Patch, as its page sent it.
    pub fn delta(&self) -> &str {
        self.entry.delta()
    }
}

/// Calls the hooks. One that panics affects nothing else.
pub(super) fn report(hooks: &[Arc<Hook>], key: &str, entry: &Entry) {
    for hook in hooks {
        let committed = Committed { key, entry };
        if catch_unwind(AssertUnwindSafe(|| hook(&committed))).is_err() {
            error!(key, "a hook for commits panicked");
        }
    }
}

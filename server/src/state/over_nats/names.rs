//! The names of the documents in the bucket, and their newest revisions.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::site::listing::Listing;

/// The documents in the bucket, as far as this process knows.
#[derive(Default)]
pub(super) struct Names {
    state: Mutex<NamesState>,
}

#[derive(Default)]
struct NamesState {
    /// The newest revision of each document.
    revisions: BTreeMap<String, u64>,
    /// The listings to update, each with its key prefix.
    listings: Vec<(String, Listing)>,
}

impl Names {
    fn state(&self) -> MutexGuard<'_, NamesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of documents.
    pub(super) fn count(&self) -> usize {
        self.state().revisions.len()
    }

    pub(super) fn revision(&self, key: &str) -> Option<u64> {
        self.state().revisions.get(key).copied()
    }

    /// Records that a document was written, or deleted (`None`).
    pub(super) fn note(&self, key: &str, revision: Option<u64>) {
        let NamesState { revisions, listings } = &mut *self.state();
        let of_key =
            listings.iter().filter_map(|(prefix, listing)| Some((key.strip_prefix(prefix)?, listing)));
        match (revision, revisions.get_mut(key)) {
            (Some(revision), Some(known)) => *known = revision,
            (Some(revision), None) => {
                revisions.insert(key.to_owned(), revision);
                for (name, listing) in of_key {
                    listing.insert(name);
                }
            }
            (None, _) => {
                revisions.remove(key);
                for (name, listing) in of_key {
                    listing.remove(name);
                }
            }
        }
    }

    /// Replaces all documents by `keys`.
    pub(super) fn replace(&self, keys: &HashMap<String, u64>) {
        let gone: Vec<String> = {
            let known = self.state();
            known.revisions.keys().filter(|key| !keys.contains_key(*key)).cloned().collect()
        };
        gone.iter().for_each(|key| self.note(key, None));
        keys.iter().for_each(|(key, revision)| self.note(key, Some(*revision)));
    }

    /// Returns the names of the documents whose keys begin with `prefix`, without the prefix: up to `count`, in the order of
    /// their bytes, after the name `after`.
    pub(super) fn after(&self, prefix: &str, after: &str, count: usize) -> Vec<String> {
        let state = self.state();
        let keys = state.revisions.range(format!("{prefix}{after}")..);
        let names = keys.map_while(|(key, _)| key.strip_prefix(prefix)).filter(|name| *name != after);
        names.take(count).map(str::to_owned).collect()
    }

    pub(super) fn listing(&self, prefix: String) -> Listing {
        let listing = Listing::new();
        let mut state = self.state();
        for name in state.revisions.keys().filter_map(|key| key.strip_prefix(&prefix)) {
            listing.insert(name);
        }
        state.listings.push((prefix, listing.clone()));
        listing
    }
}

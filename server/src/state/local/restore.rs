//! Rebuilds a document from its snapshot and the commits since.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::json::Object;
use crate::state::document::Snapshot;
use crate::state::log::{self, Entry};
use crate::state::patch::replay;
use crate::state::tree::Json;

use super::disk::{Record, Stored};
use crate::redb_file::damaged;

/// A document, as far as the store can read it.
pub(super) struct Restored {
    pub(super) incarnation: String,
    pub(super) version: u64,
    pub(super) value: Json,
    /// The last commits, without a gap.
    pub(super) log: Vec<Arc<Entry>>,
    /// The version of its snapshot.
    pub(super) snapshot: u64,
    /// The bytes of the commits since that snapshot.
    pub(super) unsaved: usize,
    /// The reason why the store cannot read later commits. `version` is then older than the last acknowledged one.
    pub(super) problem: Option<io::Error>,
}

/// Rebuilds a document.
///
/// # Errors
/// Returns an error if its snapshot is damaged.
pub(super) fn read(stored: Stored) -> io::Result<Restored> {
    let json = stored.snapshot.map_err(|(_, error)| error)?;
    let Object(Snapshot { document: incarnation, version: snapshot, data: mut value }): Object<
        Snapshot<Json>,
    > = serde_json::from_slice(&json).map_err(|error| broken("snapshot", &error))?;
    let (mut version, mut unsaved, mut problem) = (snapshot, 0, None);
    let mut log: Vec<Arc<Entry>> = Vec::new();
    for (number, record) in stored.commits {
        if log.last().is_some_and(|last| last.version + 1 != number) {
            // Commits before a gap are useless.
            log.clear();
        }
        let entry = match commit(number, record) {
            Ok(entry) => entry,
            // Commits before the snapshot only serve returning pages.
            Err(_) if number <= snapshot => {
                log.clear();
                continue;
            }
            Err(error) => {
                problem = Some(error);
                break;
            }
        };
        if number > snapshot {
            if number != version + 1 {
                problem = Some(damaged(format!("its commit of version {} is missing", version + 1)));
                break;
            }
            // Values share their nodes, so this copies nothing.
            let before = value.clone();
            if let Err(error) = replay(&mut value, entry.delta()) {
                value = before;
                problem = Some(broken("commit", &error));
                break;
            }
            (version, unsaved) = (number, unsaved + entry.bytes());
        }
        log.push(entry);
    }
    if log.last().is_some_and(|last| last.version != version) {
        log.clear();
    }
    Ok(Restored { incarnation, version, value, log, snapshot, unsaved, problem })
}

fn commit(version: u64, record: Record) -> io::Result<Arc<Entry>> {
    let json = record.map_err(|(_, error)| error)?;
    let Object(record): Object<log::Record> =
        serde_json::from_slice(&json).map_err(|error| broken("commit", &error))?;
    Ok(Arc::new(Entry::from_record(version, record)))
}

fn broken(what: &str, error: &dyn fmt::Display) -> io::Error {
    damaged(format!("it has a broken {what}: {error}"))
}

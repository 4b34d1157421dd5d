//! Documents on disk, in one redb file. Each transaction is written as a whole or not at all, even after a crash.

use std::io;
use std::path::Path;

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
};
use tracing::warn;

use super::record::{Of, name_sum};
use crate::redb_file::{Failure, RedbFile};

/// The last snapshot of each document.
pub(super) const SNAPSHOTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshots");

/// The commits of each document by version: those since its snapshot, and some earlier ones.
pub(super) const LOG: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("log");

/// The names of the documents, with their checksums. A listing reads these and no snapshots. A name without a snapshot shows
/// that a document was lost.
pub(super) const NAMES: TableDefinition<'_, &str, u64> = TableDefinition::new("names");

/// The changes of one transaction to one document.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) key: &'a str,
    pub(super) snapshot: Option<Vec<u8>>,
    pub(super) commits: Vec<(u64, Vec<u8>)>,
    /// The commits to delete: the first version, and the last.
    pub(super) forget: Option<(u64, u64)>,
}

/// A document as read from the file.
#[derive(Debug)]
pub(super) struct Stored {
    /// Its last snapshot, or the damaged bytes and the reason.
    pub(super) snapshot: Record,
    /// In the order of versions.
    pub(super) commits: Vec<(u64, Record)>,
}

impl Stored {
    pub(super) fn bytes(&self) -> usize {
        let commits: usize = self.commits.iter().map(|(_, commit)| bytes(commit)).sum();
        bytes(&self.snapshot) + commits
    }
}

fn bytes(record: &Record) -> usize {
    record.as_ref().map_or_else(|(bytes, _)| bytes.len(), Vec::len)
}

/// A record, or its damaged bytes and the reason.
pub(super) type Record = Result<Vec<u8>, (Vec<u8>, io::Error)>;

/// The file of a store.
#[derive(Debug)]
pub(super) struct Disk(RedbFile);

impl Disk {
    /// Opens the file, and creates it if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened, or is not a store. The message says what to do.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = RedbFile::new(path);
        let opened = RedbFile::create(path, |transaction| {
            transaction.open_table(SNAPSHOTS)?;
            transaction.open_table(LOG)?;
            transaction.open_table(NAMES)?;
            Ok(())
        })
        .and_then(|()| file.using(complete_names));
        opened.map(|()| Self(file)).map_err(|error| explain(path, &error))
    }

    /// Opens a file to read as much as possible: tables may be damaged.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened, or does not exist.
    pub(super) fn open_to_read(path: &Path) -> io::Result<Self> {
        let mut file = RedbFile::new(path);
        file.using(|_| Ok(())).map_err(|error| explain(path, &error))?;
        Ok(Self(file))
    }

    /// Calls `act` with the database.
    pub(super) fn using<T>(&mut self, act: impl FnOnce(&Database) -> Result<T, Failure>) -> io::Result<T> {
        self.0.using(act)
    }

    /// Returns the number of documents.
    pub(super) fn count(&mut self) -> io::Result<usize> {
        self.0.reading(|database| {
            let count = database.begin_read()?.open_table(NAMES)?.len()?;
            Ok(usize::try_from(count).unwrap_or(usize::MAX))
        })
    }

    /// Returns the names of the documents whose keys begin with `prefix`, without the prefix: up to `count`, in the order of
    /// their bytes, after the name `after`.
    pub(super) fn names(&mut self, prefix: &str, after: &str, count: usize) -> io::Result<Vec<String>> {
        self.0.reading(|database| {
            let table = database.begin_read()?.open_table(NAMES)?;
            let mut names = Vec::new();
            for row in table.range(format!("{prefix}{after}").as_str()..)? {
                let (key, sum) = row?;
                let Some(name) = key.value().strip_prefix(prefix) else { break };
                if name == after {
                    continue;
                }
                if names.len() == count {
                    break;
                }
                if sum.value() == name_sum(key.value()) {
                    names.push(name.to_owned());
                } else {
                    warn!(key = key.value(), "a name in the store is damaged; it is not listed");
                }
            }
            Ok(names)
        })
    }

    pub(super) fn load(&mut self, key: &str) -> io::Result<Option<Stored>> {
        self.0.reading(|database| load(&database.begin_read()?, key))
    }

    /// Returns a view of the file as it is now, which later commits do not change.
    pub(super) fn view(&mut self) -> io::Result<ReadTransaction> {
        self.0.reading(|database| Ok(database.begin_read()?))
    }

    /// Deletes a document with all of its commits, and returns once that is safe against a loss of power. Returns whether it
    /// existed.
    pub(super) fn delete(&mut self, key: &str) -> io::Result<bool> {
        self.0.writing(|transaction| {
            let is_named = transaction.open_table(NAMES)?.remove(key)?.is_some();
            let has_snapshot = transaction.open_table(SNAPSHOTS)?.remove(key)?.is_some();
            transaction.open_table(LOG)?.retain_in((key, 0)..=(key, u64::MAX), |_, _| false)?;
            Ok(is_named || has_snapshot)
        })
    }

    /// Writes all changes in one transaction, and returns once they are safe against a loss of power.
    pub(super) fn write(&mut self, changes: &[Change<'_>]) -> io::Result<()> {
        self.0.writing(|transaction| {
            let mut snapshots = transaction.open_table(SNAPSHOTS)?;
            let mut names = transaction.open_table(NAMES)?;
            let mut log = transaction.open_table(LOG)?;
            for change in changes {
                let key = change.key;
                if let Some(snapshot) = &change.snapshot {
                    snapshots.insert(key, Of::Snapshot(key).seal(snapshot).as_slice())?;
                    names.insert(key, name_sum(key))?;
                }
                for (version, commit) in &change.commits {
                    log.insert((key, *version), Of::Commit(key, *version).seal(commit).as_slice())?;
                }
                for version in change.forget.into_iter().flat_map(|(first, last)| first..=last) {
                    log.remove((key, version))?;
                }
            }
            Ok(())
        })
    }
}

/// Reads a document; `None` if it does not exist.
pub(super) fn load(view: &ReadTransaction, key: &str) -> Result<Option<Stored>, Failure> {
    let mut commits = Vec::new();
    for row in view.open_table(LOG)?.range((key, 0)..=(key, u64::MAX))? {
        let (place, commit) = row?;
        let version = place.value().1;
        commits.push((version, record(Of::Commit(key, version), commit.value())));
    }
    match view.open_table(SNAPSHOTS)?.get(key)? {
        Some(snapshot) => Ok(Some(Stored { snapshot: record(Of::Snapshot(key), snapshot.value()), commits })),
        None if commits.is_empty() && view.open_table(NAMES)?.get(key)?.is_none() => Ok(None),
        None => Err(Failure::damaged("its snapshot is missing")),
    }
}

/// Reads the last snapshot of a document whose commits cannot be read.
pub(super) fn load_snapshot(view: &ReadTransaction, key: &str) -> Result<Option<Stored>, Failure> {
    let snapshots = view.open_table(SNAPSHOTS)?;
    let Some(snapshot) = snapshots.get(key)? else { return Ok(None) };
    Ok(Some(Stored { snapshot: record(Of::Snapshot(key), snapshot.value()), commits: Vec::new() }))
}

fn record(of: Of<'_>, bytes: &[u8]) -> Record {
    match of.unseal(bytes) {
        Ok(json) => Ok(json.to_vec()),
        Err(error) => Err((bytes.to_vec(), error)),
    }
}

/// Adds names that a store of an earlier version lacks.
fn complete_names(database: &Database) -> Result<(), Failure> {
    let view = database.begin_read()?;
    let snapshots = view.open_table(SNAPSHOTS)?;
    let named = match view.open_table(NAMES) {
        Ok(names) => names.len()?,
        Err(redb::TableError::TableDoesNotExist(_)) => 0,
        Err(error) => return Err(error.into()),
    };
    view.open_table(LOG)?.first()?;
    if snapshots.len()? <= named {
        return Ok(());
    }
    let transaction = database.begin_write()?;
    {
        let mut names = transaction.open_table(NAMES)?;
        for row in snapshots.iter()? {
            let Ok((key, _)) = row else {
                warn!("the store is damaged: the names after a page that cannot be read are not listed");
                break;
            };
            names.insert(key.value(), name_sum(key.value()))?;
        }
    }
    Ok(transaction.commit()?)
}

/// Adds the file's name and a remedy to the error.
fn explain(path: &Path, error: &io::Error) -> io::Error {
    let remedy = match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            ". It is no store, or a damaged one. Put a backup in its place, or see what `manysocket-server store export` can \
             still read; docs/backup.md says how"
        }
        io::ErrorKind::ResourceBusy => ": a store belongs to one process at a time",
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot open {}: {error}{remedy}", path.display()))
}

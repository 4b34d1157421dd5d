//! Exports and imports the documents of a file as lines of JSON: for backups, for moves to another place, and to salvage a
//! damaged file.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::path::Path;

use redb::{Database, ReadTransaction, ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::json::Object;
use crate::redb_file::{Failure, caught, damaged};
use crate::state::document::{MAX_NAME, Snapshot};
use crate::state::tree::Json;

use super::disk::{Disk, LOG, NAMES, SNAPSHOTS, load, load_snapshot};
use super::record::{Of, name_sum, unverified};
use super::restore::{self, Restored};

/// Opens the file of a store, for programs that work on it while no server has it open.
///
/// ```no_run
/// use manysocket_server::state::StoreFile;
///
/// # fn run() -> std::io::Result<()> {
/// let report = StoreFile::open("documents.redb")?.check()?;
/// for damage in &report.damaged {
///     println!("{}/{}: {}", damage.collection, damage.name, damage.reason);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StoreFile {
    disk: Disk,
}

/// The result of reading a store.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The number of documents read, including those of which only an earlier version was readable.
    pub documents: usize,
    /// The documents that could not be read, or only in an earlier version than the acknowledged one.
    pub damaged: Vec<Damage>,
}

/// The damage to a document.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The document's collection.
    pub collection: String,
    /// The document's name in the collection.
    pub name: String,
    /// The damage, and the version that was saved, if any.
    pub reason: String,
}

/// A document as a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    collection: String,
    name: String,
    #[serde(default = "first_version")]
    version: u64,
    /// The reason why this may differ from the acknowledged document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    damaged: Option<String>,
    data: Box<RawValue>,
}

/// Returns the version of a document that another program has written.
fn first_version() -> u64 {
    1
}

impl StoreFile {
    /// Opens an existing file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened, if a process has it open, or if it is not a store.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { disk: Disk::open_to_read(path.as_ref())? })
    }

    /// Opens a file, and creates it if it does not exist.
    ///
    /// # Errors
    /// Returns an error as [`Self::open`] does, or if the file cannot be created.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { disk: Disk::open(path.as_ref())? })
    }

    /// Reads all documents, and reports those that are damaged.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read at all.
    pub fn check(&mut self) -> io::Result<Report> {
        self.export(io::sink())
    }

    /// Writes all documents as lines of JSON, each with its collection, name, version and data. It writes the readable part
    /// of a damaged document, and marks it.
    ///
    /// # Errors
    /// Returns an error if `to` cannot be written, or if the file cannot be read at all.
    pub fn export(&mut self, to: impl Write) -> io::Result<Report> {
        export(&self.disk.view()?, to)
    }

    /// Reads lines of JSON and writes the documents to the file: all of them, or none if there is an error. Pages that had
    /// one of them open get it anew. Returns the number of documents read.
    ///
    /// # Errors
    /// Returns an error that names the line if [`Self::export`] would not write it, or if it is marked as damaged. Returns
    /// an error, too, if the file has documents and `overwrite` is false, or if the file cannot be written.
    pub fn import(&mut self, from: impl BufRead, overwrite: bool) -> io::Result<usize> {
        self.disk.using(|database| import(database, from, overwrite))
    }

    /// Returns the number of documents.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    pub fn documents(&mut self) -> io::Result<usize> {
        self.disk.count()
    }
}

/// Writes the documents of a view as lines of JSON.
pub(crate) fn export(view: &ReadTransaction, to: impl Write) -> io::Result<Report> {
    let mut to = io::BufWriter::new(to);
    let mut report = Report::default();
    for key in keys(view) {
        let (collection, name) = split(&key);
        let (line, problem) = match read(view, &key) {
            Ok((restored, problem)) => {
                let (version, data) = (restored.version, to_raw_value(&restored.value)?);
                let reason = problem.map(|problem| format!("{problem}; saved as of version {version}"));
                let damaged = reason.clone();
                (
                    Some(Line { collection: collection.clone(), name: name.clone(), version, damaged, data }),
                    reason,
                )
            }
            Err(error) => (None, Some(error.to_string())),
        };
        if let Some(line) = line {
            serde_json::to_writer(&mut to, &line)?;
            to.write_all(b"\n")?;
            report.documents += 1;
        }
        report.damaged.extend(problem.map(|reason| Damage { collection, name, reason }));
    }
    to.flush()?;
    Ok(report)
}

/// Returns all keys that can be found. If redb cannot read on, the search continues from the other end, and in the other
/// tables.
fn keys(view: &ReadTransaction) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    macro_rules! collect {
        ($table:expr, $key:expr) => {
            let forward = caught(|| {
                for row in view.open_table($table)?.iter()? {
                    keys.insert($key(&row?.0));
                }
                Ok(())
            });
            if forward.is_err() {
                // The keys before the damaged place count; the error is known already.
                let _ = caught(|| {
                    for row in view.open_table($table)?.iter()?.rev() {
                        keys.insert($key(&row?.0));
                    }
                    Ok(())
                });
            }
        };
    }
    collect!(NAMES, |key: &redb::AccessGuard<'_, &str>| key.value().to_owned());
    collect!(SNAPSHOTS, |key: &redb::AccessGuard<'_, &str>| key.value().to_owned());
    collect!(LOG, |key: &redb::AccessGuard<'_, (&str, u64)>| key.value().0.to_owned());
    keys
}

/// Reads a document as far as possible, and returns the problem, if there is one.
fn read(view: &ReadTransaction, key: &str) -> io::Result<(Restored, Option<io::Error>)> {
    let (stored, mut problem) = match caught(|| load(view, key)) {
        Ok(stored) => (stored, None),
        Err(error) => match caught(|| load_snapshot(view, key)) {
            Ok(Some(stored)) => (Some(stored), Some(error)),
            Ok(None) | Err(_) => return Err(error),
        },
    };
    let mut stored = stored.ok_or_else(|| damaged("it is in a list and nowhere else".into()))?;
    if let Err((record, error)) = stored.snapshot {
        stored.snapshot = Ok(unverified(&record).to_vec());
        problem = problem.or(Some(error));
    }
    match (restore::read(stored), problem) {
        (Ok(mut restored), problem) => {
            let problem = problem.or(restored.problem.take());
            Ok((restored, problem))
        }
        // The record may be valid but unreadable, or invalid: the earlier problem is the better reason.
        (Err(error), problem) => Err(problem.unwrap_or(error)),
    }
}

fn import(database: &Database, from: impl BufRead, overwrite: bool) -> Result<usize, Failure> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let mut count = 0;
    {
        let mut snapshots = transaction.open_table(SNAPSHOTS)?;
        let mut names = transaction.open_table(NAMES)?;
        let mut log = transaction.open_table(LOG)?;
        let there = names.len()?.max(snapshots.len()?);
        if there > 0 && !overwrite {
            let why = format!("there are {there} documents in the store already; nothing has been imported");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why).into());
        }
        for (number, text) in from.lines().enumerate() {
            let at = |why: &dyn std::fmt::Display| damaged(format!("line {}: {why}", number + 1));
            let text = text?;
            if text.trim().is_empty() {
                continue;
            }
            let Object(line): Object<Line> = serde_json::from_str(&text).map_err(|error| at(&error))?;
            let Line { collection, name, version, data, damaged } = line;
            let key = join(&collection, &name);
            if let Some(damaged) = damaged {
                let why = format!(
                    "{key:?} is damaged: {damaged}. Look at it, then remove the line or its member \"damaged\""
                );
                return Err(at(&why).into());
            }
            if name.is_empty() || name.len() > MAX_NAME || version == 0 {
                return Err(
                    at(&format!("a name has 1 to {MAX_NAME} bytes, and versions begin with 1")).into()
                );
            }
            // The server reads the data in this way, so the import checks it.
            serde_json::from_str::<Json>(data.get()).map_err(|error| at(&error))?;
            // Pages that know an earlier document of this name get the whole of this one.
            let document = format!("{:016x}", getrandom::u64().map_err(io::Error::from)?);
            let snapshot =
                serde_json::to_vec(&Snapshot { document, version, data }).map_err(io::Error::from)?;
            let record = Of::Snapshot(&key).seal(&snapshot);
            snapshots.insert(key.as_str(), record.as_slice())?;
            names.insert(key.as_str(), name_sum(&key))?;
            log.retain_in((key.as_str(), 0)..=(key.as_str(), u64::MAX), |_, _| false)?;
            count += 1;
        }
    }
    transaction.commit()?;
    Ok(count)
}

/// Returns the key of a document: see [`Documents::new`](crate::state::Documents::new).
fn join(collection: &str, name: &str) -> String {
    format!("{}/{name}", collection.replace('%', "%25").replace('/', "%2F"))
}

/// Returns the collection and name of a key.
fn split(key: &str) -> (String, String) {
    let (collection, name) = key.split_once('/').unwrap_or(("", key));
    (collection.replace("%2F", "/").replace("%25", "%"), name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_collection_and_a_name() {
        for (collection, name) in [("a", "b"), ("a/b", "c"), ("a%2Fb", "c/d%2F"), ("%25", "%"), ("", "x")] {
            assert_eq!(split(&join(collection, name)), (collection.to_owned(), name.to_owned()));
        }
    }
}

//! The documents of a file as lines of JSON: for backups, for moving them elsewhere, and to save what can be saved.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::path::Path;

use redb::{Database, ReadTransaction, ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::json::Object;
use crate::state::document::{MAX_NAME, Snapshot};
use crate::state::tree::Json;

use super::disk::{Disk, Failure, LOG, NAMES, SNAPSHOTS, caught, load, load_snapshot};
use super::record::{Of, damaged, name_sum, unverified};
use super::restore::{self, Restored};

/// The file of a store, for programs that work on it while no server has it open.
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

/// What was found in a store.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Documents that were read, those included of which only an earlier version can be.
    pub documents: usize,
    /// Documents that cannot be read, or not as they were acknowledged.
    pub damaged: Vec<Damage>,
}

/// What is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The collection.
    pub collection: String,
    /// The name in it.
    pub name: String,
    /// What is wrong, and what was saved.
    pub reason: String,
}

/// A document in a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    collection: String,
    name: String,
    #[serde(default = "first_version")]
    version: u64,
    /// Why this may not be the document as it was acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    damaged: Option<String>,
    data: Box<RawValue>,
}

/// The version of a document that another program has written.
fn first_version() -> u64 {
    1
}

impl StoreFile {
    /// Opens a file that is there.
    ///
    /// # Errors
    /// The file cannot be opened, a process has it open, or it is no store.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { disk: Disk::open_to_read(path.as_ref())? })
    }

    /// Opens a file, or makes it where there is none.
    ///
    /// # Errors
    /// As with [`Self::open`], or it cannot be made.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { disk: Disk::open(path.as_ref())? })
    }

    /// Reads all documents, and reports those that are damaged.
    ///
    /// # Errors
    /// The file cannot be read at all.
    pub fn check(&mut self) -> io::Result<Report> {
        self.export(io::sink())
    }

    /// Writes all documents as lines of JSON, each with its collection, name, version and data. Of a damaged document it writes what
    /// can be read, and marks it.
    ///
    /// # Errors
    /// `to` cannot be written, or the file not be read at all.
    pub fn export(&mut self, to: impl Write) -> io::Result<Report> {
        export(&self.disk.view()?, to)
    }

    /// Reads lines of JSON and puts the documents into the file: all of them, or none if there is an error. Pages that have
    /// had them open get them anew. Returns how many documents there were.
    ///
    /// # Errors
    /// A line is none of those that [`Self::export`] writes, or is marked as damaged; the message names it. Or the file has documents,
    /// and `overwrite` is false; or it cannot be written.
    pub fn import(&mut self, from: impl BufRead, overwrite: bool) -> io::Result<usize> {
        self.disk.using(|database| import(database, from, overwrite))
    }

    /// Returns how many documents there are.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn documents(&mut self) -> io::Result<usize> {
        self.disk.count()
    }
}

/// Writes the documents of a view.
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

/// All keys that can be found. Where redb cannot read on, it is asked from the other end, and the tables have the same names.
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
                // What it finds before it comes to the same place is what counts.
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

/// Reads a document as far as it can be read, and what is wrong with it.
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
        // What is valid and cannot be read, or not valid in the first place.
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
            // As the server will read it.
            serde_json::from_str::<Json>(data.get()).map_err(|error| at(&error))?;
            // Pages that know an earlier document of the name get this one as a whole.
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

/// The key of a document: see [`Documents::new`](crate::state::Documents::new).
fn join(collection: &str, name: &str) -> String {
    format!("{}/{name}", collection.replace('%', "%25").replace('/', "%2F"))
}

/// The collection and name of a key.
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

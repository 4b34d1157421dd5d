//! Documents on disk, in one redb file. Each transaction is written as a whole or not at all, even after a crash.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, RepairSession,
    TableDefinition,
};
use tracing::{info, warn};

use super::record::{Of, damaged, name_sum};

/// The last snapshot of each document.
pub(super) const SNAPSHOTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshots");

/// The commits of each document by version: those since its snapshot, and some earlier ones.
pub(super) const LOG: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("log");

/// The names of the documents, with their checksums. A listing reads these and no snapshots. A name without a snapshot shows
/// that a document was lost.
pub(super) const NAMES: TableDefinition<'_, &str, u64> = TableDefinition::new("names");

/// The bytes of redb's cache. Open documents are in memory anyway, and the system caches the file; this cache serves opening
/// others, and the inner pages of the tables. Up to half of it may be dirty pages of a transaction, which writes a few MiB.
/// redb's default is 1 GiB.
const CACHE_BYTES: usize = 16 << 20;

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

/// The file, which is opened again after an error.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    /// `None` after an error: redb then accepts no operation until it has read the file anew.
    database: Option<Database>,
}

impl Disk {
    /// Opens the file, and creates it if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened, or is not a store. The message says what to do.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let exists = path.try_exists().map_err(|error| explain(path, &error))?;
        if !exists {
            create(path).map_err(|error| explain(path, &error))?;
        }
        Self::open_existing(path)
    }

    /// Opens a file to read as much as possible: tables may be damaged.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened, or does not exist.
    pub(super) fn open_to_read(path: &Path) -> io::Result<Self> {
        let mut disk = Self { path: path.to_owned(), database: None };
        disk.using(|_| Ok(())).map_err(|error| explain(path, &error))?;
        Ok(disk)
    }

    fn open_existing(path: &Path) -> io::Result<Self> {
        let mut disk = Self { path: path.to_owned(), database: None };
        disk.using(complete_names).map_err(|error| explain(path, &error))?;
        Ok(disk)
    }

    /// Returns the number of documents.
    pub(super) fn count(&mut self) -> io::Result<usize> {
        self.reading(|database| {
            let count = database.begin_read()?.open_table(NAMES)?.len()?;
            Ok(usize::try_from(count).unwrap_or(usize::MAX))
        })
    }

    /// Returns the names of all documents whose keys begin with `prefix`, without the prefix.
    pub(super) fn names(&mut self, prefix: &str) -> io::Result<Vec<String>> {
        self.reading(|database| {
            let table = database.begin_read()?.open_table(NAMES)?;
            let mut names = Vec::new();
            for row in table.range(prefix..)? {
                let (key, sum) = row?;
                let Some(name) = key.value().strip_prefix(prefix) else { break };
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
        self.reading(|database| load(&database.begin_read()?, key))
    }

    /// Returns a view of the file as it is now, which later commits do not change.
    pub(super) fn view(&mut self) -> io::Result<ReadTransaction> {
        self.reading(|database| Ok(database.begin_read()?))
    }

    /// Writes all changes in one transaction, and returns once they are safe against a loss of power.
    pub(super) fn write(&mut self, changes: &[Change<'_>]) -> io::Result<()> {
        self.using(|database| {
            // Durability::Immediate, redb's default: `commit` returns after fsync.
            let mut transaction = database.begin_write()?;
            // With quick repair, a store that was not closed cleanly opens at once. Without it redb first reads the whole
            // file, and refuses it if one document in it is damaged.
            transaction.set_quick_repair(true);
            {
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
            }
            transaction.commit()?;
            Ok(())
        })
    }

    /// Calls `act` for an operation that only reads: if it finds damage, the database stays open.
    fn reading<T>(&mut self, act: impl FnOnce(&Database) -> Result<T, Failure>) -> io::Result<T> {
        self.using(|database| match act(database) {
            Err(Failure(error)) if error.kind() == io::ErrorKind::InvalidData => Ok(Err(error)),
            result => result.map(Ok),
        })?
    }

    /// Calls `act` with the database, which it opens if necessary and closes after an error.
    pub(super) fn using<T>(&mut self, act: impl FnOnce(&Database) -> Result<T, Failure>) -> io::Result<T> {
        let database = match self.database.take() {
            Some(database) => database,
            None => caught(|| open(&self.path))?,
        };
        let result = caught(|| act(&database));
        match result {
            Ok(_) => self.database = Some(database),
            Err(_) => close(database),
        }
        result
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(database) = self.database.take() {
            close(database);
        }
    }
}

/// Closes a file cleanly. redb writes for that, and may panic where it finds damage.
fn close(database: Database) {
    if let Err(error) = caught(|| Ok(database.close()?)) {
        warn!(%error, "the store could not be closed in order; no commit is lost by that");
    }
}

/// The reason why an operation failed: redb's errors, and ours.
pub(super) struct Failure(io::Error);

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(match error.into() {
            redb::Error::Io(error) => error,
            redb::Error::Corrupted(what) => damaged(format!("the file is damaged: {what}")),
            error @ (redb::Error::TableDoesNotExist(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TableIsNotMultimap(_)
            | redb::Error::UpgradeRequired(_)) => damaged(format!("the file is damaged: {error}")),
            redb::Error::DatabaseAlreadyOpen => {
                io::Error::new(io::ErrorKind::ResourceBusy, "another process has it open")
            }
            other => io::Error::other(other),
        })
    }
}

impl Failure {
    pub(super) fn damaged(what: &str) -> Self {
        Self(damaged(what.into()))
    }
}

/// Calls `act`, and reports a panic as damage: redb panics on a page that it cannot have written.
pub(super) fn caught<T>(act: impl FnOnce() -> Result<T, Failure>) -> io::Result<T> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(result) => result.map_err(|Failure(error)| error),
        Err(_) => Err(damaged("the file is damaged: redb cannot make sense of a page of it".into())),
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

/// Opens the file, and repairs it if it was not closed cleanly, or if redb's record of free pages is damaged.
fn open(path: &Path) -> Result<Database, Failure> {
    if fs::metadata(path)?.len() == 0 {
        return Err(Failure::damaged("the file is empty"));
    }
    match caught(|| attempt(path, false)) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            warn!(%error, "the store cannot be opened as it is; checking all of it");
            // If both attempts fail, the first error is the more useful one.
            caught(|| attempt(path, true)).map_err(|_| Failure(error))
        }
        result => result.map_err(Failure),
    }
}

fn attempt(path: &Path, is_checked: bool) -> Result<Database, Failure> {
    let mut builder = Database::builder();
    builder.set_check_integrity_on_open(is_checked);
    builder.set_cache_size(CACHE_BYTES);
    let (shown, tenths) = (path.display().to_string(), AtomicU32::new(0));
    builder.set_repair_callback(move |repair: &mut RepairSession| {
        let progress = repair.progress();
        if progress == 0.0 {
            return info!(path = shown, "the store was not closed in order: reading all of it");
        }
        // Progress runs from 0 to 1.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let tenth = (progress * 10.0) as u32;
        if tenths.swap(tenth, Ordering::Relaxed) != tenth {
            info!(path = shown, "read {} % of the store", tenth * 10);
        }
    });
    Ok(builder.open(path)?)
}

/// Creates an empty store. The file gets its name only once it is complete.
fn create(path: &Path) -> io::Result<()> {
    let unfinished = with_suffix(path, ".new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    caught(|| {
        let database = Database::create(&unfinished)?;
        let transaction = database.begin_write()?;
        transaction.open_table(SNAPSHOTS)?;
        transaction.open_table(LOG)?;
        transaction.open_table(NAMES)?;
        transaction.commit()?;
        Ok(database.close()?)
    })?;
    put_in_place(&unfinished, path)
}

/// Renames a complete file to its name, and syncs the folder.
pub(super) fn put_in_place(unfinished: &Path, path: &Path) -> io::Result<()> {
    fs::rename(unfinished, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
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

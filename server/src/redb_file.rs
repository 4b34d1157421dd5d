//! A file of redb that several parts of the server use in the same way: opened again after an error, repaired where it was not
//! closed in order, and never a panic for damage.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use redb::{Database, RepairSession, WriteTransaction};
use tracing::{info, warn};

/// The bytes of redb's cache. Open records are in memory anyway, and the system caches the file; this cache serves opening
/// other things, and the inner pages of the tables. Up to half of it may be dirty pages of a transaction, which writes a few MiB.
/// redb's default is 1 GiB.
const CACHE_BYTES: usize = 16 << 20;

/// The file, which is opened again after an error.
#[derive(Debug)]
pub(crate) struct RedbFile {
    path: PathBuf,
    /// `None` before it is first used, and after an error: redb then accepts no operation until it has read the file anew.
    database: Option<Database>,
}

impl RedbFile {
    /// Opens the file when it is first used.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), database: None }
    }

    /// Creates the file if it does not exist, with what `fill` writes. The file gets its name only once it is complete.
    pub(crate) fn create(
        path: &Path,
        fill: impl FnOnce(&WriteTransaction) -> Result<(), Failure>,
    ) -> io::Result<()> {
        if path.try_exists()? {
            return Ok(());
        }
        let unfinished = with_suffix(path, ".new");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        caught(|| {
            let database = Database::create(&unfinished)?;
            let transaction = database.begin_write()?;
            fill(&transaction)?;
            transaction.commit()?;
            Ok(database.close()?)
        })?;
        put_in_place(&unfinished, path)
    }

    /// Calls `act` for an operation that only reads: if it finds damage, the database stays open.
    pub(crate) fn reading<T>(&mut self, act: impl FnOnce(&Database) -> Result<T, Failure>) -> io::Result<T> {
        self.using(|database| match act(database) {
            Err(Failure(error)) if error.kind() == io::ErrorKind::InvalidData => Ok(Err(error)),
            result => result.map(Ok),
        })?
    }

    /// Calls `act` with the database, which it opens if necessary and closes after an error.
    pub(crate) fn using<T>(&mut self, act: impl FnOnce(&Database) -> Result<T, Failure>) -> io::Result<T> {
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

    /// Calls `act` with a transaction, and returns once it is safe against a loss of power.
    pub(crate) fn writing<T>(
        &mut self,
        act: impl FnOnce(&WriteTransaction) -> Result<T, Failure>,
    ) -> io::Result<T> {
        self.using(|database| {
            // Durability::Immediate, redb's default: `commit` returns after fsync.
            let mut transaction = database.begin_write()?;
            // With quick repair, a file that was not closed cleanly opens at once. Without it redb first reads the whole
            // file, and refuses it if one record in it is damaged.
            transaction.set_quick_repair(true);
            let result = act(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }
}

impl Drop for RedbFile {
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
pub(crate) struct Failure(io::Error);

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
    pub(crate) fn damaged(what: &str) -> Self {
        Self(damaged(what.into()))
    }
}

/// Calls `act`, and reports a panic as damage: redb panics on a page that it cannot have written.
pub(crate) fn caught<T>(act: impl FnOnce() -> Result<T, Failure>) -> io::Result<T> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(result) => result.map_err(|Failure(error)| error),
        Err(_) => Err(damaged("the file is damaged: redb cannot make sense of a page of it".into())),
    }
}

/// Returns an error about damage to the stored data.
pub(crate) fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
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

/// Renames a complete file to its name, and syncs the folder.
fn put_in_place(unfinished: &Path, path: &Path) -> io::Result<()> {
    fs::rename(unfinished, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Computes a checksum of 64 bits, like FNV-1a, but over eight bytes at a time: a snapshot of 1 MiB takes a fraction of a
/// millisecond. Each step is reversible, so one differing word always makes another checksum; the rotation spreads it over
/// all bits.
pub(crate) fn checksum<const N: usize>(parts: [&[u8]; N]) -> u64 {
    let step = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    let mut sum = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        let (words, rest) = part.as_chunks::<8>();
        sum = words.iter().fold(sum, |sum, word| step(sum, u64::from_le_bytes(*word)));
        sum = rest.iter().fold(sum, |sum, byte| step(sum, u64::from(*byte)));
    }
    sum
}

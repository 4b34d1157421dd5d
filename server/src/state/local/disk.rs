//! Documents on disk, in one redb file. What is written together is there together, or not at all, whatever happens.

use std::io;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};

/// The last snapshot of each document.
const SNAPSHOTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshots");

/// Each document's commits by version: those since its snapshot, and some before.
const LOG: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("log");

/// What one transaction does to one document.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) key: &'a str,
    pub(super) snapshot: Option<Vec<u8>>,
    pub(super) commits: Vec<(u64, Vec<u8>)>,
    /// Commits up to this version go: from the first, to the last.
    pub(super) forget: Option<(u64, u64)>,
}

/// A document as it was written.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) snapshot: Vec<u8>,
    /// In the order of versions.
    pub(super) commits: Vec<(u64, Vec<u8>)>,
}

impl Stored {
    pub(super) fn bytes(&self) -> usize {
        self.snapshot.len() + self.commits.iter().map(|(_, commit)| commit.len()).sum::<usize>()
    }
}

/// The file, and the way back to it after an error.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    /// `None` after an error: redb then takes nothing more until it has read the file anew.
    database: Option<Database>,
}

impl Disk {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut disk = Self { path: path.to_owned(), database: None };
        disk.using(|_| Ok(())).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot open {}: {error}", path.display()))
        })?;
        Ok(disk)
    }

    /// How many documents there are.
    pub(super) fn count(&mut self) -> io::Result<usize> {
        self.using(|database| {
            let count = database.begin_read()?.open_table(SNAPSHOTS)?.len()?;
            Ok(usize::try_from(count).unwrap_or(usize::MAX))
        })
    }

    /// The names of all documents whose keys begin with `prefix`, without it.
    pub(super) fn names(&mut self, prefix: &str) -> io::Result<Vec<String>> {
        self.using(|database| {
            let table = database.begin_read()?.open_table(SNAPSHOTS)?;
            let mut names = Vec::new();
            for row in table.range(prefix..)? {
                let (key, _) = row?;
                let Some(name) = key.value().strip_prefix(prefix) else { break };
                names.push(name.to_owned());
            }
            Ok(names)
        })
    }

    pub(super) fn load(&mut self, key: &str) -> io::Result<Option<Stored>> {
        self.using(|database| {
            let transaction = database.begin_read()?;
            let Some(snapshot) =
                transaction.open_table(SNAPSHOTS)?.get(key)?.map(|snapshot| snapshot.value().to_vec())
            else {
                return Ok(None);
            };
            let mut commits = Vec::new();
            for row in transaction.open_table(LOG)?.range((key, 0)..=(key, u64::MAX))? {
                let (place, commit) = row?;
                commits.push((place.value().1, commit.value().to_vec()));
            }
            Ok(Some(Stored { snapshot, commits }))
        })
    }

    /// Writes all changes in one transaction, and returns once they would survive a loss of power.
    pub(super) fn write(&mut self, changes: &[Change<'_>]) -> io::Result<()> {
        self.using(|database| {
            // Durability::Immediate, redb's default: `commit` returns after fsync.
            let transaction = database.begin_write()?;
            {
                let mut snapshots = transaction.open_table(SNAPSHOTS)?;
                let mut log = transaction.open_table(LOG)?;
                for change in changes {
                    if let Some(snapshot) = &change.snapshot {
                        snapshots.insert(change.key, snapshot.as_slice())?;
                    }
                    for (version, commit) in &change.commits {
                        log.insert((change.key, *version), commit.as_slice())?;
                    }
                    for version in change.forget.into_iter().flat_map(|(first, last)| first..=last) {
                        log.remove((change.key, version))?;
                    }
                }
            }
            transaction.commit()?;
            Ok(())
        })
    }

    /// Does something with the database, which is opened if it is not; after an error it is let go.
    fn using<T>(&mut self, act: impl FnOnce(&Database) -> Result<T, redb::Error>) -> io::Result<T> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.reopen().map_err(to_io)?,
        };
        let result = act(&database).map_err(to_io)?;
        self.database = Some(database);
        Ok(result)
    }

    fn reopen(&self) -> Result<Database, redb::Error> {
        let database = Database::create(&self.path)?;
        // Readers find the tables there from now on.
        let transaction = database.begin_write()?;
        transaction.open_table(SNAPSHOTS)?;
        transaction.open_table(LOG)?;
        transaction.commit()?;
        Ok(database)
    }
}

fn to_io(error: redb::Error) -> io::Error {
    match error {
        redb::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

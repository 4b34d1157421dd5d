//! Implements `manysocket-server store`: maintains the file of the documents.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use manysocket_server::state::StoreFile;

use crate::options::Action;
use crate::running_store::{self, Found, Problem};

/// The exit code if the action succeeded but some documents are damaged. 1 means that it failed, 2 that the command
/// line is wrong.
const DAMAGED: u8 = 3;

/// Returns the path of the store in a `--data` folder.
pub(crate) fn file_in(folder: &Path) -> PathBuf {
    folder.join("state.redb")
}

/// Runs the action, and reports on standard error.
pub(crate) fn run(action: &Action) -> ExitCode {
    match act(action) {
        Ok(Found { damaged, .. }) if damaged.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(DAMAGED),
        Err(error) => {
            eprintln!("manysocket-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(action: &Action) -> io::Result<Found> {
    let found = match action {
        Action::Check { path } => {
            let found = StoreFile::open(file(path))?.check()?.into();
            report(&found, "can be read");
            found
        }
        Action::Export { path } => {
            let found = export(path, &mut io::stdout().lock())?;
            report(&found, "exported");
            found
        }
        Action::Backup { path, file } => {
            let found = backup(path, file)?;
            report(&found, "saved");
            found
        }
        Action::Import { path, file: from, overwrite } => {
            let lines: Box<dyn BufRead> = match from {
                Some(from) => {
                    Box::new(BufReader::new(File::open(from).map_err(|error| about(from, &error))?))
                }
                None => Box::new(io::stdin().lock()),
            };
            let documents = StoreFile::create(file(path))?.import(lines, *overwrite).map_err(|error| {
                let remedy = match error.kind() {
                    io::ErrorKind::AlreadyExists => {
                        ". --overwrite imports all the same, and replaces documents of the same names"
                    }
                    _ => "",
                };
                io::Error::new(error.kind(), format!("cannot import: {error}{remedy}"))
            })?;
            let found = Found { documents, damaged: Vec::new() };
            report(&found, "imported");
            found
        }
    };
    Ok(found)
}

/// Exports a store, which a server may have open.
fn export(path: &Path, to: &mut dyn Write) -> io::Result<Found> {
    let path = file(path);
    match StoreFile::open(&path) {
        Ok(mut store) => Ok(store.export(to)?.into()),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => running_store::export(&path, to),
        Err(error) => Err(error),
    }
}

/// Exports into a file, which gets its name only when it is complete and on disk.
fn backup(path: &Path, to: &Path) -> io::Result<Found> {
    let mut unfinished = to.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let write = || {
        let mut file = File::create(&unfinished)?;
        let found = export(path, &mut file)?;
        file.sync_all()?;
        fs::rename(&unfinished, to)?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(found)
    };
    write().map_err(|error| {
        // A partial export is not a backup.
        let _ = fs::remove_file(&unfinished);
        about(to, &error)
    })
}

fn report(found: &Found, done: &str) {
    for Problem { collection, name, reason } in &found.damaged {
        eprintln!("damaged: {name:?} in the collection {collection:?}: {reason}");
    }
    eprintln!("{} documents {done}, {} damaged", found.documents, found.damaged.len());
}

fn file(path: &Path) -> PathBuf {
    if path.is_dir() { file_in(path) } else { path.to_owned() }
}

fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

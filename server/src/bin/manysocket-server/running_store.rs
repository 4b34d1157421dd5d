//! Exports the store of a running server. No other program can open its file, so the exporter connects to a Unix
//! socket beside it.
//!
//! The server sends each client the lines of an export, then one line with the result. Only the server's own user may
//! connect.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manysocket_server::state::{Damage, Report, Store};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tracing::{info, warn};

/// The longest time that a client may not read. The store's file grows while an export is open.
const PATIENCE: Duration = Duration::from_secs(60);

/// The result of an export.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) documents: usize,
    pub(crate) damaged: Vec<Problem>,
}

/// A damaged document.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) collection: String,
    pub(crate) name: String,
    pub(crate) reason: String,
}

/// The last line of an export.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum End {
    End(Found),
    Error(String),
}

impl From<Report> for Found {
    fn from(report: Report) -> Self {
        let problem = |Damage { collection, name, reason, .. }| Problem { collection, name, reason };
        Self { documents: report.documents, damaged: report.damaged.into_iter().map(problem).collect() }
    }
}

/// Serves exports of the store in that folder on its socket, one client after the other.
pub(crate) fn answer(store: &Store, folder: &Path) {
    let path = socket_beside(&crate::store::file_in(folder));
    let listener = match listen(&path) {
        Ok(listener) => listener,
        Err(error) => {
            let path = path.display();
            return warn!(%error, %path, "the store can be backed up only while the server is stopped");
        }
    };
    let store = store.clone();
    tokio::spawn(async move {
        loop {
            let asked = match listener.accept().await {
                Ok((stream, _)) => write(&store, stream).await,
                Err(error) => Err(error),
            };
            if let Err(error) = asked {
                warn!(%error, "an export of the store was not finished");
            }
        }
    });
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    // A socket of a server that has ended: this server holds the store now.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn write(store: &Store, stream: tokio::net::UnixStream) -> io::Result<()> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut end = stream.try_clone()?;
    let exported = store.export(stream).await;
    let last = match exported {
        Ok(report) => {
            info!(documents = report.documents, damaged = report.damaged.len(), "exported the store");
            End::End(report.into())
        }
        Err(error) => End::Error(error.to_string()),
    };
    serde_json::to_writer(&mut end, &last)?;
    end.write_all(b"\n")
}

/// Requests an export from the server that has the file open, and writes the lines.
pub(crate) fn export(file: &Path, to: &mut dyn Write) -> io::Result<Found> {
    let path = socket_beside(file);
    let stream = UnixStream::connect(&path).map_err(|error| {
        let (file, path) = (file.display(), path.display());
        let why = format!("another process has {file} open, and does not answer at {path}: {error}");
        io::Error::new(error.kind(), why)
    })?;
    let (mut lines, mut line) = (BufReader::new(stream), Vec::new());
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server ended before the export did",
            ));
        }
        // Only the last line parses as `End`: lines of documents begin with their collection.
        match serde_json::from_slice(&line) {
            Ok(End::End(found)) => return Ok(found),
            Ok(End::Error(why)) => return Err(io::Error::other(format!("the server cannot export: {why}"))),
            Err(_) => to.write_all(&line)?,
        }
    }
}

fn socket_beside(file: &Path) -> PathBuf {
    file.with_extension("sock")
}

//! The store: all documents, on disk, in memory or on NATS.

use std::path::Path;
use std::sync::Arc;
use std::{fmt, io};

use tokio::sync::OwnedSemaphorePermit;

#[cfg(feature = "nats")]
use crate::nats::Nats;
use crate::site::listing::Listing;

use super::backend::{Opened, Tools, Wanted};
use super::local::Local;
use super::local::lines::{Report, export};
#[cfg(feature = "nats")]
use super::over_nats::Shared;
use super::submission::{Admission, Submission};
use crate::lane::Lane;

/// Stores the JSON documents that pages share: on disk, in memory, or on NATS. Clones share one store.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
    tools: Tools,
    admission: Arc<Admission>,
}

/// The backend that stores the documents and commits to them.
#[derive(Clone)]
enum Backend {
    Local(Arc<Local>),
    #[cfg(feature = "nats")]
    Shared(Arc<Shared>),
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Store")
    }
}

impl Store {
    fn new(backend: Backend, tools: Tools) -> Self {
        Self { backend, tools, admission: Arc::default() }
    }

    /// Opens the store in the file `path`, and creates the file if it does not exist. The store acknowledges a commit only
    /// after it is on disk.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened, if another process has it open, or if it is not a store.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let tools = Tools::new()?;
        Ok(Self::new(Backend::Local(Arc::new(Local::on_disk(path.as_ref(), tools.clone())?)), tools))
    }

    /// Creates a store in memory. Its documents are lost when the process ends.
    ///
    /// # Errors
    /// Returns an error if the system cannot start a thread.
    pub fn in_memory() -> io::Result<Self> {
        let tools = Tools::new()?;
        Ok(Self::new(Backend::Local(Arc::new(Local::in_memory(tools.clone())?)), tools))
    }

    /// Sets how many bytes of this process's memory the documents may use, with their remembered commits. A store in memory
    /// counts all documents, one on disk or on NATS only the open ones. The store counts memory node by node, as the
    /// allocator rounds it up. When the limit is reached, the store forgets remembered commits, and unloads documents that
    /// nobody has open. If that does not help, it refuses commits with `storage` and opens no more documents. Default: 256
    /// MiB.
    #[must_use]
    pub fn max_memory(self, bytes: usize) -> Self {
        self.tools.memory.set_max(bytes as u64);
        self
    }

    /// Opens the store in the JetStream key-value bucket `bucket`, and creates the bucket if it does not exist. All
    /// processes with the same bucket share its documents. The store acknowledges a commit only after JetStream has stored
    /// it.
    ///
    /// ```no_run
    /// # async fn example() -> std::io::Result<()> {
    /// use manysocket_server::Nats;
    /// use manysocket_server::state::{Documents, Store};
    ///
    /// let nats = Nats::connect("nats://127.0.0.1:4222").await?;
    /// let sheets = Documents::new(&Store::nats(&nats, "documents").await?, "sheets");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns an error if NATS is unreachable or has no JetStream, or if the name has other characters than letters,
    /// digits, `-` and `_`.
    #[cfg(feature = "nats")]
    pub async fn nats(nats: &Nats, bucket: &str) -> io::Result<Self> {
        let tools = Tools::new()?;
        Ok(Self::new(Backend::Shared(Arc::new(Shared::open(nats, bucket, tools.clone()).await?)), tools))
    }

    /// Writes all documents as lines of JSON, as they are at one moment; commits continue meanwhile.
    /// [`StoreFile::import`](super::StoreFile::import) reads this format. The export runs on a thread for blocking work, and
    /// waits while `to` accepts no data.
    ///
    /// # Errors
    /// Returns an error if `to` cannot be written or the file cannot be read. The error has the kind
    /// [`Unsupported`](io::ErrorKind::Unsupported) if the store is on NATS or in memory. A damaged document is no error; the
    /// report names it.
    pub async fn export(&self, to: impl io::Write + Send + 'static) -> io::Result<Report> {
        #[cfg_attr(not(feature = "nats"), expect(irrefutable_let_patterns))]
        let Backend::Local(local) = &self.backend else {
            let why = "the documents are on NATS, which has its own means of backup";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        };
        let view = local.view().await?;
        tokio::task::spawn_blocking(move || export(&view, to)).await.map_err(io::Error::other)?
    }

    /// Closes the file of the store cleanly, at the end of a program. From then on the store refuses commits with `storage`,
    /// including those not yet written. A store in memory or on NATS has nothing to close.
    pub async fn close(&self) {
        #[cfg_attr(not(feature = "nats"), expect(irrefutable_let_patterns))]
        if let Backend::Local(local) = &self.backend {
            local.close().await;
        }
    }

    pub(super) fn lane(&self) -> &Lane {
        &self.tools.lane
    }

    /// Waits while too many commits of `peer` wait for their answers. The permit frees the place when it is dropped.
    pub(super) async fn admit(&self, peer: u64) -> Option<OwnedSemaphorePermit> {
        self.admission.admit(peer).await
    }

    /// Passes a commit to the backend, which applies and answers it.
    pub(super) fn submit(&self, submission: Submission) {
        match &self.backend {
            Backend::Local(local) => local.submit(submission),
            #[cfg(feature = "nats")]
            Backend::Shared(shared) => shared.submit(submission),
        }
    }

    pub(super) async fn document(&self, wanted: Wanted) -> io::Result<Opened> {
        match &self.backend {
            Backend::Local(local) => local.document(wanted).await,
            #[cfg(feature = "nats")]
            Backend::Shared(shared) => shared.document(wanted).await,
        }
    }

    /// Deletes a document, and returns whether it existed.
    pub(super) async fn delete(&self, key: String, peer: u64) -> io::Result<bool> {
        match &self.backend {
            Backend::Local(local) => local.delete(key, peer).await,
            #[cfg(feature = "nats")]
            Backend::Shared(shared) => shared.delete(&key).await,
        }
    }

    /// Returns the names of up to `count` documents whose keys begin with `prefix`, after the name `after`.
    pub(super) async fn names(
        &self,
        prefix: String,
        after: &str,
        count: usize,
        peer: u64,
    ) -> io::Result<Vec<String>> {
        match &self.backend {
            Backend::Local(local) => local.names(prefix, after.to_owned(), count, peer).await,
            #[cfg(feature = "nats")]
            Backend::Shared(shared) => Ok(shared.names(&prefix, after, count)),
        }
    }

    /// Returns a listing of the documents whose keys begin with `prefix`. The backend fills it soon after.
    pub(super) fn listing(&self, prefix: String) -> Listing {
        match &self.backend {
            Backend::Local(local) => local.listing(prefix),
            #[cfg(feature = "nats")]
            Backend::Shared(shared) => shared.listing(prefix),
        }
    }
}

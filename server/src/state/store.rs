//! The store: all documents, wherever they are kept.

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

/// JSON documents that pages share: on disk, in memory, or on NATS. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    place: Place,
    tools: Tools,
    admission: Arc<Admission>,
}

/// Where the documents are, and who commits to them.
#[derive(Clone)]
enum Place {
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
    fn new(place: Place, tools: Tools) -> Self {
        Self { place, tools, admission: Arc::default() }
    }

    /// Opens the store in the file `path`, which is made if it is not there. Each commit is on disk before it is
    /// acknowledged.
    ///
    /// # Errors
    /// The file cannot be opened, another process has it open, or it is not a store.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let tools = Tools::new()?;
        Ok(Self::new(Place::Local(Arc::new(Local::on_disk(path.as_ref(), tools.clone())?)), tools))
    }

    /// A store that is gone with the process.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn in_memory() -> io::Result<Self> {
        let tools = Tools::new()?;
        Ok(Self::new(Place::Local(Arc::new(Local::in_memory(tools.clone())?)), tools))
    }

    /// Sets how many bytes of this process's memory the documents may take, with the commits that are remembered: all of a
    /// store in memory, and of one on disk or on NATS those that somebody has open. Memory is counted as the allocator gives
    /// it, node by node. When it is full, the store forgets remembered commits and the documents that nobody has open. When
    /// that does not help, it refuses commits with `storage`, and opens no more documents. Default: 256 MiB.
    #[must_use]
    pub fn max_memory(self, bytes: usize) -> Self {
        self.tools.memory.set_max(bytes as u64);
        self
    }

    /// The store in the JetStream key-value bucket of that name, which is made if it is not there. All processes with the
    /// same bucket share its documents. JetStream has each commit before it is acknowledged.
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
    /// NATS is away or has no JetStream, or the name is not one of letters, digits, `-` and `_`.
    #[cfg(feature = "nats")]
    pub async fn nats(nats: &Nats, bucket: &str) -> io::Result<Self> {
        let tools = Tools::new()?;
        Ok(Self::new(Place::Shared(Arc::new(Shared::open(nats, bucket, tools.clone()).await?)), tools))
    }

    /// Writes all documents as lines of JSON, as they are at one moment: commits go on meanwhile. It is the format of
    /// [`StoreFile::import`](super::StoreFile::import). It runs on a thread for work that blocks, and waits where `to` does.
    ///
    /// # Errors
    /// `to` cannot be written, or the file not be read; of kind [`Unsupported`](io::ErrorKind::Unsupported) if the store is not in a
    /// file. A document that is damaged is no error; the report names it.
    pub async fn export(&self, to: impl io::Write + Send + 'static) -> io::Result<Report> {
        #[cfg_attr(not(feature = "nats"), expect(irrefutable_let_patterns))]
        let Place::Local(local) = &self.place else {
            let why = "the documents are on NATS, which has its own means of backup";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        };
        let view = local.view().await?;
        tokio::task::spawn_blocking(move || export(&view, to)).await.map_err(io::Error::other)?
    }

    /// Closes the file of the store in order, for the end of a program. Commits that have not been written by then, and later
    /// ones, are refused with `storage`. A store that is in no file has nothing to close.
    pub async fn close(&self) {
        #[cfg_attr(not(feature = "nats"), expect(irrefutable_let_patterns))]
        if let Place::Local(local) = &self.place {
            local.close().await;
        }
    }

    pub(super) fn lane(&self) -> &Lane {
        &self.tools.lane
    }

    /// Waits while too many commits of that peer wait for their answers. Its place is taken until what is returned is dropped.
    pub(super) async fn admit(&self, peer: u64) -> Option<OwnedSemaphorePermit> {
        self.admission.admit(peer).await
    }

    /// Has a commit applied and answered.
    pub(super) fn submit(&self, submission: Submission) {
        match &self.place {
            Place::Local(local) => local.submit(submission),
            #[cfg(feature = "nats")]
            Place::Shared(shared) => shared.submit(submission),
        }
    }

    pub(super) async fn document(&self, wanted: Wanted) -> io::Result<Opened> {
        match &self.place {
            Place::Local(local) => local.document(wanted).await,
            #[cfg(feature = "nats")]
            Place::Shared(shared) => shared.document(wanted).await,
        }
    }

    /// The documents whose keys begin with `prefix`, from soon on.
    pub(super) fn listing(&self, prefix: String) -> Listing {
        match &self.place {
            Place::Local(local) => local.listing(prefix),
            #[cfg(feature = "nats")]
            Place::Shared(shared) => shared.listing(prefix),
        }
    }
}

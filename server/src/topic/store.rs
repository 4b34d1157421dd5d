//! Where topics store their messages: in a file, or in streams on NATS that several servers share.

#[cfg(feature = "topic-store")]
use std::path::Path;
use std::{fmt, io};

#[cfg(feature = "nats")]
use super::over_nats::Nats;
#[cfg(feature = "nats")]
use super::shared::SharedStore;
#[cfg(feature = "topic-store")]
use super::stored::FileStore;

/// Stores the messages of [topics with positions](super::Topics::positions), so that they outlive the process: see
/// [`Topics::stored`](super::Topics::stored). Clones share one store.
#[derive(Clone)]
pub struct TopicStore(TopicBackend);

/// The two kinds of stores.
#[derive(Clone)]
pub(super) enum TopicBackend {
    #[cfg(feature = "topic-store")]
    File(FileStore),
    #[cfg(feature = "nats")]
    Shared(SharedStore),
}

impl fmt::Debug for TopicStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TopicStore")
    }
}

impl TopicStore {
    /// Opens the file `path`, and creates it if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened, if another process has it open, or if it is no store of topics.
    #[cfg(feature = "topic-store")]
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        FileStore::open(path.as_ref()).map(|file| Self(TopicBackend::File(file)))
    }

    /// Keeps the topics in JetStream of a NATS, one stream for each topic. All servers that name the same NATS and the same `name` share
    /// the topics and their positions: a subscriber may come back to any of them. The streams are called `NAME~PATH`, with `~` for each
    /// slash; `name` consists of letters, digits, `-` and `_`. `docs/topics.md` has the guarantees.
    ///
    /// ```no_run
    /// # async fn run() -> std::io::Result<()> {
    /// use manysocket_server::Nats;
    /// use manysocket_server::topic::{Positions, TopicStore, Topics};
    ///
    /// let nats = Nats::connect("nats://127.0.0.1:4222").await?;
    /// let store = TopicStore::nats(&nats, "chat").await?;
    /// let rooms = Topics::new().stored(&store).positions(Positions::new().messages(500));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns an error if the name is empty, longer than 64 bytes or has other characters, and if NATS has no JetStream or does not
    /// answer within 10 seconds. Later outages are no errors: publishers wait for up to 10 seconds.
    #[cfg(feature = "nats")]
    pub async fn nats(nats: &Nats, name: &str) -> io::Result<Self> {
        SharedStore::open(nats, name).await.map(|shared| Self(TopicBackend::Shared(shared)))
    }

    /// Stores the messages that wait and closes the store, at the end of a program. From then on messages are refused. Waits for NATS
    /// for at most two seconds.
    pub async fn close(&self) {
        match &self.0 {
            #[cfg(feature = "topic-store")]
            TopicBackend::File(file) => file.close().await,
            #[cfg(feature = "nats")]
            TopicBackend::Shared(shared) => shared.close().await,
        }
    }

    pub(super) fn backend(&self) -> &TopicBackend {
        &self.0
    }
}

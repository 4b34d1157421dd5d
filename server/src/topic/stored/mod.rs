//! Topics that outlive the process: a thread stores each message before anybody gets it.

mod file;
mod worker;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use axum::extract::ws::Message;
use tokio::sync::oneshot;
use tracing::warn;

use crate::lane::turns::Turns;
use crate::ws::messages::content;
use crate::ws::peer::SERVER;

use super::limits::TopicLimits;
use super::not_taken::NotTaken;
use super::positions::Positions;
use super::refused::Refused;
use super::served::Served;
use file::TopicFile;
use worker::{Job, Publication, Waits, Worker};

/// The most bytes of messages that the server has published and that wait for the disk.
const MAX_WAITING: usize = 16 << 20;

/// Stores the messages of topics in one file. Clones share it.
#[derive(Clone)]
pub(super) struct FileStore(Arc<Thread>);

/// The handle to the thread, which ends when this is dropped.
struct Thread {
    turns: Arc<Turns<Job>>,
    /// The bytes of messages of the server that wait.
    waiting: Arc<AtomicUsize>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.turns.close();
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("FileStore")
    }
}

impl FileStore {
    /// Opens the file, and creates it if it does not exist.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = TopicFile::open(path)?;
        let turns = Arc::new(Turns::new());
        let worker = Worker::new(Arc::clone(&turns), file);
        thread::Builder::new().name("topics".into()).spawn(move || worker.run())?;
        Ok(Self(Arc::new(Thread { turns, waiting: Arc::default() })))
    }

    /// Stores waiting messages and closes the file.
    pub(super) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        self.0.turns.push(SERVER, Job::Close(reply));
        // The thread answers in any case.
        let _ = closed.await;
    }

    /// Loads a topic that the file may have into the hub.
    pub(super) async fn load(
        &self,
        hub: Weak<dyn Served>,
        name: &str,
        limits: TopicLimits,
        peer: u64,
    ) -> Result<(), Refused> {
        let (reply, loaded) = oneshot::channel();
        let job = Job::Load { hub, name: name.to_owned(), limits, reply };
        self.0.turns.push(peer, job);
        loaded.await.unwrap_or(Err(Refused::Unreadable))
    }

    /// Stores a message, and then gives it to the subscribers. Returns its number.
    pub(super) async fn publish(
        &self,
        to: Destination<'_>,
        message: Message,
        from: u64,
        peer: u64,
    ) -> Result<u64, NotTaken> {
        let (reply, stored) = oneshot::channel();
        let publication = to.publication(message, Some(from));
        self.0.turns.push(peer, Job::Publish(Publication { reply: Some(reply), ..publication }));
        stored.await.unwrap_or(Err(NotTaken::Unstored))
    }

    /// Stores a message of the server and then gives it to the subscribers, without waiting.
    pub(super) fn publish_now(&self, to: Destination<'_>, message: Message) {
        let bytes = content(&message);
        let waiting = &self.0.waiting;
        if waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > MAX_WAITING {
            waiting.fetch_sub(bytes, Ordering::Relaxed);
            warn!(topic = to.name, "a message is lost: too many wait for the disk");
            return;
        }
        let waits = Some(Waits { bytes, waiting: Arc::clone(waiting) });
        self.0
            .turns
            .push(SERVER, Job::Publish(Publication { _waits: waits, ..to.publication(message, None) }));
    }
}

/// A topic to publish on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Destination<'a> {
    pub(super) hub: &'a Weak<dyn Served>,
    pub(super) name: &'a str,
    pub(super) limits: Positions,
}

impl Destination<'_> {
    fn publication(&self, message: Message, from: Option<u64>) -> Publication {
        let hub = Weak::clone(self.hub);
        Publication {
            hub,
            name: self.name.to_owned(),
            limits: self.limits,
            message,
            from,
            _waits: None,
            reply: None,
        }
    }
}

//! The other servers on the same NATS: who is there, and after an outage who is back.
//!
//! Each says `hello ID` when it has connected, and answers that of others with `here ID`; one that leaves says `bye ID`. Its
//! subscriptions are known to NATS before what it says after them. So when all that were there have been heard again, none
//! misses what is sent now.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::outbox::Outbox;

/// Where servers say that they are there.
const SUBJECT: &str = "manysocket.peers";

/// How long the others are waited for after an outage. Each dials again at least every [`RETRY`](super::RETRY); one that takes
/// longer has ended, or has another way to NATS that is still broken.
const PATIENCE: Duration = Duration::from_secs(5);

/// Servers that are remembered. One that ends without a word is remembered until the next outage.
const MAX_PEERS: usize = 1000;

/// One process that listens to the others.
pub(super) struct Peers {
    client: Client,
    outbox: Arc<Outbox>,
    id: String,
    known: HashSet<String>,
    /// After an outage: those that are not back yet, and until when they are waited for.
    missing: HashSet<String>,
    deadline: Option<Instant>,
    /// Which outage that is.
    outage: u64,
}

impl Peers {
    pub(super) fn new(client: Client, outbox: Arc<Outbox>, id: String) -> Self {
        Self { client, outbox, id, known: HashSet::new(), missing: HashSet::new(), deadline: None, outage: 0 }
    }

    /// Listens until the client ends. `connected` changes each time that a lost connection is back, to the number of the outage.
    pub(super) async fn run(mut self, mut connected: watch::Receiver<u64>) {
        let Ok(mut said) = self.client.subscribe(SUBJECT).await else { return };
        say(&self.client, "hello", &self.id).await;
        loop {
            tokio::select! {
                biased;
                changed = connected.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.outage = *connected.borrow_and_update();
                    self.begin_to_wait().await;
                }
                message = next(&mut said) => match message {
                    Some(message) => self.hear(&message).await,
                    None => return,
                },
                () = until(self.deadline) => {
                    warn!(missing = self.missing.len(), "other servers have not come back to NATS; messages are sent without them");
                    self.known.retain(|id| !self.missing.contains(id));
                    self.missing.clear();
                }
            }
            if self.deadline.is_some() && self.missing.is_empty() {
                self.deadline = None;
                self.outbox.release(&self.client, self.outage).await;
            }
        }
    }

    async fn begin_to_wait(&mut self) {
        self.missing.clone_from(&self.known);
        self.deadline = Some(Instant::now() + PATIENCE);
        say(&self.client, "hello", &self.id).await;
        // Only a client that is connected again does that. An error says that it has ended.
        let _ = self.client.flush().await;
        info!(others = self.missing.len(), "waiting for the other servers to be back on NATS");
    }

    async fn hear(&mut self, message: &str) {
        let Some((word, id)) = message.split_once(' ') else {
            return debug!("not what a server says: {message:?}");
        };
        if id == self.id {
            return;
        }
        match word {
            "hello" | "here" => {
                if self.known.len() < MAX_PEERS {
                    self.known.insert(id.to_owned());
                }
                self.missing.remove(id);
                if word == "hello" {
                    say(&self.client, "here", &self.id).await;
                }
            }
            "bye" => {
                self.known.remove(id);
                self.missing.remove(id);
            }
            _ => debug!("not what a server says: {message:?}"),
        }
    }
}

/// Says one of the words to all others.
pub(super) async fn say(client: &Client, word: &str, id: &str) {
    if let Err(error) = client.publish(SUBJECT, format!("{word} {id}").into()).await {
        debug!("cannot speak to other servers: {error}");
    }
}

async fn next(said: &mut Subscriber) -> Option<String> {
    let message = said.next().await?;
    Some(String::from_utf8_lossy(&message.payload).into_owned())
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

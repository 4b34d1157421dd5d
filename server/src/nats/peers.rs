//! Tracks the other servers on the same NATS, and which of them are back after an outage.
//!
//! Each server publishes `hello ID` when it has connected, answers the `hello` of others with `here ID`, and publishes
//! `bye ID` when it leaves. NATS knows a server's subscriptions before it processes these messages. So once all
//! earlier servers have been heard again, none misses later messages.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::outbox::Outbox;

/// The subject on which servers announce themselves.
const SUBJECT: &str = "manysocket.peers";

/// The time to wait for the other servers after an outage. Each dials at least every [`RETRY`](super::RETRY); one that
/// takes longer has ended, or its own path to NATS is still broken.
const PATIENCE: Duration = Duration::from_secs(5);

/// The maximum number of known servers. One that ends without `bye` stays known until the next outage.
const MAX_PEERS: usize = 1000;

/// Listens to the other servers' announcements.
pub(super) struct Peers {
    client: Client,
    outbox: Arc<Outbox>,
    id: String,
    known: HashSet<String>,
    /// After an outage: the servers that are not back yet. `deadline` is the time until which messages wait for them.
    missing: HashSet<String>,
    deadline: Option<Instant>,
    /// The number of that outage.
    outage: u64,
}

impl Peers {
    pub(super) fn new(client: Client, outbox: Arc<Outbox>, id: String) -> Self {
        Self { client, outbox, id, known: HashSet::new(), missing: HashSet::new(), deadline: None, outage: 0 }
    }

    /// Listens until the client ends. `connected` holds the number of the last outage, and changes at each
    /// reconnection.
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
                    warn!(missing = self.missing.len(), "other servers have not reconnected to NATS; sending messages without them");
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
        // The flush completes once the client is connected again. An error means that the client has ended.
        let _ = self.client.flush().await;
        info!(others = self.missing.len(), "waiting for the other servers to reconnect to NATS");
    }

    async fn hear(&mut self, message: &str) {
        let Some((word, id)) = message.split_once(' ') else {
            return debug!("not a message of a server: {message:?}");
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
            _ => debug!("not a message of a server: {message:?}"),
        }
    }
}

/// Publishes one of the words to all other servers.
pub(super) async fn say(client: &Client, word: &str, id: &str) {
    if let Err(error) = client.publish(SUBJECT, format!("{word} {id}").into()).await {
        debug!("cannot publish to other servers: {error}");
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

//! One socket on a document: it sends the page every commit, and accepts the page's commits.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseCode, Message, Utf8Bytes, close_code};
use futures_util::{SinkExt, StreamExt};

use crate::budget::Reservation;
use crate::ws::socket::{WebSocket, close};

use super::answer::{Answer, Refusal};
use super::commit::{Commit, Rules, Unreadable};
use super::document::Document;
use super::outbox::{News, Outbox};
use super::store::Store;
use super::submission::{Reached, Reply, Submission};

pub(super) struct Session {
    pub(super) store: Store,
    pub(super) document: Arc<Document>,
    /// `None`: the page may only read.
    pub(super) rules: Option<Rules>,
    /// The incarnation and version that the page has already.
    pub(super) known: Option<(String, u64)>,
    /// All must let a commit pass.
    pub(super) rate_limits: Vec<Arc<RateLimit>>,
    /// The link, or the native socket.
    pub(super) peer: u64,
}

/// Returns the time after which the page may commit again, if it has committed too often.
pub(super) type RateLimit = dyn Fn() -> Result<(), Duration> + Send + Sync;

/// The reason why a socket ends: a close code and a reason to send, or `None` if the page closed it.
type End = Option<(CloseCode, String)>;

impl Session {
    /// Serves the socket until either end closes it.
    pub(super) async fn run(self, mut socket: WebSocket) {
        if let Err(Some((code, reason))) = self.serve(&mut socket).await {
            // The page may be gone, and then needs no reason.
            let _ = socket.send(close(code, reason)).await;
        }
    }

    /// A turn ends with the messages that the socket counts. For each of them, at most one commit is read here, of up to
    /// `max_commit`: 0.4 ms for 256 KiB.
    async fn serve(&self, socket: &mut WebSocket) -> Result<(), End> {
        let mut changed = self.document.subscribe();
        let known = self.known.as_ref().map(|(incarnation, since)| (incarnation.as_str(), *since));
        let greeting = self.document.greeting(known, self.store.lane(), self.peer).await;
        let (version, greeting) = greeting.ok_or_else(failed)?;
        let mut outbox = Outbox::new(version);
        socket.send(Message::Text(greeting)).await.map_err(|_| None)?;
        loop {
            let has_room = outbox.has_room();
            tokio::select! {
                () = outbox.answered() => {}
                // `self.document` keeps the sender alive, so this never fails.
                _ = changed.changed() => {}
                message = socket.next(), if has_room => {
                    let text = match message {
                        Some(Ok(Message::Text(text))) => text,
                        Some(Ok(Message::Binary(_))) => {
                            return Err(Some((close_code::UNSUPPORTED, "a commit is text".into())));
                        }
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                        Some(Ok(Message::Close(_))) | None => return Ok(()),
                        // The page may also be gone, and then this reason goes nowhere.
                        Some(Err(_)) => return Err(Some((close_code::SIZE, "the commit is too large".into()))),
                    };
                    let memory = socket.reservation();
                    self.submit(&text, &mut outbox, memory).await?;
                    continue;
                }
            }
            if self.document.has_ended() {
                return Err(Some((close_code::RESTART, "the document was replaced: connect again".into())));
            }
            loop {
                let News { messages, needs_whole } = outbox.news(&self.document);
                send_all(socket, messages).await?;
                if outbox.has_failed() {
                    return Err(failed());
                }
                if !needs_whole {
                    break;
                }
                let whole = self.document.whole(self.store.lane(), self.peer).await;
                let (version, message) = whole.ok_or_else(failed)?;
                outbox.has_whole(version);
                send_all(socket, vec![message]).await?;
            }
        }
    }

    /// Asks whether the page may commit. A commit that was applied already, and that the page sends again for its answer, is none.
    fn limit(&self, commit: &Commit) -> Result<(), Duration> {
        if self.rate_limits.is_empty() {
            return Ok(());
        }
        let is_applied = self
            .document
            .state()
            .since(commit.base)
            .is_some_and(|mut since| since.any(|entry| entry.id == commit.id));
        if is_applied { Ok(()) } else { self.rate_limits.iter().try_for_each(|limit| limit()) }
    }

    /// Passes a commit to the store. The answer arrives at `outbox`.
    async fn submit(&self, text: &str, outbox: &mut Outbox, memory: Option<Reservation>) -> Result<(), End> {
        let answer = match (Commit::read(text), &self.rules) {
            (Ok(commit), Some(rules)) => {
                if let Err(wait) = self.limit(&commit) {
                    let answer = Answer::refused(commit.id, Refusal::limited(wait));
                    let _ = outbox.expect(0).send(Reached::at_once(answer));
                    return Ok(());
                }
                let answers = outbox.expect(commit.delta.len());
                let place = self.store.admit(self.peer).await;
                let reply = Reply::new(&commit, answers, memory, place);
                let (document, rules) = (Arc::clone(&self.document), rules.clone());
                self.store.submit(Submission { peer: self.peer, document, commit, rules, reply });
                return Ok(());
            }
            (Ok(commit), None) => {
                Answer::refused(commit.id, Refusal::new("read-only", "this socket may only read"))
            }
            (Err(Unreadable::Answered(answer)), _) => answer,
            (Err(Unreadable::Nameless(reason)), _) => return Err(Some((close_code::POLICY, reason))),
        };
        // The outbox keeps the receiver alive, so this never fails.
        let _ = outbox.expect(0).send(Reached::at_once(answer));
        Ok(())
    }
}

/// Returns the close frame for a bug in the server.
fn failed() -> End {
    Some((close_code::ERROR, "the server failed; its log says more. Connect again".into()))
}

/// Sends messages in as few writes as the socket allows.
async fn send_all(socket: &mut WebSocket, messages: Vec<Utf8Bytes>) -> Result<(), End> {
    for message in messages {
        socket.feed(Message::Text(message)).await.map_err(|_| None)?;
    }
    socket.flush().await.map_err(|_| None)
}

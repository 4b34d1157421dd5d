//! One socket on a document: it hears of every commit, and may send its own.

use std::sync::Arc;

use axum::extract::ws::{CloseCode, Message, Utf8Bytes, close_code};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;

use crate::ws::socket::{WebSocket, close};

use super::commit::{Answer, Commit, Refusal, Rules};
use super::document::Document;
use super::store::{Store, Submission};

/// Commits of one socket that wait for their answers. A page that sends more waits, and nobody else does.
const MAX_WAITING: usize = 64;

pub(super) struct Connection {
    pub(super) store: Store,
    pub(super) document: Arc<Document>,
    /// `None`: the page may only read.
    pub(super) rules: Option<Rules>,
    /// The incarnation and version that the page has already.
    pub(super) known: Option<(String, u64)>,
}

impl Connection {
    /// Serves the socket until either end closes it.
    pub(super) async fn run(self, mut socket: WebSocket) {
        if let Err(Some((code, reason))) = self.serve(&mut socket).await {
            // A page that has gone needs no reason.
            let _ = socket.send(close(code, reason)).await;
        }
    }

    /// Ends with a close code and a reason if the page is to blame.
    async fn serve(&self, socket: &mut WebSocket) -> Result<(), Option<(CloseCode, String)>> {
        let (answer_to, mut answers) = mpsc::unbounded_channel::<Answer>();
        let mut changed = self.document.subscribe();
        let (mut heard, greeting) = {
            let mut state = self.document.state();
            let known = self.known.as_ref().map(|(incarnation, since)| (incarnation.as_str(), *since));
            (state.version, state.greeting(known))
        };
        socket.send(Message::Text(greeting)).await.map_err(|_| None)?;
        let mut waiting = 0;
        loop {
            let mut first = None;
            tokio::select! {
                answer = answers.recv() => first = answer,
                // The document holds the sender.
                _ = changed.changed() => {}
                message = socket.next(), if waiting < MAX_WAITING => {
                    let text = match message {
                        Some(Ok(Message::Text(text))) => text,
                        Some(Ok(Message::Binary(_))) => {
                            return Err(Some((close_code::UNSUPPORTED, "a commit is text".into())));
                        }
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                        Some(Ok(Message::Close(_))) | None => return Ok(()),
                        // Or the page is gone, and hears nothing of this.
                        Some(Err(_)) => return Err(Some((close_code::SIZE, "the commit is too large".into()))),
                    };
                    self.submit(&text, &answer_to).await.map_err(|reason| Some((close_code::POLICY, reason)))?;
                    waiting += 1;
                    continue;
                }
            }
            if self.document.has_ended() {
                return Err(Some((close_code::RESTART, "the document was replaced: connect again".into())));
            }
            let mut taken = 0;
            let messages = self.document.news(&mut heard, || {
                let answer = first.take().or_else(|| answers.try_recv().ok())?;
                taken += 1;
                Some(answer)
            });
            waiting -= taken;
            send_all(socket, messages).await?;
        }
    }

    /// Hands a commit to the store; the answer comes to `answers`.
    async fn submit(&self, text: &str, answers: &mpsc::UnboundedSender<Answer>) -> Result<(), String> {
        let answer = match (Commit::read(text), &self.rules) {
            (Ok(commit), Some(rules)) => {
                let (document, rules, answers) = (Arc::clone(&self.document), rules.clone(), answers.clone());
                self.store.submit(Submission { document, commit, rules, answers }).await;
                return Ok(());
            }
            (Ok(commit), None) => {
                Answer::refused(commit.id, Refusal::new("read-only", "this socket may only read"))
            }
            (Err(problem), _) => problem?,
        };
        // This end has the receiver.
        let _ = answers.send(answer);
        Ok(())
    }
}

/// Sends messages in as few writes as the socket allows.
async fn send_all(
    socket: &mut WebSocket,
    messages: Vec<Utf8Bytes>,
) -> Result<(), Option<(CloseCode, String)>> {
    for message in messages {
        socket.feed(Message::Text(message)).await.map_err(|_| None)?;
    }
    socket.flush().await.map_err(|_| None)
}

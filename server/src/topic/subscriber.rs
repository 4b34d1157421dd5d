//! One socket on a topic. It reads while it cannot write, and is never waited for.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{CloseCode, Message, close_code};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::timeout;
use tracing::debug;

use crate::ws::socket::{WebSocket, close, is_too_large};

use super::hub::{Item, Subscription};
use super::over_nats::NotTaken;
use super::{Rules, Slow, Verdict};

/// How long a page has to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Subscriber<R: Rules> {
    subscription: Subscription,
    rules: Arc<R>,
    about: R::Subscriber,
    slow: Slow,
    read_only: bool,
}

/// How a socket ends.
pub(super) enum End {
    /// The page closed it, or is gone.
    Left,
    /// For a reason that the page is told.
    Close(CloseCode, String),
}

/// What a socket is ready for.
enum Ready {
    Incoming(Option<Result<Message, axum::Error>>),
    /// It takes a message.
    Room,
}

impl<R: Rules> Subscriber<R> {
    pub(super) fn new(
        subscription: Subscription,
        rules: Arc<R>,
        about: R::Subscriber,
        slow: Slow,
        read_only: bool,
    ) -> Self {
        Self { subscription, rules, about, slow, read_only }
    }

    /// Serves the socket until either end closes it.
    pub(super) async fn run(mut self, mut socket: WebSocket) {
        let Err(end) = self.serve(&mut socket).await;
        // It counts no longer, however long closing takes.
        drop(self);
        if let End::Close(code, reason) = end {
            let _ = timeout(CLOSE_TIMEOUT, socket.send(close(code, reason))).await;
        }
        // The closing handshake to its end.
        let _ = timeout(CLOSE_TIMEOUT, async { while let Some(Ok(_)) = socket.recv().await {} }).await;
    }

    async fn serve(&mut self, socket: &mut WebSocket) -> Result<Infallible, End> {
        loop {
            if let Ready::Incoming(incoming) = poll_fn(|cx| poll_room(socket, cx)).await {
                self.take(incoming).await?;
                continue;
            }
            // There is room for one.
            let message = match self.waiting()? {
                Some(message) => message,
                None => tokio::select! {
                    biased;
                    incoming = poll_fn(|cx| poll_idle(socket, cx)) => {
                        self.take(incoming).await?;
                        continue;
                    }
                    message = self.next() => message?,
                },
            };
            // What comes together goes out together: it is flushed where the socket idles.
            socket.feed(message).await.map_err(|_| End::Left)?;
        }
    }

    /// The next message for this subscriber. Nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Message, End> {
        loop {
            if let Some(message) = self.waiting()? {
                return Ok(message);
            }
            match self.subscription.receiver.recv().await {
                Ok(Item::Message(kept)) if self.rules.deliver(&self.about, &kept.message) => {
                    return Ok(kept.message.clone());
                }
                Ok(Item::Message(_)) => {}
                Ok(Item::Gap) => return self.missed(None),
                Err(RecvError::Lagged(missed)) => return self.missed(Some(missed)),
                // The place holds the topic, and that the sender.
                Err(RecvError::Closed) => return Err(End::Left),
            }
        }
    }

    /// What is there already for this subscriber.
    fn waiting(&mut self) -> Result<Option<Message>, End> {
        loop {
            let kept = match self.subscription.history.pop_front() {
                Some(kept) => kept,
                None => match self.subscription.receiver.try_recv() {
                    Ok(Item::Message(kept)) => kept,
                    Ok(Item::Gap) => return self.missed(None).map(Some),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(None),
                    Err(TryRecvError::Lagged(missed)) => return self.missed(Some(missed)).map(Some),
                },
            };
            if self.rules.deliver(&self.about, &kept.message) {
                return Ok(Some(kept.message.clone()));
            }
        }
    }

    /// What comes in the place of messages that were too old to be kept, or of an unknown number that never came here.
    fn missed(&self, count: Option<u64>) -> Result<Message, End> {
        debug!(count, "a subscriber missed messages");
        match (self.slow, count) {
            (Slow::Drop, Some(count)) => Ok(Message::Text(format!("{{\"dropped\":{count}}}").into())),
            (Slow::Drop, None) => Ok(Message::Text("{\"dropped\":null}".into())),
            (Slow::Close, Some(count)) => {
                Err(End::Close(close_code::AGAIN, format!("too slow: missed {count} messages")))
            }
            (Slow::Close, None) => {
                Err(End::Close(close_code::AGAIN, "messages of other servers may be missing".into()))
            }
        }
    }

    /// Publishes what the page sent.
    async fn take(&self, incoming: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        let message = match incoming {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => message,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(()),
            Some(Err(error)) if is_too_large(&error) => {
                return Err(End::Close(close_code::SIZE, "the message is too large".into()));
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Left),
        };
        if self.read_only {
            return Err(End::Close(close_code::POLICY, "only the server publishes here".into()));
        }
        match self.rules.publish(&self.about, message) {
            Verdict::Publish(message @ (Message::Text(_) | Message::Binary(_))) => {
                match self.subscription.place.topic.publish(message).await {
                    Ok(()) => {}
                    Err(NotTaken::TooLarge) => {
                        let why = "the message is larger than NATS takes";
                        return Err(End::Close(close_code::SIZE, why.into()));
                    }
                    Err(NotTaken::Full) => {
                        let why = "the message cannot be kept now: too many here are slow";
                        return Err(End::Close(close_code::AGAIN, why.into()));
                    }
                    Err(NotTaken::Away) => {
                        let why = "the message cannot be passed on now: NATS is away";
                        return Err(End::Close(close_code::AGAIN, why.into()));
                    }
                }
            }
            Verdict::Publish(_) | Verdict::Ignore => {}
            Verdict::Close(reason) => return Err(End::Close(close_code::POLICY, reason)),
        }
        Ok(())
    }
}

/// Ready with what the page sent, or when it may be sent something.
fn poll_room(socket: &mut WebSocket, cx: &mut Context<'_>) -> Poll<Ready> {
    if let Poll::Ready(incoming) = socket.poll_next_unpin(cx) {
        return Poll::Ready(Ready::Incoming(incoming));
    }
    // A socket that fails tells the reader why.
    socket.poll_ready_unpin(cx).map(|_| Ready::Room)
}

/// Writes what there is, and is ready with what the page sent.
fn poll_idle(socket: &mut WebSocket, cx: &mut Context<'_>) -> Poll<Option<Result<Message, axum::Error>>> {
    let _ = socket.poll_flush_unpin(cx);
    socket.poll_next_unpin(cx)
}

//! One socket on a topic. It reads while it cannot write, and is never waited for.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::ws::{CloseCode, Message, close_code};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::sync::watch;
use tokio::task::coop::{consume_budget, poll_proceed};
use tokio::time::timeout;
use tracing::{debug, error};

use crate::budget::Reservation;
use crate::site::sse;
use crate::ws::messages::content;
use crate::ws::socket::{WebSocket, close, is_too_large};

use super::hub::{Subscription, Topic};
use super::members::Presence;
use super::not_taken::NotTaken;
use super::policy::{SlowSubscriber, TopicPolicy, Verdict};
use super::positions::{self, Id, greeting};
use super::ring::{Form, Item};

/// How long a page has to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Subscriber<P: TopicPolicy> {
    subscription: Subscription,
    /// Its link, or the native socket.
    peer: u64,
    policy: Arc<P>,
    about: P::Subscriber,
    /// Its place among the members of the topic.
    presence: Option<Presence>,
    /// Whether its link has no connection; `None`: it has no link.
    parked: Option<watch::Receiver<bool>>,
    slow: SlowSubscriber,
    read_only: bool,
    /// Whether the messages have numbers that later subscribers may name.
    has_positions: bool,
    /// Set if the page asked for positions.
    numbering: Option<Numbering>,
}

/// The state of the frames besides messages, for a page that asked for positions.
#[derive(Debug, Default)]
struct Numbering {
    is_greeted: bool,
    /// The answers to its messages: their numbers, or `None` for one that was not published. Each is sent once the page has got
    /// everything up to that number, so that it may go on from there.
    answers: VecDeque<Option<u64>>,
}

/// The number of messages of a page that are read while the first of them waits for NATS or the disk: 1 MiB of the largest by default.
const MAX_UNSENT: usize = 16;

/// Messages of a page that are read on while it does not take the answers to earlier ones: of 16 bytes each.
const MAX_UNANSWERED: usize = 1024;

/// Messages that a page has sent, and that NATS has not accepted or the disk not stored yet, in order.
struct Unsent {
    first: Option<BoxFuture<'static, Result<Option<u64>, NotTaken>>>,
    /// The cost of the message that is being sent.
    first_cost: usize,
    /// The messages behind it. `None`: one that is not published, and is answered in its turn.
    behind: VecDeque<Option<Message>>,
    /// The cost of the messages behind it.
    behind_cost: usize,
    /// Counts all of them as memory of the link. `None`: a native socket has none.
    reservation: Option<Reservation>,
}

/// How a socket ends.
pub(super) enum End {
    /// The page closed it, or is gone.
    Left,
    /// The server closes it, with a reason for the page.
    Close(CloseCode, String),
}

/// The event that a socket is ready for.
enum Ready {
    Incoming(Option<Result<Message, axum::Error>>),
    /// It takes a message.
    Room,
    /// A message that waited for NATS or the disk has been published, with its number if it has one, or not.
    Sent(Result<Option<u64>, NotTaken>),
}

impl<P: TopicPolicy> Subscriber<P> {
    pub(super) fn new(
        subscription: Subscription,
        peer: u64,
        policy: Arc<P>,
        about: P::Subscriber,
        slow: SlowSubscriber,
        read_only: bool,
    ) -> Self {
        let presence = policy
            .member(&about)
            .map(|member| subscription.hub().members().add(subscription.name(), &member));
        Self {
            subscription,
            peer,
            policy,
            about,
            presence,
            parked: None,
            slow,
            read_only,
            has_positions: false,
            numbering: None,
        }
    }

    /// Gives the messages their numbers: all of them as Server-Sent Events, and on sockets if the page has asked for it.
    pub(super) fn with_positions(mut self, is_asked: bool) -> Self {
        self.has_positions = true;
        self.numbering = is_asked.then(Numbering::default);
        self
    }

    /// Marks it among the members while its link has no connection.
    pub(super) fn on_link(mut self, parked: Option<watch::Receiver<bool>>) -> Self {
        self.parked = parked.filter(|_| self.presence.is_some());
        self
    }

    /// Serves the socket until either end closes it.
    pub(super) async fn run(mut self, mut socket: WebSocket) {
        let mut unsent = Unsent::new(socket.reservation());
        let mut presence = self.presence.take();
        let following = follow(presence.as_mut(), self.parked.take());
        let end = tokio::select! {
            Err(end) = self.serve(&mut socket, &mut unsent) => end,
            never = following => match never {},
        };
        let (topic, number, peer) =
            (Arc::clone(self.subscription.topic()), self.subscription.number(), self.peer);
        // It counts no longer, however long closing takes.
        drop((self, presence));
        if let End::Close(code, reason) = end {
            let _ = timeout(CLOSE_TIMEOUT, socket.send(close(code, reason))).await;
        }
        // The closing handshake to its end.
        let _ = timeout(CLOSE_TIMEOUT, async { while let Some(Ok(_)) = socket.recv().await {} }).await;
        drop(socket);
        // The messages that the page had sent before.
        while let Some(Ok(_)) = unsent.sent().await {
            unsent.go_on(&topic, number, peer);
        }
    }

    async fn serve(&mut self, socket: &mut WebSocket, unsent: &mut Unsent) -> Result<Infallible, End> {
        loop {
            let may_read =
                self.numbering.as_ref().is_none_or(|numbering| numbering.answers.len() < MAX_UNANSWERED);
            match poll_fn(|cx| poll_room(socket, unsent, may_read, cx)).await {
                Ready::Room => {}
                ready => {
                    self.take(ready, unsent).await?;
                    continue;
                }
            }
            // There is room for one.
            let message = match self.waiting().await? {
                Some(message) => message,
                None => tokio::select! {
                    biased;
                    ready = poll_fn(|cx| poll_idle(socket, unsent, cx)) => {
                        self.take(ready, unsent).await?;
                        continue;
                    }
                    message = self.next() => message?,
                },
            };
            // Messages that arrive together are sent together: the flush happens when the socket idles.
            socket.feed(message).await.map_err(|_| End::Left)?;
        }
    }

    /// Returns the next message for this subscriber. Nothing is lost if the future is dropped.
    async fn next(&mut self) -> Result<Message, End> {
        loop {
            if let Some(message) = self.besides() {
                return Ok(message);
            }
            let item = self.next_item().await;
            if let Some(message) = self.shape(item)? {
                return Ok(message);
            }
        }
    }

    /// Returns the next message as a Server-Sent Event, which all readers share.
    pub(super) async fn next_event(&mut self) -> Result<Bytes, End> {
        if let Some(numbering) = &mut self.numbering
            && !std::mem::replace(&mut numbering.is_greeted, true)
            && self.subscription.beginning().is_unknown
        {
            return Ok(self.event(&self.missed(None)?, None));
        }
        loop {
            let event = match self.next_item().await {
                Item::Message(message, position) if self.policy.deliver(&self.about, &message) => {
                    self.event(&message, Some(position))
                }
                Item::Message(..) | Item::Skipped => continue,
                Item::Missed(count) => self.event(&self.missed(count)?, None),
                Item::Lost => return Err(lost()),
            };
            // An empty text without a position has no form as an event.
            if !event.is_empty() {
                return Ok(event);
            }
        }
    }

    /// Returns a message as an event. The position is that in the topic; a message of our own has none.
    fn event(&self, message: &Message, position: Option<u64>) -> Bytes {
        let ring = self.subscription.ring();
        let id = self.has_positions.then(|| Id(self.subscription.position(), ring.epoch()).to_string());
        let make = || sse::encode(message, id.as_deref()).unwrap_or_default();
        position.map_or_else(make, |position| ring.form(position, Form::Event, make))
    }

    async fn next_item(&mut self) -> Item {
        let subscription = &mut self.subscription;
        poll_fn(|cx| {
            let turn = ready!(poll_proceed(cx));
            let item = ready!(subscription.poll_read(cx));
            turn.made_progress();
            Poll::Ready(item)
        })
        .await
    }

    /// Returns the next message if one is queued for this subscriber. Each that is looked at counts as work of the task's turn:
    /// a topic may keep any number for one that comes back, and the policy may deliver none of them.
    async fn waiting(&mut self) -> Result<Option<Message>, End> {
        loop {
            consume_budget().await;
            if let Some(message) = self.besides() {
                return Ok(Some(message));
            }
            let Some(item) = self.subscription.read() else { return Ok(None) };
            if let Some(message) = self.shape(item)? {
                return Ok(Some(message));
            }
        }
    }

    /// Returns the further messages for a page that has asked for positions: its start, and answers.
    fn besides(&mut self) -> Option<Message> {
        let numbering = self.numbering.as_mut()?;
        if !numbering.is_greeted {
            numbering.is_greeted = true;
            return Some(greeting(self.subscription.ring().epoch(), self.subscription.beginning()));
        }
        let is_due = |number: u64| number <= self.subscription.position();
        let answer = numbering.answers.front().copied().filter(|number| number.is_none_or(is_due))?;
        numbering.answers.pop_front();
        Some(positions::published(answer))
    }

    /// Returns the page's message for an item; `None` if it is not for this subscriber.
    fn shape(&self, item: Item) -> Result<Option<Message>, End> {
        let number = self.subscription.position();
        match item {
            Item::Message(message, position) if self.policy.deliver(&self.about, &message) => {
                if self.numbering.is_none() {
                    return Ok(Some(message));
                }
                let make = || positions::numbered(&message, number);
                let text = self.subscription.ring().form(position, Form::Numbered, make);
                match text.try_into() {
                    Ok(text) => Ok(Some(Message::Text(text))),
                    Err(error) => {
                        error!("a message with its number is no text: {error}");
                        Ok(None)
                    }
                }
            }
            Item::Message(..) | Item::Skipped => Ok(None),
            // It has asked for this, and would ask again if its socket were closed.
            Item::Missed(count) if self.numbering.is_some() => Ok(Some(positions::missed(number, count))),
            Item::Missed(count) => self.missed(count).map(Some),
            Item::Lost => Err(lost()),
        }
    }

    /// Returns the message or close for messages that were dropped, or for an unknown number that never arrived here.
    fn missed(&self, count: Option<u64>) -> Result<Message, End> {
        debug!(count, "a subscriber missed messages");
        match (self.slow, count) {
            (SlowSubscriber::Drop, Some(count)) => {
                Ok(Message::Text(format!("{{\"dropped\":{count}}}").into()))
            }
            (SlowSubscriber::Drop, None) => Ok(Message::Text("{\"dropped\":null}".into())),
            (SlowSubscriber::Close, Some(count)) => {
                Err(End::Close(close_code::AGAIN, format!("too slow: missed {count} messages")))
            }
            (SlowSubscriber::Close, None) => {
                Err(End::Close(close_code::AGAIN, "messages of other servers may be missing".into()))
            }
        }
    }

    /// Publishes the page's message, or continues with an earlier one.
    async fn take(&mut self, ready: Ready, unsent: &mut Unsent) -> Result<(), End> {
        let topic = Arc::clone(self.subscription.topic());
        let topic = &topic;
        let incoming = match ready {
            Ready::Incoming(incoming) => incoming,
            Ready::Sent(result) => {
                let number = result?;
                self.answer(number);
                unsent.go_on(topic, self.subscription.number(), self.peer);
                return Ok(());
            }
            Ready::Room => return Ok(()),
        };
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
        // Each message has its subscribers woken: after some, others have their turn.
        consume_budget().await;
        let message = match self.policy.publish(&self.about, message) {
            Verdict::Publish(message @ (Message::Text(_) | Message::Binary(_))) => Some(message),
            Verdict::Publish(_) | Verdict::Ignore => None,
            Verdict::Close(reason) => return Err(End::Close(close_code::POLICY, reason)),
        };
        let own = self.subscription.number();
        if topic.may_wait() {
            unsent.push(message);
            if unsent.first.is_none() {
                unsent.go_on(topic, own, self.peer);
            }
            return Ok(());
        }
        let number = match message {
            Some(message) => topic.publish(message, own, self.peer).await?,
            None => None,
        };
        self.answer(number);
        Ok(())
    }
}

impl<P: TopicPolicy> Subscriber<P> {
    /// Answers a message of a page that has asked for positions.
    fn answer(&mut self, number: Option<u64>) {
        if let Some(numbering) = &mut self.numbering {
            numbering.answers.push_back(number);
        }
    }
}

impl From<NotTaken> for End {
    fn from(reason: NotTaken) -> Self {
        let code = match reason {
            NotTaken::TooLarge => close_code::SIZE,
            NotTaken::Full | NotTaken::Away | NotTaken::Unstored => close_code::AGAIN,
        };
        Self::Close(code, reason.reason().into())
    }
}

/// Marks a member as away while its link has no connection.
async fn follow(presence: Option<&mut Presence>, parked: Option<watch::Receiver<bool>>) -> Infallible {
    if let (Some(presence), Some(mut parked)) = (presence, parked) {
        loop {
            let is_parked = *parked.borrow_and_update();
            presence.set_away(is_parked);
            // The link has ended, and so will the socket.
            if parked.changed().await.is_err() {
                break;
            }
        }
    }
    pending().await
}

/// Closes a subscriber of a topic whose messages NATS has lost: it gets those of the new topic once it connects again.
fn lost() -> End {
    End::Close(close_code::AGAIN, "the topic's messages are lost: connect again".into())
}

impl Unsent {
    fn new(reservation: Option<Reservation>) -> Self {
        Self { first: None, first_cost: 0, behind: VecDeque::new(), behind_cost: 0, reservation }
    }

    fn push(&mut self, message: Option<Message>) {
        self.behind_cost += cost(message.as_ref());
        self.behind.push_back(message);
        self.count();
    }

    /// Begins to publish the next message of a subscriber with the number `own`.
    fn go_on(&mut self, topic: &Arc<Topic>, own: u64, peer: u64) {
        let next = self.behind.pop_front();
        self.first_cost = next.as_ref().map_or(0, |message| cost(message.as_ref()));
        self.behind_cost -= self.first_cost;
        self.count();
        self.first = next.map(|message| {
            let topic = Arc::clone(topic);
            async move {
                match message {
                    Some(message) => topic.publish(message, own, peer).await,
                    None => Ok(None),
                }
            }
            .boxed()
        });
    }

    fn count(&mut self) {
        if let Some(reservation) = &mut self.reservation {
            reservation.set(self.first_cost + self.behind_cost);
        }
    }

    /// Waits for the result of the message that is being sent; `None` if there is none.
    async fn sent(&mut self) -> Option<Result<Option<u64>, NotTaken>> {
        let result = self.first.as_mut()?.await;
        self.first = None;
        Some(result)
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Ready> {
        let Some(first) = &mut self.first else { return Poll::Pending };
        first.poll_unpin(cx).map(|result| {
            self.first = None;
            Ready::Sent(result)
        })
    }

    /// Polls for a message of the page, unless too many wait already.
    fn poll_incoming(&self, socket: &mut WebSocket, cx: &mut Context<'_>) -> Poll<Ready> {
        if self.behind.len() >= MAX_UNSENT {
            return Poll::Pending;
        }
        socket.poll_next_unpin(cx).map(Ready::Incoming)
    }
}

/// Returns the memory that a message costs while it waits.
fn cost(message: Option<&Message>) -> usize {
    message.map_or(0, |message| Reservation::cost(content(message)))
}

/// Ready with a message of the page, with the result of one, or when the page can receive one.
fn poll_room(
    socket: &mut WebSocket,
    unsent: &mut Unsent,
    may_read: bool,
    cx: &mut Context<'_>,
) -> Poll<Ready> {
    if let Poll::Ready(ready) = unsent.poll_sent(cx) {
        return Poll::Ready(ready);
    }
    if may_read && let Poll::Ready(ready) = unsent.poll_incoming(socket, cx) {
        return Poll::Ready(ready);
    }
    // The reader gets the error of a socket that fails.
    socket.poll_ready_unpin(cx).map(|_| Ready::Room)
}

/// Flushes, and is ready with a message of the page or with the result of one.
fn poll_idle(socket: &mut WebSocket, unsent: &mut Unsent, cx: &mut Context<'_>) -> Poll<Ready> {
    let _ = socket.poll_flush_unpin(cx);
    if let Poll::Ready(ready) = unsent.poll_sent(cx) {
        return Poll::Ready(ready);
    }
    unsent.poll_incoming(socket, cx)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::budget::Budgets;

    #[test]
    fn messages_that_wait_are_counted() {
        let budget = Budgets::default().open(Arc::new(AtomicUsize::new(0)));
        let mut unsent = Unsent::new(Some(Reservation::new(Arc::clone(&budget))));
        for _ in 0..MAX_UNSENT {
            unsent.push(Some(Message::Binary(vec![0; 60_000].into())));
            unsent.push(Some(Message::Text("x".repeat(30_000).into())));
        }
        assert!(budget.taken().0 >= MAX_UNSENT * 90_000, "{:?}", budget.taken());
        drop(unsent);
        assert_eq!(budget.taken(), (0, 0));
    }
}

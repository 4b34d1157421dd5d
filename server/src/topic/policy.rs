//! The policy of topics: the rights of subscribers, and the treatment of slow ones.

use axum::extract::ws::Message;
use axum::http::request::Parts;
use axum::response::Response;

use super::members::Member;

/// Decides who may subscribe, publish and receive. Only the method `accept` has no default.
pub trait TopicPolicy: Send + Sync + 'static {
    /// The data that a policy keeps about a subscriber, such as a name.
    type Subscriber: Send + Sync + 'static;

    /// Accepts a subscriber to the topic with this name.
    ///
    /// # Errors
    /// Returns the response that refuses the subscriber, such as one with status 403. The page then sees the events `error`
    /// and `close`, as of any refused WebSocket.
    fn accept(
        &self,
        topic: &str,
        request: &Parts,
    ) -> impl Future<Output = Result<Self::Subscriber, Response>> + Send;

    /// Returns the verdict on a message that a subscriber sends, text or binary. Default: publish it.
    fn publish(&self, from: &Self::Subscriber, message: Message) -> Verdict {
        let _ = from;
        Verdict::Publish(message)
    }

    /// Returns how others see a subscriber in the [list of members](super::Topics::members); `None` if they do not. Default: `None`.
    fn member(&self, subscriber: &Self::Subscriber) -> Option<Member> {
        let _ = subscriber;
        None
    }

    /// Returns whether a subscriber gets a message. The server calls this for each subscriber and message, so it should be
    /// quick. Default: true.
    fn deliver(&self, to: &Self::Subscriber, message: &Message) -> bool {
        let (_, _) = (to, message);
        true
    }
}

/// The decision about a message that a subscriber sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// All subscribers get this message, the sender included. It may differ from the message that the subscriber sent.
    Publish(Message),
    /// The server drops the message.
    Ignore,
    /// The server closes the sender's socket with 1008 (policy violation) and this reason.
    Close(String),
}

/// The policy that lets everybody subscribe and publish.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl TopicPolicy for AllowAll {
    type Subscriber = ();

    async fn accept(&self, _topic: &str, _request: &Parts) -> Result<(), Response> {
        Ok(())
    }
}

/// The treatment of a subscriber that is further behind than the [backlog](super::Topics::backlog).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlowSubscriber {
    /// The subscriber loses the oldest messages. In their place it gets the text `{"dropped":17}` with their number.
    #[default]
    Drop,
    /// The server closes its socket with 1013 (try again later), and a reason that says how many messages it missed.
    Close,
}

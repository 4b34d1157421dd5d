//! Topics: connecting subscribes, sending publishes, and every socket on the URL gets the message, the sender's too.
//! `docs/topics.md` has the wire protocol.
//!
//! ```
//! use axum::Router;
//! use manysocket_server::topic::Topics;
//!
//! let rooms = Topics::new().history(50);
//! let app: Router = Router::new().route_service("/chatrooms/{room}", rooms.clone());
//! // From anywhere in the server:
//! rooms.publish("/chatrooms/rust", "the server restarts at noon");
//! ```
//!
//! A [`TopicPolicy`] decides about subscribers and publications:
//!
//! ```
//! use axum::extract::ws::Message;
//! use axum::http::{StatusCode, header, request::Parts};
//! use axum::response::{IntoResponse, Response};
//! use axum::{Router, routing::any_service};
//! use manysocket_server::topic::{TopicPolicy, Topics, Verdict};
//!
//! struct Members;
//!
//! impl TopicPolicy for Members {
//!     /// The subscriber's name.
//!     type Subscriber = String;
//!
//!     async fn accept(&self, _topic: &str, request: &Parts) -> Result<String, Response> {
//!         let name = request.headers.get("x-user").and_then(|name| name.to_str().ok());
//!         name.map(str::to_owned).ok_or_else(|| StatusCode::FORBIDDEN.into_response())
//!     }
//!
//!     fn publish(&self, name: &String, message: Message) -> Verdict {
//!         match message {
//!             Message::Text(text) => Verdict::Publish(format!("{name}: {text}").into()),
//!             _ => Verdict::Close("text only".into()),
//!         }
//!     }
//! }
//!
//! let app: Router = Router::new().route("/members/{room}", any_service(Topics::with_policy(Members)));
//! ```

mod hub;
mod limits;
mod lock;
mod members;
#[cfg(feature = "nats")]
mod members_over_nats;
#[cfg(not(feature = "nats"))]
#[path = "members_without_nats.rs"]
mod members_over_nats;
mod memory;
mod name;
mod not_taken;
#[cfg(feature = "nats")]
mod over_nats;
#[cfg(not(feature = "nats"))]
#[path = "without_nats.rs"]
mod over_nats;
#[cfg(feature = "nats")]
mod payload;
mod policy;
mod positions;
mod refused;
mod ring;
mod served;
#[cfg(feature = "nats")]
mod shared;
#[cfg(not(feature = "nats"))]
#[path = "without_shared.rs"]
mod shared;
#[cfg(any(feature = "nats", feature = "topic-store"))]
mod store;
#[cfg(feature = "topic-store")]
mod stored;
#[cfg(not(feature = "topic-store"))]
#[path = "without_store.rs"]
mod stored;
mod subscriber;

use std::convert::{Infallible, identity};
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::extract::ws::Message;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, any_service, get};
use futures_util::future::BoxFuture;
use futures_util::stream;
use tower::Service;

use crate::metrics::stats::Stats;
#[cfg(feature = "nats")]
use crate::nats::Nats;
use crate::site::endpoint::{Endpoint, original_uri};
use crate::site::listing::Listing;
use crate::site::sse::event_stream;
use crate::ws::peer;
use crate::ws::upgrade::WebSocketUpgrade;

use hub::Hub;
use limits::TopicLimits;
pub use members::Member;
use members::Watcher;
pub use policy::{AllowAll, SlowSubscriber, TopicPolicy, Verdict};
pub use positions::Positions;
use positions::Since;
use refused::Refused;
#[cfg(any(feature = "nats", feature = "topic-store"))]
pub use store::TopicStore;
use subscriber::Subscriber;

/// Topics, each at its own URL: a [`Service`] for a route with a parameter. Clones share the topics and may differ in
/// the rights of their subscribers. Pages of other origins may subscribe natively if the
/// [`Site`](crate::Site::allow_origin) lets them, and over multiplexers that let them.
///
/// A topic is made for its first subscriber and ends with its last; its name is the path of the URL.
pub struct Topics<P = AllowAll> {
    hub: Arc<Hub>,
    policy: Arc<P>,
    limits: TopicLimits,
    slow: SlowSubscriber,
    read_only: bool,
}

impl Topics {
    /// Creates topics to which everybody may subscribe and publish.
    #[must_use]
    pub fn new() -> Self {
        Self::with_policy(AllowAll)
    }
}

impl Default for Topics {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: TopicPolicy> Topics<P> {
    /// Creates topics with a policy.
    #[must_use]
    pub fn with_policy(policy: P) -> Self {
        Self {
            hub: Arc::default(),
            policy: Arc::new(policy),
            limits: TopicLimits::default(),
            slow: SlowSubscriber::default(),
            read_only: false,
        }
    }

    /// Shares the topics with all server processes on the same NATS: a publication on a path reaches all subscribers of that
    /// path. Call it first: it does not share existing topics. Each process has its own history and listing.
    ///
    /// A publisher's messages come in their order; those of different processes may come in different orders. When messages may
    /// be missing, since NATS was away or faster than this process, subscribers get the text `{"dropped":null}`.
    #[must_use]
    #[cfg(feature = "nats")]
    pub fn nats(mut self, nats: &Nats) -> Self {
        self.hub = Arc::new(Hub::over(nats));
        self
    }

    /// Stores the messages, so that topics outlive the process: positions go on, and a subscriber that comes back after a restart gets
    /// the messages that it has missed. A message is stored before its publisher has its number and before anybody gets it, so publishing takes as
    /// long as the disk. The topics have [positions](Self::positions), by default with the default limits.
    ///
    /// The store is a file, or it is [on NATS](TopicStore::nats), where several servers share it. Call this first: existing topics are
    /// no part of it. It takes the place of [`nats`](Self::nats), which shares topics without a store.
    ///
    /// ```no_run
    /// # fn run() -> std::io::Result<()> {
    /// use manysocket_server::topic::{Positions, TopicStore, Topics};
    ///
    /// let store = TopicStore::open("topics.redb")?;
    /// let rooms = Topics::new().stored(&store).positions(Positions::new().messages(500));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    #[cfg(any(feature = "nats", feature = "topic-store"))]
    pub fn stored(mut self, store: &TopicStore) -> Self {
        self.hub = Arc::new(Hub::stored(store));
        self.limits.positions.get_or_insert_default();
        self
    }

    /// Gives each new subscriber up to `messages` of the topic's last messages. Default: none.
    #[must_use]
    pub fn history(mut self, messages: usize) -> Self {
        self.limits.history = messages;
        self
    }

    /// Numbers the messages and keeps them, so that a subscriber that comes back gets the missed messages: it names its position
    /// in the URL, as `?since=`, and an `EventSource` does so automatically. `docs/topics.md` has the messages. Subscribers that ask for
    /// nothing get plain messages, as without positions. A topic lives on without subscribers while it has messages to keep.
    ///
    /// Positions belong to one process: on [NATS](Self::nats) the topics have none, unless a [store](TopicStore::nats) there keeps them.
    #[must_use]
    pub fn positions(mut self, positions: Positions) -> Self {
        self.limits.positions = Some(positions);
        self
    }

    /// Keeps the last message of each topic, for as long as the process runs and other topics leave room: a new subscriber gets
    /// it first, even if it was [published](Self::publish) by the server without any subscriber.
    #[must_use]
    pub fn retain_last(mut self) -> Self {
        self.limits.retains_last = true;
        self
    }

    /// Gives a message to all subscribers but the one that sent it. On [NATS](Self::nats) without a store that one gets it, too.
    #[must_use]
    pub fn skip_sender(mut self) -> Self {
        self.limits.skips_sender = true;
        self
    }

    /// Sets the largest message that a subscriber may send, in bytes; a larger one closes its socket with 1009. Default: 64 KiB.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.limits.max_message = bytes;
        self
    }

    /// Sets how many messages a subscriber may be behind, besides the history. A topic holds them once for all subscribers, while
    /// one of them has still to read them. Default: 256.
    #[must_use]
    pub fn backlog(mut self, messages: usize) -> Self {
        self.limits.backlog = messages;
        self
    }

    /// Sets the largest number of topics; an open that would make another is refused with 503. Default: 10,000.
    #[must_use]
    pub fn max_topics(mut self, count: usize) -> Self {
        self.limits.max_topics = count;
        self
    }

    /// Sets how many bytes of memory the topics may hold together: messages for new subscribers and for those that are behind, names
    /// and subscribers. Beyond it, the topics that hold most lose their oldest messages. A publisher is closed with 1013 if its topic
    /// holds more than its share, and a new topic gets 503 if there is nothing to drop. Default: 256 MiB.
    #[must_use]
    pub fn max_memory(mut self, bytes: usize) -> Self {
        self.limits.max_memory = bytes;
        self
    }

    /// Sets the treatment of a subscriber that is further behind than that. By default it misses messages, and gets their number.
    #[must_use]
    pub fn slow(mut self, slow: SlowSubscriber) -> Self {
        self.slow = slow;
        self
    }

    /// Lets only the server publish: a subscriber that sends is closed with 1008.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Publishes from the server, past the [policy](TopicPolicy::publish) for subscribers, on the topic with the path `topic`.
    /// Returns the number of its subscribers in this process. Without any, the message is lost, also for later subscribers.
    ///
    /// On [NATS](Self::nats) it does not wait: if 2,000 messages (16 MiB) already wait for NATS, this one is lost, and the log
    /// has a warning.
    pub fn publish(&self, topic: &str, message: impl Into<Message>) -> usize {
        match message.into() {
            message @ (Message::Text(_) | Message::Binary(_)) => {
                self.hub.publish(topic, message, self.limits())
            }
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => 0,
        }
    }

    /// Returns the number of subscribers of the topic with the path `topic`.
    pub fn subscribers(&self, topic: &str) -> usize {
        self.hub.subscribers(topic)
    }

    /// Returns the names of the topics that there are now, sorted: their paths without percent-encoding. `%2F` and `%25` stay
    /// encoded, so that each name is one path.
    pub fn topics(&self) -> Vec<String> {
        self.hub.names()
    }

    /// Returns the live list of the present topics, by the last segments of their paths, for an index.
    pub fn listing(&self) -> Listing {
        self.hub.listing()
    }

    /// Returns an endpoint for a [`Site`](crate::Site), at a path that ends in a parameter: its parent lists the topics that
    /// exist, and a request for Server-Sent Events receives the messages.
    pub fn endpoint<S: Clone + Send + Sync + 'static>(&self) -> Endpoint<S> {
        let reader = self.clone();
        let read = get(async move |request: Request| reader.read(request).await);
        Endpoint::new(any_service(self.clone()))
            .title("A topic")
            .usage(
                "To subscribe, connect; to publish, send. Everybody here gets every message, the sender too.",
            )
            .listing(self.listing())
            .events(read)
    }

    /// Returns an endpoint that lists who is on a topic, for a path one segment below that of the topics, such as
    /// `/chatrooms/{room}/members`. The policy names the [members](TopicPolicy::member), and a page that may subscribe to a topic may watch.
    /// `docs/topics.md` has the messages.
    pub fn members<S: Clone + Send + Sync + 'static>(&self) -> Endpoint<S> {
        let (socket, events, list) = (self.clone(), self.clone(), self.clone());
        let socket = any(async move |request: Request| {
            let (mut parts, _) = request.into_parts();
            let upgrade = match WebSocketUpgrade::checked(&mut parts).await {
                Ok(upgrade) => upgrade,
                Err(refusal) => return refusal,
            };
            match socket.watcher(&parts).await {
                Ok(watcher) => upgrade.on_upgrade(move |socket| watcher.run(socket)),
                Err(refusal) => refusal,
            }
        });
        let events = get(async move |request: Request| {
            let watcher = events.watcher(&request.into_parts().0).await;
            watcher.map_or_else(identity, Watcher::events)
        });
        let list = get(async move |request: Request| {
            let watcher = list.watcher(&request.into_parts().0).await;
            watcher.map_or_else(identity, |watcher| watcher.list())
        });
        Endpoint::new(socket)
            .title("Who is on a topic")
            .usage("Connect: the first message lists the members, the others report members that join and leave.")
            .events(events)
            .http(list)
    }

    /// Admits a watcher of the members of the topic above a path.
    async fn watcher(&self, parts: &Parts) -> Result<Watcher, Response> {
        let path = original_uri(&parts.extensions, &parts.uri).path();
        let (topic, _) = path.rsplit_once('/').unwrap_or_default();
        let name = self.hub.name(topic).map_err(Refused::into_response)?;
        self.policy.accept(&name, parts).await?;
        let members = self.hub.members();
        self.hub.gather_members().await;
        Ok(Watcher::new(members, &name))
    }

    /// Returns the limits of new topics. Positions are of one process.
    fn limits(&self) -> TopicLimits {
        let positions = self.limits.positions.filter(|_| self.hub.is_alone());
        TopicLimits { positions, ..self.limits }
    }

    /// Subscribes: the subscription exists before the open is accepted.
    async fn subscriber(self, parts: &Parts, peer: u64) -> Result<Subscriber<P>, Response> {
        if let Some(stats) = parts.extensions.get::<Stats>() {
            self.hub.report_to(stats);
        }
        let name = self.hub.name(original_uri(&parts.extensions, &parts.uri).path());
        let name = name.map_err(Refused::into_response)?;
        let about = self.policy.accept(&name, parts).await?;
        let limits = self.limits();
        let has_positions = limits.positions.is_some();
        if !has_positions && Since::asked(parts).as_ref().is_some_and(Since::is_position) {
            return Err((StatusCode::BAD_REQUEST, "this topic has no positions\n").into_response());
        }
        let since = if has_positions { Since::of(parts) } else { None };
        let begin = since.as_ref().unwrap_or(&Since::Now);
        let subscription = self.hub.subscribe(&name, limits, begin, peer).await;
        let subscription = subscription.map_err(Refused::into_response)?;
        subscription.joined().await;
        let subscriber = Subscriber::new(subscription, peer, self.policy, about, self.slow, self.read_only);
        Ok(if has_positions { subscriber.with_positions(since.is_some()) } else { subscriber })
    }

    /// Answers an open.
    async fn answer(self, request: Request) -> Response {
        let (mut parts, _) = request.into_parts();
        let upgrade = match WebSocketUpgrade::checked(&mut parts).await {
            Ok(upgrade) => upgrade,
            Err(refusal) => return refusal,
        };
        let upgrade = upgrade.max_message_size(self.limits.max_message);
        let parked = upgrade.parked();
        match self.subscriber(&parts, upgrade.peer()).await.map(|subscriber| subscriber.on_link(parked)) {
            Ok(subscriber) => upgrade.on_upgrade(move |socket| subscriber.run(socket)),
            Err(refusal) => refusal,
        }
    }

    /// Answers a reader of events.
    async fn read(self, request: Request) -> Response {
        let (parts, _) = request.into_parts();
        match self.subscriber(&parts, peer::number()).await {
            Ok(subscriber) => event_stream(stream::unfold(subscriber, async |mut subscriber| {
                let event = subscriber.next_event().await.ok()?;
                Some((event, subscriber))
            })),
            Err(refusal) => refusal,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, why) = match self {
            Self::NotText => {
                (StatusCode::BAD_REQUEST, "the name of a topic is text in UTF-8, percent-encoded\n")
            }
            Self::TooLong => (StatusCode::URI_TOO_LONG, "the name of the topic is too long\n"),
            Self::Full => (StatusCode::SERVICE_UNAVAILABLE, "there are too many topics: try again later\n"),
            Self::Unreadable => (StatusCode::SERVICE_UNAVAILABLE, "the topic cannot be read now\n"),
        };
        (status, why).into_response()
    }
}

impl<P> Clone for Topics<P> {
    fn clone(&self) -> Self {
        Self {
            hub: Arc::clone(&self.hub),
            policy: Arc::clone(&self.policy),
            limits: self.limits,
            slow: self.slow,
            read_only: self.read_only,
        }
    }
}

impl<P> fmt::Debug for Topics<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Topics").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl<P: TopicPolicy> Service<Request> for Topics<P> {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let topics = self.clone();
        Box::pin(async move { Ok(topics.answer(request).await) })
    }
}

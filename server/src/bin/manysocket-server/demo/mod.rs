//! The demo endpoints of the binary.

mod functions;
mod guests;
mod primes;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::Message;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use manysocket_server::state::{Documents, Store};
use manysocket_server::topic::{Positions, TopicStore, Topics};
use manysocket_server::{Endpoint, Nats, Site, Stats, WebSocketUpgrade};

use crate::files::Files;
use guests::Guests;

/// The number of past messages that a new subscriber of a chat gets: about a screen of them.
const HISTORY: usize = 20;

/// The age of the oldest messages: a week, so that a room is not empty on the next day.
const AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The counters that `/demo/stats` reports.
#[derive(Clone)]
pub(crate) struct Counts {
    multiplexer: Stats,
    native: Arc<AtomicUsize>,
}

impl Counts {
    pub(crate) fn new(multiplexer: Stats) -> Self {
        Self { multiplexer, native: Arc::default() }
    }
}

/// Where the documents and the messages of topics are.
pub(crate) struct Data {
    pub(crate) documents: Store,
    /// `None`: in memory.
    pub(crate) topics: Option<TopicStore>,
    pub(crate) nats: Option<Nats>,
}

/// Returns the endpoints under `/demo/`, with an index of them.
pub(crate) fn site(counts: Counts, data: &Data) -> Site {
    let echo = Endpoint::new(any(echo)).title("Echo").usage("Send text or binary: it comes back as it came.");
    let topics = topics(data);
    Site::new()
        .endpoint("/demo/echo", echo)
        .nest("/demo/rpc", functions::site(&topics))
        .nest("/demo/rpc/primes", primes::site())
        .endpoint("/demo/state/{name}", Documents::new(&data.documents, "demo").endpoint())
        .endpoint("/demo/topics/{name}", topics.endpoint())
        .endpoint("/demo/topics/{name}/members", topics.members())
        .route("/demo/stats", get(stats))
        .with_state(counts)
}

/// Returns the game rooms: their chats, and one page for every room if the demo's files are served. The rooms have no
/// index, because the rest of their folder holds files.
pub(crate) fn games(files: Option<Files>, data: &Data) -> Router {
    let chats = Router::new().route_service("/games/{room}/chat", topics(data));
    match files {
        Some(files) => {
            let room = async move |request: Request| files.answer_with("games/room.html", request).await;
            chats.route("/games/{room}/", get(room))
        }
        None => chats,
    }
}

fn topics(data: &Data) -> Topics<Guests> {
    let topics = Topics::with_policy(Guests).history(HISTORY).positions(Positions::new().age(AGE));
    match &data.topics {
        Some(store) => topics.stored(store),
        None => topics,
    }
}

/// Echoes text and binary messages.
async fn echo(State(counts): State<Counts>, upgrade: WebSocketUpgrade) -> Response {
    let native = (!upgrade.is_virtual()).then_some(counts.native);
    upgrade.on_upgrade(|mut socket| async move {
        if let Some(native) = &native {
            native.fetch_add(1, Ordering::Relaxed);
        }
        while let Some(Ok(message)) = socket.recv().await {
            if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err()
            {
                break;
            }
        }
        if let Some(native) = &native {
            native.fetch_sub(1, Ordering::Relaxed);
        }
    })
}

/// Returns the numbers of open connections and sockets.
async fn stats(State(counts): State<Counts>) -> impl IntoResponse {
    let (physical, virtual_) = (counts.multiplexer.links(), counts.multiplexer.channels());
    let native = counts.native.load(Ordering::Relaxed);
    let json = format!(r#"{{"physical":{physical},"native":{native},"virtual":{virtual_}}}"#);
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], json)
}

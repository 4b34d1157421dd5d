//! Serves documents to pages: their sockets, their streams of events, and the index of their names.

use std::sync::Arc;

use axum::extract::ws::Message;
use axum::extract::{Path, Request};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::{any, get};
use futures_util::{Stream, StreamExt, stream};

use crate::access::as_declared;
use crate::site::endpoint::Endpoint;
use crate::site::listing::Listing;
use crate::site::sse::{LastEventId, SseMessage, sse};
use crate::ws::peer;
use crate::ws::upgrade::WebSocketUpgrade;

use super::Documents;
use super::document::Document;
use super::outbox::{News, Outbox};
use super::session::Session;
use super::store::Store;

impl Documents {
    /// Serves a socket on the document `name`, for handlers that decide about names or access. `uri` is the request's URI:
    /// its query may name the version that the page has already.
    pub async fn serve(&self, name: &str, uri: &Uri, upgrade: WebSocketUpgrade) -> Response {
        let peer = upgrade.peer();
        let document = match self.open(name, peer).await {
            Ok(document) => document,
            Err(refusal) => return refusal,
        };
        let session = Session {
            store: self.store.clone(),
            document,
            rules: self.may_write.then(|| self.rules.clone()),
            known: known(uri),
            rate_limits: self.rate_limits.clone(),
            peer,
        };
        upgrade.max_message_size(self.max_commit).on_upgrade(|socket| session.run(socket))
    }

    /// Returns the names of the documents that have commits, for an index.
    pub fn listing(&self) -> Listing {
        self.store.listing(format!("{}/", self.collection))
    }

    /// Returns an endpoint for a path with one parameter, the document's name. It also lists the documents, and sends their
    /// changes as Server-Sent Events. Native sockets must come from the same origin, or from one that
    /// [`Site::allow_origin`](crate::Site::allow_origin) names.
    ///
    /// ```
    /// use manysocket_server::Site;
    /// use manysocket_server::state::{Documents, Store};
    ///
    /// # fn site() -> std::io::Result<()> {
    /// let store = Store::in_memory()?;
    /// let site: Site = Site::new().endpoint("/sheets/{name}", Documents::new(&store, "sheets").endpoint());
    /// # Ok(())
    /// # }
    /// ```
    pub fn endpoint<S: Clone + Send + Sync + 'static>(self) -> Endpoint<S> {
        let listing = self.listing();
        let reader = self.clone();
        let socket = async move |Path(name): Path<String>, uri: Uri, request: Request| {
            let (mut parts, _) = request.into_parts();
            match WebSocketUpgrade::checked(&mut parts).await {
                Ok(upgrade) => self.serve(&name, &uri, upgrade).await,
                Err(refusal) => refusal,
            }
        };
        let changes = async move |Path(name): Path<String>, LastEventId(last): LastEventId| {
            let peer = peer::number();
            match reader.open(&name, peer).await {
                Ok(document) => sse(follow(reader.store.clone(), document, last, peer)),
                Err(refusal) => refusal,
            }
        };
        Endpoint::new(any(socket))
            .title("A JSON document")
            .usage("Connect to get it and every change to it; send a commit to change it.")
            .listing(listing)
            .events(get(changes))
    }

    async fn open(&self, name: &str, peer: u64) -> Result<Arc<Document>, Response> {
        match self.find(name, self.must_exist(), peer).await {
            Ok(Some(document)) => Ok(document),
            Ok(None) => Err(as_declared((StatusCode::NOT_FOUND, "there is no such document\n"))),
            Err(error) if error.code() == "name" => {
                Err(as_declared((StatusCode::BAD_REQUEST, format!("{}\n", error.message()))))
            }
            Err(error) => Err(as_declared((StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")))),
        }
    }
}

/// Returns the messages for a reader that never commits. A position is the document's id and the version.
fn follow(
    store: Store,
    document: Arc<Document>,
    last: Option<String>,
    peer: u64,
) -> impl Stream<Item = SseMessage> + use<> {
    let changed = document.subscribe();
    let first = async move {
        let known = last.as_deref().and_then(|last| last.split_once(':'));
        let known = known.and_then(|(document, version)| Some((document, version.parse().ok()?)));
        let (version, greeting) = document.greeting(known, store.lane(), peer).await?;
        let id = document.state().incarnation.clone();
        let first = SseMessage::from(Message::Text(greeting)).id(format!("{id}:{version}"));
        Some((first, (store, document, changed, Outbox::new(version), id)))
    };
    stream::once(first).filter_map(async |first| first).flat_map(move |(first, follower)| {
        let rest =
            stream::unfold(follower, move |(store, document, mut changed, mut outbox, id)| async move {
                let mut messages = Vec::new();
                let mut add = |message, heard| {
                    messages.push(SseMessage::from(Message::Text(message)).id(format!("{id}:{heard}")));
                };
                // `document` keeps the sender alive, so this never fails.
                changed.changed().await.ok()?;
                if document.has_ended() {
                    return None;
                }
                loop {
                    let News { messages, needs_whole } = outbox.news(&document);
                    messages.into_iter().for_each(|message| add(message, outbox.heard()));
                    if !needs_whole {
                        break;
                    }
                    let (version, message) = document.whole(store.lane(), peer).await?;
                    outbox.has_whole(version);
                    add(message, version);
                }
                Some((stream::iter(messages), (store, document, changed, outbox, id)))
            });
        stream::iter([first]).chain(rest.flatten())
    })
}

/// Returns the document id and version that a returning page has: `?document=…&since=…`.
fn known(uri: &Uri) -> Option<(String, u64)> {
    let query = form_urlencoded::parse(uri.query()?.as_bytes());
    let (mut document, mut since) = (None, None);
    for (name, value) in query {
        match &*name {
            "document" => document = Some(value.into_owned()),
            "since" => since = value.parse().ok(),
            _ => {}
        }
    }
    Some((document?, since?))
}

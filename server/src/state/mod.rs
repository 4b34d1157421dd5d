//! JSON documents that pages share, each at a URL. A page that connects gets the document and then every change. A commit is
//! a delta against a version; the server applies it as a whole or not at all, and acknowledges it once it is on disk.
//! `docs/state-wire.md` describes the wire protocol.
//!
//! ```no_run
//! use manysocket_server::Site;
//! use manysocket_server::state::{Documents, Store};
//! use serde::Deserialize;
//! use serde_json::json;
//!
//! #[derive(Deserialize)]
//! struct Sheet {
//!     cells: std::collections::BTreeMap<String, f64>,
//! }
//!
//! # fn app() -> std::io::Result<axum::Router> {
//! let store = Store::open("documents.redb")?;
//! let sheets = Documents::new(&store, "sheets").initial(json!({ "cells": {} })).validate(|sheet: Sheet| {
//!     if sheet.cells.len() > 1000 { Err("a sheet has at most 1,000 cells") } else { Ok(()) }
//! });
//! let app = Site::new().endpoint("/sheets/{name}", sheets.endpoint()).into_router();
//! # Ok(app)
//! # }
//! ```

mod answer;
mod backend;
mod batch;
mod commit;
mod committed;
mod document;
mod equal;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod handle;
mod local;
mod log;
mod memory;
mod outbox;
#[cfg(feature = "nats")]
mod over_nats;
mod patch;
mod session;
mod store;
mod submission;
mod tree;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Message;
use axum::extract::{Path, Request};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::{any, get};
use futures_util::{Stream, StreamExt, stream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::error;

use crate::access::as_declared;
use crate::site::endpoint::Endpoint;
use crate::site::listing::Listing;
use crate::site::sse::{LastEventId, SseMessage, sse};
use crate::ws::peer;
use crate::ws::upgrade::WebSocketUpgrade;

use backend::{Opened, Wanted};
use commit::{Check, Rules, Step};
pub use committed::Committed;
use document::{Document, MAX_NAME};
pub use handle::{DocumentError, DocumentVersion};
pub use local::lines::{Damage, Report, StoreFile};
use outbox::{News, Outbox};
use session::{RateLimit, Session};
pub use store::Store;
use tree::Json;

/// The largest document by default, in bytes of JSON. Every page that opens it gets all of it; serialising this much takes
/// milliseconds.
const MAX_DOCUMENT: usize = 1 << 20;

/// The largest commit by default, in bytes as sent: deltas describe edits, so a quarter of the largest document is ample.
const MAX_COMMIT: usize = 256 << 10;

/// The most documents of a store by default. Each uses disk space, and every page that may commit may create one.
const MAX_DOCUMENTS: usize = 100_000;

/// Serves a collection of documents in a [`Store`], with limits and permissions. Clones may differ, for example for users
/// with read access only.
#[derive(Clone)]
pub struct Documents {
    store: Store,
    collection: String,
    initial: Arc<Json>,
    rules: Rules,
    max_commit: usize,
    may_create: bool,
    may_write: bool,
    /// All must let a page's commit pass.
    rate_limits: Vec<Arc<RateLimit>>,
    /// The server's own commits take turns with those of links, as one of them.
    peer: u64,
}

impl fmt::Debug for Documents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Documents").field("collection", &self.collection).finish_non_exhaustive()
    }
}

impl Documents {
    /// Creates a collection of documents in `store`. The name `collection` keeps them apart from other collections.
    pub fn new(store: &Store, collection: impl Into<String>) -> Self {
        Self {
            store: store.clone(),
            // In a key a slash ends the collection: names of other collections may contain slashes.
            collection: collection.into().replace('%', "%25").replace('/', "%2F"),
            initial: Arc::new(to_tree(json!({}))),
            rules: Rules {
                checks: Vec::new(),
                max_bytes: MAX_DOCUMENT,
                max_documents: MAX_DOCUMENTS,
                hooks: Vec::new(),
            },
            max_commit: MAX_COMMIT,
            may_create: true,
            may_write: true,
            rate_limits: Vec::new(),
            peer: peer::number(),
        }
    }

    /// Sets the value of a document before its first commit. Default: `{}`.
    #[must_use]
    pub fn initial(mut self, value: Value) -> Self {
        self.initial = Arc::new(to_tree(value));
        self
    }

    /// Refuses commits whose result is not a `T`, or for which `check` returns a reason. If this is called several times,
    /// all checks must pass. The check runs on the store's threads, and reads the document as JSON: a slow check, or a large
    /// document, delays others' commits.
    #[must_use]
    pub fn validate<T, E>(mut self, check: impl Fn(T) -> Result<(), E> + Send + Sync + 'static) -> Self
    where
        T: DeserializeOwned,
        E: fmt::Display,
    {
        let check: Arc<Check> = Arc::new(move |step: &Step<'_>| {
            let value = serde_json::from_str::<T>(step.after).map_err(|error| error.to_string())?;
            check(value).map_err(|reason| reason.to_string())
        });
        self.rules.checks.push(check);
        self
    }

    /// Refuses commits for which `check` returns a reason; it gets the document before the commit and after it. Before the first
    /// commit, that is the [initial](Self::initial) value. Otherwise as [`validate`](Self::validate): a document that is not a
    /// `T`, before or after, is a reason, too.
    ///
    /// A handler that knows its user adds the rules for that user to a clone:
    ///
    /// ```
    /// use axum::extract::Path;
    /// use axum::http::{HeaderMap, Uri};
    /// use axum::response::Response;
    /// use manysocket_server::WebSocketUpgrade;
    /// use manysocket_server::state::Documents;
    /// use serde_json::Value;
    ///
    /// async fn sheet(
    ///     sheets: Documents,
    ///     Path(name): Path<String>,
    ///     headers: HeaderMap,
    ///     uri: Uri,
    ///     upgrade: WebSocketUpgrade,
    /// ) -> Response {
    ///     let is_owner = headers.get("x-user").is_some_and(|user| user == "ada");
    ///     let sheets = sheets.validate_change(move |before: Value, after: Value| {
    ///         if is_owner || before["title"] == after["title"] { Ok(()) } else { Err("only ada changes the title") }
    ///     });
    ///     sheets.serve(&name, &uri, upgrade).await
    /// }
    /// ```
    #[must_use]
    pub fn validate_change<T, E>(
        mut self,
        check: impl Fn(T, T) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self
    where
        T: DeserializeOwned,
        E: fmt::Display,
    {
        let read = |text: &str| serde_json::from_str::<T>(text).map_err(|error| error.to_string());
        let check: Arc<Check> = Arc::new(move |step: &Step<'_>| {
            let before = read(&step.before.to_string())?;
            check(before, read(step.after)?).map_err(|reason| reason.to_string())
        });
        self.rules.checks.push(check);
        self
    }

    /// Calls `hook` for each commit through these documents that the store has written, in the order of the versions of a
    /// document. It is called once for each commit, in the process where its page is connected. It runs on the store's
    /// threads: a slow hook delays others' commits, so give long work to a task.
    ///
    /// ```
    /// use manysocket_server::state::{Documents, Store};
    ///
    /// # fn documents() -> std::io::Result<()> {
    /// let (sender, changes) = tokio::sync::mpsc::unbounded_channel();
    /// let sheets = Documents::new(&Store::in_memory()?, "sheets").on_commit(move |commit| {
    ///     // The receiver may be gone at the end of the program.
    ///     let _ = sender.send((commit.name().to_owned(), commit.version()));
    /// });
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_commit(mut self, hook: impl Fn(&Committed<'_>) + Send + Sync + 'static) -> Self {
        self.rules.hooks.push(Arc::new(hook));
        self
    }

    /// Sets the largest document, in bytes as JSON. Default: 1 MiB.
    #[must_use]
    pub fn max_document(mut self, bytes: usize) -> Self {
        self.rules.max_bytes = bytes;
        self
    }

    /// Sets the largest commit, in bytes. A larger one closes its socket. Default: 256 KiB.
    #[must_use]
    pub fn max_commit(mut self, bytes: usize) -> Self {
        self.max_commit = bytes;
        self
    }

    /// Sets how many documents the store may have, over all collections, before it refuses commits that would create
    /// another. Default: 100,000.
    #[must_use]
    pub fn max_documents(mut self, count: usize) -> Self {
        self.rules.max_documents = count;
        self
    }

    /// Serves only documents that exist, and creates none.
    #[must_use]
    pub fn existing_only(mut self) -> Self {
        self.may_create = false;
        self
    }

    /// Refuses all commits.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.may_write = false;
        self
    }

    /// Refuses commits of pages for which `limit` returns the time after which to commit again: they get the error `limited` with
    /// that time. The server calls `limit` before each commit, while it serves the socket, so `limit` should be quick. If this is
    /// called several times, all limits hold. [`commit`](Self::commit) of the server's own code has none.
    ///
    /// A handler that knows its user limits that user's commits in a clone:
    ///
    /// ```
    /// use std::num::NonZeroU32;
    /// use std::sync::Arc;
    /// use axum::extract::Path;
    /// use axum::http::{HeaderMap, Uri};
    /// use axum::response::Response;
    /// use governor::clock::{Clock, DefaultClock};
    /// use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
    /// use manysocket_server::WebSocketUpgrade;
    /// use manysocket_server::state::Documents;
    ///
    /// type Commits = Arc<DefaultKeyedRateLimiter<String>>;
    ///
    /// fn ten_a_second() -> Commits {
    ///     Arc::new(RateLimiter::keyed(Quota::per_second(NonZeroU32::new(10).unwrap())))
    /// }
    ///
    /// async fn sheet(
    ///     (sheets, commits): (Documents, Commits),
    ///     Path(name): Path<String>,
    ///     headers: HeaderMap,
    ///     uri: Uri,
    ///     upgrade: WebSocketUpgrade,
    /// ) -> Response {
    ///     let user = headers.get("x-user").and_then(|user| user.to_str().ok()).unwrap_or_default().to_owned();
    ///     let sheets = sheets.rate_limit(move || {
    ///         commits.check_key(&user).map_err(|refused| refused.wait_time_from(DefaultClock::default().now()))
    ///     });
    ///     sheets.serve(&name, &uri, upgrade).await
    /// }
    /// ```
    #[must_use]
    pub fn rate_limit(mut self, limit: impl Fn() -> Result<(), Duration> + Send + Sync + 'static) -> Self {
        self.rate_limits.push(Arc::new(limit));
        self
    }

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

    /// Returns the present version of a document; `None` if nobody has committed to it.
    ///
    /// ```
    /// use manysocket_server::state::{DocumentError, Documents};
    /// use serde_json::{Value, json};
    ///
    /// async fn rename(sheets: &Documents, sheet: &str, title: &str) -> Result<u64, DocumentError> {
    ///     let base = sheets.get(sheet).await?.map_or(0, |sheet| sheet.version());
    ///     let delta = json!([{ "op": "add", "path": "/title", "value": title }]);
    ///     sheets.commit(sheet, base, &delta).await
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns an error with the code `name` if no document can have the name, and `storage` if the store cannot read it.
    pub async fn get(&self, name: &str) -> Result<Option<DocumentVersion>, DocumentError> {
        let document = self.find(name, true, self.peer).await?;
        Ok(document.map(|document| DocumentVersion::of(&document)))
    }

    /// Commits a JSON Patch (RFC 6902) against the version `base`, as a page does: with the same rules, limits, hooks and
    /// conflicts. Returns the version that it makes, once the store has written it. A commit creates a document that does
    /// not exist; its base is 0.
    ///
    /// # Errors
    /// Returns an error with one of the codes that pages get, or with `missing` if these documents create none. The commit
    /// has then not been applied. After `storage` that may not be known.
    pub async fn commit(&self, name: &str, base: u64, delta: &impl Serialize) -> Result<u64, DocumentError> {
        if !self.may_write {
            return Err(DocumentError::new("read-only", "these documents may only be read"));
        }
        let delta = serde_json::to_string(delta);
        let delta = delta.map_err(|error| DocumentError::new("invalid", error.to_string()))?;
        if delta.len() > self.max_commit {
            let message = format!("the commit has {} bytes, and may have {}", delta.len(), self.max_commit);
            return Err(DocumentError::new("too-large", message));
        }
        let document = self.find(name, !self.may_create, self.peer).await?.ok_or_else(missing)?;
        handle::commit(&self.store, document, self.rules.clone(), self.peer, base, delta).await
    }

    /// Deletes a document with its commits, in all processes that share it. Returns once the store has written that. Its sockets
    /// are closed with 1012 and streams of its versions end. A later open of the name finds a new document with another
    /// [id](DocumentVersion::id), so nothing that a page remembers of the deleted one applies to it. Commits that were on their
    /// way are refused, or are part of the deleted document.
    ///
    /// ```
    /// use manysocket_server::state::{DocumentError, Documents};
    ///
    /// async fn forget(sheets: &Documents, sheet: &str) -> Result<(), DocumentError> {
    ///     match sheets.delete(sheet).await {
    ///         Err(error) if error.code() == "missing" => Ok(()),
    ///         deleted => deleted,
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns an error with the code `missing` if nobody has committed to the document, `read-only` for
    /// [`read_only`](Self::read_only) documents, `name` if no document can have the name, and `storage` if the store cannot
    /// delete it. After `storage` it may be deleted all the same.
    pub async fn delete(&self, name: &str) -> Result<(), DocumentError> {
        if !self.may_write {
            return Err(DocumentError::new("read-only", "these documents may only be read"));
        }
        let key = self.key(name)?;
        let deleted = self.store.delete(key.clone(), self.peer).await;
        match deleted {
            Ok(true) => Ok(()),
            Ok(false) => Err(missing()),
            Err(error) => {
                error!(%error, key, "a document cannot be deleted");
                Err(DocumentError::new("storage", format!("the server cannot delete it: {error}")))
            }
        }
    }

    /// Returns a stream of a document's versions: the present one, which may have no commits, and then each later one. A
    /// stream that is polled slowly leaves versions out, and gets the newest. It ends when the document is replaced.
    ///
    /// ```
    /// use futures_util::StreamExt;
    /// use manysocket_server::state::{DocumentError, Documents};
    /// use serde_json::Value;
    ///
    /// async fn print(sheets: &Documents) -> Result<(), DocumentError> {
    ///     let mut versions = std::pin::pin!(sheets.watch("budget").await?);
    ///     while let Some(sheet) = versions.next().await {
    ///         println!("{}: {:?}", sheet.version(), sheet.data::<Value>());
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns an error as [`get`](Self::get) does, and with `missing` if the document does not exist and these documents
    /// create none.
    pub async fn watch(
        &self,
        name: &str,
    ) -> Result<impl Stream<Item = DocumentVersion> + Send + use<>, DocumentError> {
        let document = self.find(name, self.must_exist(), self.peer).await?.ok_or_else(missing)?;
        Ok(handle::versions(document))
    }

    /// Returns the names of up to `count` documents that have commits, in the order of their bytes, after the name `after`:
    /// the empty one at first, and then the last name of the page before.
    ///
    /// ```
    /// use manysocket_server::state::{DocumentError, Documents};
    ///
    /// async fn all(sheets: &Documents) -> Result<Vec<String>, DocumentError> {
    ///     let mut names = Vec::new();
    ///     loop {
    ///         let page = sheets.list(names.last().map_or("", String::as_str), 100).await?;
    ///         if page.is_empty() {
    ///             return Ok(names);
    ///         }
    ///         names.extend(page);
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns an error with the code `storage` if the store cannot read the names.
    pub async fn list(&self, after: &str, count: usize) -> Result<Vec<String>, DocumentError> {
        let names = self.store.names(format!("{}/", self.collection), after, count, self.peer).await;
        names.map_err(|error| {
            error!(%error, collection = self.collection, "cannot read the names of the documents");
            DocumentError::new("storage", "the names cannot be read; the server's log says why")
        })
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

    fn must_exist(&self) -> bool {
        !(self.may_create && self.may_write)
    }

    fn key(&self, name: &str) -> Result<String, DocumentError> {
        if name.is_empty() || name.len() > MAX_NAME {
            let reason = format!("a document's name has 1 to {MAX_NAME} bytes");
            return Err(DocumentError::new("name", reason));
        }
        Ok(format!("{}/{name}", self.collection))
    }

    async fn find(&self, name: &str, must_exist: bool, peer: u64) -> Result<Opened, DocumentError> {
        let key = self.key(name)?;
        let wanted = Wanted { key, initial: Arc::clone(&self.initial), must_exist, peer };
        self.store.document(wanted).await.map_err(|error| {
            error!(%error, collection = self.collection, name, "cannot read a document");
            DocumentError::new("storage", "the document cannot be read; the server's log says why")
        })
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

fn missing() -> DocumentError {
    DocumentError::new("missing", "there is no such document")
}

/// Converts a value to a document's tree.
fn to_tree(value: Value) -> Json {
    // Every JSON value converts, so this never fails.
    Json::deserialize(value).unwrap_or(Json::Null)
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

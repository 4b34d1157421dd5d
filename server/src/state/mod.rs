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
mod application;
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
mod serving;
mod session;
mod store;
mod submission;
mod tree;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::error;

use crate::ws::peer;

use backend::{Opened, Wanted};
use commit::{Check, Rules, Step};
pub use committed::Committed;
use document::MAX_NAME;
pub use handle::{DocumentError, DocumentVersion};
pub use local::lines::{Damage, Report, StoreFile};
use session::RateLimit;
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
}

/// Converts a value to a document's tree.
fn to_tree(value: Value) -> Json {
    // Every JSON value converts, so this never fails.
    Json::deserialize(value).unwrap_or(Json::Null)
}

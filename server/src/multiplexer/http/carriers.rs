//! The HTTP carriers of a multiplexer, and what ends them.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode};
use futures_util::{StreamExt, stream};
use manysocket_protocol::Token;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::carrier::Carrier;
use super::command::write_id;
use crate::ws::linger::LINGER;

/// How long the server accepts what a client sends that no longer reads the answer of a stream. A browser drops the answers of a
/// page that goes away, and still sends its last request, which has its Close.
const LEAVING: Duration = Duration::from_secs(2);

/// The bytes of a stream that hyper gets at once: it holds them until the client takes them.
const CHUNK: usize = 32 * 1024;

/// The carriers by their ids. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Carriers(Arc<Registry>);

/// The keys are hashes under a secret key, as those of links that can be resumed are.
#[derive(Debug, Default)]
struct Registry {
    hasher: RandomState,
    carriers: Mutex<HashMap<u64, Arc<Carrier>>>,
}

impl Carriers {
    /// Returns the number of carriers.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn add(&self, carrier: &Arc<Carrier>) {
        self.lock().insert(self.key(carrier.id()), Arc::clone(carrier));
    }

    /// Returns the carrier with an id.
    ///
    /// # Errors
    /// Returns the status of the answer if there is none, or another origin has opened it.
    pub(super) fn find(&self, id: &Token, origin: Option<&HeaderValue>) -> Result<Arc<Carrier>, StatusCode> {
        let found = self.lock().get(&self.key(id)).cloned();
        let carrier = found.filter(|carrier| carrier.id() == id).ok_or(StatusCode::GONE)?;
        if carrier.origin() == origin { Ok(carrier) } else { Err(StatusCode::FORBIDDEN) }
    }

    /// Ends a carrier: its link has lost it, and the requests of it that are under way end.
    pub(super) fn end(&self, carrier: &Carrier) {
        self.lock().remove(&self.key(carrier.id()));
        carrier.end();
    }

    /// Returns the answer that streams a carrier: its id, and the server's bytes until the link has left.
    pub(super) fn stream(&self, carrier: Arc<Carrier>, left: CancellationToken) -> Body {
        let unread = CancellationToken::new();
        let reading = unread.clone().drop_guard();
        let id = Bytes::from(write_id(carrier.id()));
        tokio::spawn(self.clone().watch_stream(Arc::clone(&carrier), left, unread));
        let rest = stream::poll_fn(move |cx| {
            let _ = &reading;
            carrier.poll_take(cx, CHUNK).map(|bytes| (!bytes.is_empty()).then_some(bytes))
        });
        let all = stream::iter([id]).chain(rest);
        Body::from_stream(all.map(Ok::<_, Infallible>))
    }

    /// Ends a carrier once its link has left or its client no longer reads the stream.
    async fn watch_stream(self, carrier: Arc<Carrier>, left: CancellationToken, unread: CancellationToken) {
        // Then the other, or not in time.
        let _ = tokio::select! {
            () = left.cancelled() => timeout(LINGER, unread.cancelled()).await,
            () = unread.cancelled() => timeout(LEAVING, left.cancelled()).await,
        };
        self.end(&carrier);
    }

    /// Returns the answer that opens a carrier by polls: its id.
    pub(super) fn poll(&self, carrier: Arc<Carrier>) -> Body {
        let id = write_id(carrier.id());
        let carriers = self.clone();
        tokio::spawn(async move {
            carrier.abandoned().await;
            carriers.end(&carrier);
        });
        Body::from(id)
    }

    fn key(&self, id: &Token) -> u64 {
        self.0.hasher.hash_one(id.bytes())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Carrier>>> {
        self.0.carriers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

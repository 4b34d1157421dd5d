//! The HTTP carriers of a multiplexer, and the reasons for which they end.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::future::pending;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode};
use futures_util::{StreamExt, stream};
use manysocket_protocol::Token;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::carrier::Carrier;
use super::command::write_id;
use crate::ws::linger::LINGER;

/// How long the server accepts bytes from a client that no longer reads the answer of a stream. A browser drops the answers of a
/// page that goes away, and still sends its last request, which has its Close.
const LEAVING: Duration = Duration::from_secs(3);

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

/// The end of a carrier's link.
pub(super) struct Ends {
    /// Cancelled once the link has left the tunnel.
    pub(super) left: CancellationToken,
    /// The server waits for it when it shuts down: until the client has had the last bytes.
    pub(super) awaited: Option<TaskTrackerToken>,
}

impl Carriers {
    /// Returns the number of carriers.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Adds a carrier. Returns the body of the answer that opens it: its id, and of a stream the server's bytes until the link has
    /// left.
    pub(super) fn open(&self, carrier: Arc<Carrier>, ends: Ends) -> Body {
        self.lock().insert(self.key(carrier.id()), Arc::clone(&carrier));
        let id = Bytes::from(write_id(carrier.id()));
        if carrier.is_poll() {
            tokio::spawn(self.clone().watch_poll(carrier, ends));
            return Body::from(id);
        }
        let unread = CancellationToken::new();
        let reading = unread.clone().drop_guard();
        tokio::spawn(self.clone().watch_stream(Arc::clone(&carrier), ends, unread));
        let carriers = self.clone();
        let rest = stream::poll_fn(move |cx| {
            let _ = &reading;
            let bytes = ready!(carrier.poll_take(cx, CHUNK));
            if bytes.is_empty() {
                carriers.end(&carrier);
                return Poll::Ready(None);
            }
            Poll::Ready(Some(bytes))
        });
        let all = stream::iter([id]).chain(rest);
        Body::from_stream(all.map(Ok::<_, Infallible>))
    }

    /// Passes a request's body to its carrier.
    ///
    /// # Errors
    /// Returns the status of a refusal.
    pub(super) async fn send(
        &self,
        id: &Token,
        origin: Option<&HeaderValue>,
        offset: u64,
        body: Body,
    ) -> Result<(), StatusCode> {
        let carrier = self.find(id, origin)?;
        let sent = carrier.send(offset, body).await;
        self.settle(&carrier, sent)
    }

    /// Returns the bytes that a carrier has for its client.
    ///
    /// # Errors
    /// Returns the status of a refusal.
    pub(super) async fn receive(
        &self,
        id: &Token,
        origin: Option<&HeaderValue>,
        offset: u64,
    ) -> Result<Bytes, StatusCode> {
        let carrier = self.find(id, origin)?;
        let received = carrier.receive(offset).await;
        self.settle(&carrier, received)
    }

    /// Returns the carrier with an id.
    fn find(&self, id: &Token, origin: Option<&HeaderValue>) -> Result<Arc<Carrier>, StatusCode> {
        let found = self.lock().get(&self.key(id)).cloned();
        let carrier = found.filter(|carrier| carrier.id() == id).ok_or(StatusCode::GONE)?;
        if carrier.origin() == origin { Ok(carrier) } else { Err(StatusCode::FORBIDDEN) }
    }

    /// Ends a carrier that cannot be used any more.
    fn settle<T>(&self, carrier: &Carrier, done: Result<T, StatusCode>) -> Result<T, StatusCode> {
        if let Err(StatusCode::GONE | StatusCode::REQUEST_TIMEOUT) = done {
            self.end(carrier);
        }
        done
    }

    /// Ends a carrier: its link has lost it, and the requests of it that are under way end.
    fn end(&self, carrier: &Carrier) {
        self.lock().remove(&self.key(carrier.id()));
        carrier.end();
    }

    /// Ends a stream once its link has left or its client no longer reads.
    async fn watch_stream(self, carrier: Arc<Carrier>, ends: Ends, unread: CancellationToken) {
        // Then the other, or not in time.
        let _ = tokio::select! {
            () = ends.left.cancelled() => timeout(LINGER, unread.cancelled()).await,
            () = unread.cancelled() => timeout(LEAVING, ends.left.cancelled()).await,
        };
        self.end(&carrier);
    }

    /// Ends polls once no client asks.
    async fn watch_poll(self, carrier: Arc<Carrier>, ends: Ends) {
        let leaving = async {
            ends.left.cancelled().await;
            // The client asks for the rest.
            tokio::time::sleep(LINGER).await;
            drop(ends.awaited);
            pending::<()>().await;
        };
        tokio::select! {
            () = carrier.abandoned() => {}
            () = leaving => {}
        }
        self.end(&carrier);
    }

    fn key(&self, id: &Token) -> u64 {
        self.0.hasher.hash_one(id.bytes())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Carrier>>> {
        self.0.carriers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

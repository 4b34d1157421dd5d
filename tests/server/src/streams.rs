//! Functions that return streams, and the ends of these streams, below `/test/streams`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use futures_util::{Stream, StreamExt, stream};
use manysocket_server::rpc::{Error, Streamed, rpc};
use serde::Serialize;
use tokio::sync::watch;

/// A stream, as the page sees it.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Fate {
    made: u64,
    is_dropped: bool,
}

/// The streams by name. A change wakes the functions that wait for it.
#[derive(Debug, Clone)]
struct Fates(Arc<Mutex<BTreeMap<String, Fate>>>, watch::Sender<()>);

impl Fates {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Fate>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Fate)) {
        change(self.lock().entry(name.to_owned()).or_default());
        self.1.send_replace(());
    }

    /// Waits until a stream is dropped.
    async fn dropped(&self, name: &str) -> Fate {
        let mut changes = self.1.subscribe();
        loop {
            let fate = self.lock().get(name).copied().unwrap_or_default();
            if fate.is_dropped || changes.changed().await.is_err() {
                return fate;
            }
        }
    }
}

/// Marks a stream as dropped.
struct Guard(Fates, String);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.change(&self.1, |fate| fate.is_dropped = true);
    }
}

/// Returns the routes.
pub(crate) fn routes() -> Router {
    let fates = Fates(Arc::default(), watch::Sender::new(()));
    let (counting, failing, waiting, seeing, dropping) =
        (fates.clone(), fates.clone(), fates.clone(), fates.clone(), fates);
    Router::new()
        .route_service(
            "/test/streams/count",
            rpc(move |name: String, to: u64| {
                let stream = count(&counting, name, to);
                async move { Streamed(stream) }
            }),
        )
        .route_service(
            "/test/streams/fail",
            rpc(move |name: String, to: u64, at_once: bool| {
                let items = count(&failing, name, to).map(Ok);
                let error = Error::new("tired", "that was enough").with_data(to);
                async move {
                    if at_once {
                        return Err(error);
                    }
                    Ok(Streamed(items.chain(stream::iter([Err(error)]))))
                }
            }),
        )
        .route_service(
            "/test/streams/wait",
            rpc(move |name: String| {
                let stream = count(&waiting, name, 1).chain(stream::pending());
                async move { Streamed(stream) }
            }),
        )
        .route_service(
            "/test/streams/made",
            rpc(move |name: String| {
                let fate = seeing.lock().get(&name).copied().unwrap_or_default();
                async move { fate }
            }),
        )
        .route_service(
            "/test/streams/dropped",
            rpc(move |name: String| {
                let fates = dropping.clone();
                async move { fates.dropped(&name).await }
            }),
        )
}

/// Returns the numbers below `to`.
fn count(fates: &Fates, name: String, to: u64) -> impl Stream<Item = u64> + Send + use<> {
    let guard = Guard(fates.clone(), name);
    stream::iter(0..to).inspect(move |_| guard.0.change(&guard.1, |fate| fate.made += 1))
}

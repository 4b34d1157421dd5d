//! The demo endpoints of the binary.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::extract::ws::Message;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use manysocket_server::{Stats, WebSocketUpgrade};

/// What `/demo/stats` tells.
#[derive(Clone)]
struct Counts {
    multiplexer: Stats,
    native: Arc<AtomicUsize>,
}

/// The endpoints under `/demo/`, and the chats of the game rooms.
pub(crate) fn router(multiplexer: Stats) -> Router {
    Router::new()
        .route("/demo/echo", any(echo))
        .route("/games/{room}/chat", any(echo))
        .route("/demo/stats", get(stats))
        .with_state(Counts { multiplexer, native: Arc::default() })
}

/// Sends text and binary back as they came.
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

/// Counts of what is open now.
async fn stats(State(counts): State<Counts>) -> impl IntoResponse {
    let (physical, virtual_) = (counts.multiplexer.links(), counts.multiplexer.channels());
    let native = counts.native.load(Ordering::Relaxed);
    let json = format!(r#"{{"physical":{physical},"native":{native},"virtual":{virtual_}}}"#);
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], json)
}

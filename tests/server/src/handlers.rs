//! Handlers that use more of a WebSocket than an echo does, below `/report` and `/test`: pings, failures, large messages, the request's content.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::Query;
use axum::extract::ws::{Message, WebSocketUpgrade as AxumUpgrade};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Error, Router};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use manysocket_server::WebSocketUpgrade;
use manysocket_server::topic::{TopicPolicy, Topics};
use serde::Deserialize;

/// The largest message of `/report/large`: above all defaults.
const LARGE: usize = 200 << 20;

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/report/heartbeat", any(heartbeat))
        .route("/report/heartbeat-axum", any(heartbeat_axum))
        .route("/report/pong", any(pong))
        .route("/test/fail", any(fail))
        .route("/report/push-axum", any(push_axum))
        .route("/report/large", any(large))
        .route("/report/large-axum", any(large_axum))
        .route("/report/stamp", any(stamp))
        .route("/report/headers", any(headers))
        .route("/report/set-cookie", any(set_cookie))
        .route_service("/report/members/{room}", Topics::with_policy(Members))
}

/// Parameters of the query.
#[derive(Deserialize)]
#[serde(default)]
struct Wish {
    milliseconds: u64,
    size: usize,
}

impl Default for Wish {
    fn default() -> Self {
        Self { milliseconds: 1000, size: 0 }
    }
}

/// Sets the cookies that the query names with `set`. With a `status`, it refuses the socket; otherwise it sends the text
/// `after` and echoes.
async fn set_cookie(Query(wish): Query<Vec<(String, String)>>, upgrade: WebSocketUpgrade) -> Response {
    let values = |wanted: &'static str| {
        wish.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value.clone())
    };
    let refusal = values("status").next().and_then(|status| status.parse().ok());
    let mut response = match refusal {
        Some(status) => StatusCode::from_u16(status).unwrap_or_default().into_response(),
        None => upgrade.on_upgrade(async |mut socket| {
            let _ = socket.send(Message::Text("after".into())).await;
            while let Some(Ok(message)) = socket.recv().await {
                let _ = socket.send(message).await;
            }
        }),
    };
    for cookie in values("set").filter_map(|cookie| cookie.parse().ok()) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Pings at an interval, and ends if the last ping has no pong yet. Echoes texts.
async fn beat<S>(mut socket: S, interval: Duration)
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message> + Unpin,
{
    let mut timer = tokio::time::interval(interval);
    let mut answered = true;
    loop {
        tokio::select! {
            _ = timer.tick() => {
                let ping = Message::Ping("beat".into());
                if !std::mem::take(&mut answered) || socket.send(ping).await.is_err() {
                    return;
                }
            }
            next = socket.next() => match next {
                Some(Ok(Message::Pong(payload))) => answered |= payload == "beat",
                Some(Ok(text @ Message::Text(_))) => drop(socket.send(text).await),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            }
        }
    }
}

async fn heartbeat(Query(wish): Query<Wish>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |socket| beat(socket, Duration::from_millis(wish.milliseconds)).await)
}

async fn heartbeat_axum(Query(wish): Query<Wish>, upgrade: AxumUpgrade) -> Response {
    upgrade.on_upgrade(async move |socket| beat(socket, Duration::from_millis(wish.milliseconds)).await)
}

/// Sends one ping, and reports each pong.
async fn pong(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        if socket.send(Message::Ping("payload".into())).await.is_err() {
            return;
        }
        while let Some(Ok(message)) = socket.recv().await {
            if let Message::Pong(payload) = message {
                let text = format!("pong {}", String::from_utf8_lossy(&payload));
                let _ = socket.send(Message::Text(text.into())).await;
            }
        }
    })
}

/// Fails at the first message, after an answer.
async fn fail(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        let _ = socket.recv().await;
        let _ = socket.send(Message::Text("last".into())).await;
        socket.fail();
    })
}

/// Sends one binary message of `size` bytes.
async fn push_axum(Query(wish): Query<Wish>, upgrade: AxumUpgrade) -> Response {
    upgrade.on_upgrade(async move |mut socket| {
        let _ = socket.send(Message::Binary(vec![7; wish.size].into())).await;
        while let Some(Ok(_)) = socket.recv().await {}
    })
}

/// Answers each message with its length in bytes.
async fn measure<S>(mut socket: S)
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message> + Unpin,
{
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Text(_) | Message::Binary(_) = message {
            let length = message.into_data().len().to_string();
            let _ = socket.send(Message::Text(length.into())).await;
        }
    }
}

async fn large(upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_size(LARGE).max_frame_size(LARGE).on_upgrade(measure)
}

async fn large_axum(upgrade: AxumUpgrade) -> Response {
    upgrade.max_message_size(LARGE).max_frame_size(LARGE).on_upgrade(measure)
}

/// Answers each text with `TEXT|MILLISECONDS SINCE 1970`.
async fn stamp(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            if let Message::Text(text) = message {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
                let _ = socket.send(Message::Text(format!("{text}|{now}").into())).await;
            }
        }
    })
}

/// Sends all headers of the request once, as JSON pairs.
async fn headers(headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let pairs: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let text = serde_json::to_string(&pairs).unwrap_or_default();
    upgrade.on_upgrade(async move |mut socket| {
        let _ = socket.send(Message::Text(text.into())).await;
        while let Some(Ok(_)) = socket.recv().await {}
    })
}

/// Subscribers whose names a proxy states.
struct Members;

impl TopicPolicy for Members {
    type Subscriber = String;

    async fn accept(&self, _: &str, request: &Parts) -> Result<String, Response> {
        let name = request.headers.get("x-user").and_then(|name| name.to_str().ok());
        name.map(str::to_owned).ok_or_else(|| StatusCode::FORBIDDEN.into_response())
    }
}

//! Sends an endpoint's messages as Server-Sent Events (WHATWG HTML §9.2).

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt::Display;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::Message;
use axum::http::request::Parts;
use axum::http::{HeaderName, header};
use axum::response::Response;
use bytes::Bytes;
use data_encoding::BASE64;
use futures_util::future::ready;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::timeout;

use crate::access::as_declared;

/// The longest silence of a stream before it sends a comment: proxies close connections that are silent for about 30
/// seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The bytes of an event besides its text, in most cases; used to reserve space.
const FIELDS: usize = 32;

/// A message for [`sse`](sse()), with an event id if the endpoint has positions.
#[derive(Debug, Clone)]
pub struct SseMessage {
    message: Message,
    id: Option<String>,
}

impl SseMessage {
    /// Sets the event id: the position after this message. A client that reconnects sends it back as [`LastEventId`].
    #[must_use]
    pub fn id(mut self, id: impl Display) -> Self {
        // Remove the characters that end the line, and NUL, with which clients ignore the id.
        self.id = Some(id.to_string().replace(['\r', '\n', '\0'], ""));
        self
    }
}

impl From<Message> for SseMessage {
    fn from(message: Message) -> Self {
        Self { message, id: None }
    }
}

/// Returns a response that sends messages as Server-Sent Events until the stream ends. It sends text as it is, except
/// that line ends arrive as `\n`, and binary as base64 in events named `binary`. After 15 seconds of silence it sends
/// a comment, so that proxies keep the connection. It skips pings, pongs, closes, and empty messages, which have no
/// form as an event.
///
/// ```
/// use axum::{extract::ws::Message, response::Response, routing::{any, get}};
/// use futures_util::stream;
/// use manysocket_server::{Endpoint, LastEventId, SseMessage, WebSocketUpgrade, sse};
///
/// async fn count(upgrade: WebSocketUpgrade) -> Response {
///     upgrade.on_upgrade(async |mut socket| {
///         for n in 1..=3 {
///             let _ = socket.send(Message::Text(n.to_string().into())).await;
///         }
///     })
/// }
///
/// async fn count_events(LastEventId(last): LastEventId) -> Response {
///     let seen: u32 = last.and_then(|last| last.parse().ok()).unwrap_or(0);
///     sse(stream::iter((seen + 1)..=3).map(|n| SseMessage::from(Message::Text(n.to_string().into())).id(n)))
/// }
/// # use futures_util::StreamExt;
///
/// let endpoint: Endpoint = Endpoint::new(any(count)).title("Counts to three").events(get(count_events));
/// ```
pub fn sse<M>(messages: impl Stream<Item = M> + Send + 'static) -> Response
where
    M: Into<SseMessage> + Send,
{
    event_stream(messages.filter_map(|message| {
        let SseMessage { message, id } = message.into();
        ready(encode(&message, id.as_deref()))
    }))
}

/// Returns a response that sends encoded events, and a comment after each [`KEEP_ALIVE`] of silence.
pub(crate) fn event_stream(events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let chunks = stream::unfold(Box::pin(events), async |mut events| {
        let chunk = match timeout(KEEP_ALIVE, events.next()).await {
            Ok(event) => event?,
            Err(_) => Bytes::from_static(b":\n\n"),
        };
        Some((Ok::<_, Infallible>(chunk), events))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        // nginx buffers responses without this header.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    as_declared((headers, Body::from_stream(chunks)))
}

/// Encodes a message as an event; `None` if it has no form as an event.
pub(crate) fn encode(message: &Message, id: Option<&str>) -> Option<Bytes> {
    let mut event = String::new();
    match message {
        Message::Text(text) => {
            event.reserve(text.len() + FIELDS);
            // Clients read `\r`, `\n` and `\r\n` each as one line end, so `\r` must not reach the data.
            let text = match text.contains('\r') {
                true => Cow::from(text.replace("\r\n", "\n").replace('\r', "\n")),
                false => Cow::from(text.as_str()),
            };
            if !text.is_empty() {
                text.split('\n').for_each(|line| event.extend(["data: ", line, "\n"]));
            }
        }
        Message::Binary(bytes) if bytes.is_empty() => {}
        Message::Binary(bytes) => {
            event.extend(["event: binary\ndata: ", &BASE64.encode(bytes), "\n"]);
        }
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => return None,
    }
    if let Some(id) = id {
        event.extend(["id: ", id, "\n"]);
    }
    if event.is_empty() {
        return None;
    }
    event.push('\n');
    Some(event.into())
}

/// Extracts the `Last-Event-ID` header: the position after which a reconnecting `EventSource` wants to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastEventId(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let id =
            parts.headers.get("last-event-id").map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
        Ok(Self(id))
    }
}

//! What an endpoint sends, as Server-Sent Events (WHATWG HTML §9.2).

use std::convert::Infallible;
use std::fmt::Display;

use axum::extract::FromRequestParts;
use axum::extract::ws::Message;
use axum::http::request::Parts;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::ready;
use futures_util::{Stream, StreamExt};

/// A message for [`events`], with its position where the endpoint has positions.
#[derive(Debug, Clone)]
pub struct Outgoing {
    message: Message,
    id: Option<String>,
}

impl Outgoing {
    /// Names the position after this message: who reconnects gives it back as [`LastEventId`].
    #[must_use]
    pub fn id(mut self, id: impl Display) -> Self {
        // What would end the line, and what the standard has clients ignore.
        self.id = Some(id.to_string().replace(['\r', '\n', '\0'], ""));
        self
    }
}

impl From<Message> for Outgoing {
    fn from(message: Message) -> Self {
        Self { message, id: None }
    }
}

/// A response that gives messages as Server-Sent Events, until the stream ends: text as it is, except that line
/// ends arrive as `\n`; binary as base64 in events named `binary`; between them a comment every 15 seconds, so that proxies keep
/// the connection. Pings, pongs, closes, and texts without a character, which axum's events cannot hold, are left out.
///
/// ```
/// use axum::{extract::ws::Message, response::Response, routing::{any, get}};
/// use futures_util::stream;
/// use manysocket_server::{Endpoint, LastEventId, Outgoing, WebSocketUpgrade, events};
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
///     events(stream::iter((seen + 1)..=3).map(|n| Outgoing::from(Message::Text(n.to_string().into())).id(n)))
/// }
/// # use futures_util::StreamExt;
///
/// let endpoint: Endpoint = Endpoint::new(any(count)).title("Counts to three").events(get(count_events));
/// ```
pub fn events<M>(messages: impl Stream<Item = M> + Send + 'static) -> Response
where
    M: Into<Outgoing> + Send,
{
    let events = messages.filter_map(|message| ready(event(message.into()).map(Ok::<_, Infallible>)));
    // For nginx, which would hold events back.
    let unbuffered = [("x-accel-buffering", "no")];
    (unbuffered, Sse::new(events).keep_alive(KeepAlive::default())).into_response()
}

fn event(Outgoing { message, id }: Outgoing) -> Option<Event> {
    let event = match message {
        // A lone carriage return or a pair would be taken for two line ends, or one, by turns.
        Message::Text(text) if text.contains('\r') => {
            Event::default().data(text.replace("\r\n", "\n").replace('\r', "\n"))
        }
        Message::Text(text) => Event::default().data(text.as_str()),
        Message::Binary(bytes) => Event::default().event("binary").data(STANDARD.encode(bytes)),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => return None,
    };
    Some(match id {
        Some(id) => event.id(id),
        None => event,
    })
}

/// Extractor: the position after which an `EventSource` that reconnects wants to go on.
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

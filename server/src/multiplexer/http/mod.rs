//! Answers the requests of HTTP carriers (docs/protocol.md §3.3).

mod answers;
mod carrier;
mod carriers;
mod command;

use std::future::ready;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::carrier::Carrier;
pub(super) use self::carriers::Carriers;
use self::carriers::Ends;
use self::command::{Command, Kind, NAME};
use super::refusal::Refusal;
use super::{Shared, unclaimed};
use crate::access::forwarded::Forwarded;
use crate::access::plain;
use crate::access::reader::allow_origin;
use crate::link::resumptions::new_token;
use crate::net::serve::Serving;
use crate::ws::connection::{Connection, Tunnel};
use crate::ws::duplex::Duplex;

/// How long a browser may keep the answer to a preflight. Chromium keeps none longer than two hours.
const PREFLIGHT: &str = "7200";

/// Returns whether a request is one of an HTTP carrier, which no form of another site can send.
pub(super) fn is_of_carrier(headers: &HeaderMap) -> bool {
    headers.contains_key(NAME)
}

/// Returns whether a browser asks for permission to send a request (Fetch, "CORS-preflight request").
pub(super) fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl Shared {
    /// Allows pages of the allowed origins to send the requests of carriers.
    pub(super) fn answer_preflight(&self, parts: &Parts) -> Response {
        if let Err(why) = self.check_origin(parts) {
            return plain(StatusCode::FORBIDDEN, &why);
        }
        let permissions = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, NAME),
            (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT),
        ];
        let response = (StatusCode::NO_CONTENT, permissions).into_response();
        allow_origin(response, parts.headers.get(header::ORIGIN))
    }

    /// Answers a request that opens a carrier, sends over it, or receives from it.
    pub(super) async fn answer_carrier(self: Arc<Self>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let origin = parts.headers.get(header::ORIGIN).cloned();
        let command = Command::read(&parts.headers);
        if let Err(why) = self.check_origin(&parts) {
            return unstored(match command {
                Ok(Command::Open(_)) => self.refuse(Refusal::new(StatusCode::FORBIDDEN, why)),
                _ => self.refuse_request(StatusCode::FORBIDDEN, &why),
            });
        }
        let response = match command {
            Ok(Command::Open(kind)) => match self.open_carrier(kind, origin.clone(), parts) {
                Ok(body) => body.into_response(),
                Err(refusal) => self.refuse(refusal),
            },
            Ok(Command::Send { id, offset }) => {
                let sent = self.carriers.send(&id, origin.as_ref(), offset, body).await;
                self.answer_request(sent.map(|()| StatusCode::NO_CONTENT))
            }
            Ok(Command::Receive { id, offset }) => {
                let received = self.carriers.receive(&id, origin.as_ref(), offset).await;
                self.answer_request(received.map(Body::from))
            }
            Err(why) => self.refuse_request(StatusCode::BAD_REQUEST, why),
        };
        allow_origin(unstored(response), origin.as_ref())
    }

    fn answer_request(&self, answer: Result<impl IntoResponse, StatusCode>) -> Response {
        match answer {
            Ok(answer) => answer.into_response(),
            Err(status) => self.refuse_request(status, status.canonical_reason().unwrap_or_default()),
        }
    }

    /// Counts the refusal of a request that opens no carrier. A page that comes too late does no wrong, and a flood of these must
    /// not become one of log lines.
    fn refuse_request(&self, status: StatusCode, why: &str) -> Response {
        debug!(%status, "a request of an HTTP carrier is refused: {why}");
        self.multiplexer.stats.http_refused(status.as_u16());
        plain(status, why)
    }

    /// Opens a carrier. Returns the body of the answer.
    fn open_carrier(
        self: &Arc<Self>,
        kind: Kind,
        origin: Option<HeaderValue>,
        mut parts: Parts,
    ) -> Result<Body, Refusal> {
        self.check_depth(&parts)?;
        let serving = parts.extensions.get::<Serving>();
        if serving.is_some_and(|serving| serving.shutdown.is_cancelled()) {
            // A server that stops accepts no connections, and waits for those that it has.
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down"));
        }
        let awaited = serving.map(|serving| serving.links.token());
        let most = self.multiplexer.limits.max_links + unclaimed::MOST;
        if self.carriers.len() >= most {
            return Err(Refusal::beyond("max_links", format!("there are {most} carriers already")));
        }
        let id = new_token().ok_or_else(|| Refusal::beyond("max_links", "no random numbers".into()))?;
        self.remove_claims(&mut parts);
        let (near, far) = Duplex::pair(kind.buffer());
        let left = CancellationToken::new();
        let tunnel = Tunnel::new(near, left.clone());
        self.admit(parts, ready(Ok(Connection::Http(tunnel))))?;
        let counted = self.multiplexer.stats.count_carrier(kind == Kind::Stream);
        let carrier = Arc::new(Carrier::new(id, kind, origin, far, counted));
        Ok(self.carriers.open(carrier, Ends { left, awaited }))
    }

    /// Removes the headers by which proxies name users, unless a trusted proxy has sent the request: a page can write them in
    /// this handshake, which it cannot in that of a WebSocket.
    fn remove_claims(&self, parts: &mut Parts) {
        if Forwarded::of(parts).is_by_proxy() {
            return;
        }
        let inherited = &self.multiplexer.inherited;
        let claims: Vec<_> =
            parts.headers.keys().filter(|name| inherited.is_by_proxy(name)).cloned().collect();
        for name in claims {
            parts.headers.remove(name);
        }
    }
}

/// Forbids intermediaries to store, change or delay an answer.
fn unstored(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    // nginx passes the answer on as it comes.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

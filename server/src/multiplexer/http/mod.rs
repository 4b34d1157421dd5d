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
use self::command::{Command, Kind, NAME};
use super::refusal::Refusal;
use super::{RESUMING, Shared};
use crate::access::forwarded::Forwarded;
use crate::access::plain;
use crate::access::reader::allow_origin;
use crate::link::resumptions::new_token;
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
            let refusal = Refusal::new(StatusCode::FORBIDDEN, why);
            return unstored(match command {
                Ok(Command::Open(_)) => self.refuse(refusal),
                _ => plain(refusal.status, &refusal.why),
            });
        }
        let response = match command {
            Ok(Command::Open(kind)) => match self.open_carrier(kind, origin.clone(), parts) {
                Ok(body) => body.into_response(),
                Err(refusal) => self.refuse(refusal),
            },
            Ok(Command::Send { id, offset }) => match self.carriers.find(&id, origin.as_ref()) {
                Ok(carrier) => {
                    let sent = carrier.send(offset, body).await;
                    self.settle(&carrier, sent.map(|()| StatusCode::NO_CONTENT))
                }
                Err(status) => status.into_response(),
            },
            Ok(Command::Receive { id, offset }) => match self.carriers.find(&id, origin.as_ref()) {
                Ok(carrier) => {
                    let received = carrier.receive(offset).await;
                    self.settle(&carrier, received.map(Body::from))
                }
                Err(status) => status.into_response(),
            },
            Err(why) => plain(StatusCode::BAD_REQUEST, why),
        };
        allow_origin(unstored(response), origin.as_ref())
    }

    /// Opens a carrier. Returns the body of the answer.
    fn open_carrier(
        self: &Arc<Self>,
        kind: Kind,
        origin: Option<HeaderValue>,
        mut parts: Parts,
    ) -> Result<Body, Refusal> {
        self.check_depth(&parts)?;
        let most = self.multiplexer.limits.max_links + RESUMING;
        if self.carriers.len() >= most {
            return Err(Refusal::beyond("max_links", format!("there are {most} carriers already")));
        }
        let id = new_token().ok_or_else(|| Refusal::beyond("max_links", "no random numbers".into()))?;
        self.remove_claims(&mut parts);
        let (near, far) = Duplex::pair(kind.buffer());
        let left = CancellationToken::new();
        let tunnel = Tunnel::new(near, left.clone());
        self.admit(parts, ready(Ok(Connection::Http(tunnel))))?;
        let carrier = Arc::new(Carrier::new(id, kind, origin, far));
        self.carriers.add(&carrier);
        Ok(match kind {
            Kind::Stream => self.carriers.stream(carrier, left),
            Kind::Poll => self.carriers.poll(carrier),
        })
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

    /// Ends a carrier that cannot be used any more, and returns the answer.
    fn settle(&self, carrier: &Carrier, answer: Result<impl IntoResponse, StatusCode>) -> Response {
        match answer {
            Ok(answer) => answer.into_response(),
            Err(status) => {
                debug!(%status, "a request of an HTTP carrier is refused");
                if matches!(status, StatusCode::GONE | StatusCode::REQUEST_TIMEOUT) {
                    self.carriers.end(carrier);
                }
                status.into_response()
            }
        }
    }
}

/// Has nobody on the way keep, change or delay an answer.
fn unstored(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    // nginx passes the answer on as it comes.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

//! Gives requests of HTTP/2 the form that those of HTTP/1.1 have: applications see one kind of WebSocket handshake.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use axum::response::Response;

use crate::access::plain;

/// The handshake of HTTP/1.1 that takes the place of extended CONNECT (RFC 8441 §5). The key is sixteen zero bytes in
/// base64: nobody checks the answer to it.
const HANDSHAKE: [(header::HeaderName, &str); 3] = [
    (header::CONNECTION, "upgrade"),
    (header::UPGRADE, "websocket"),
    (header::SEC_WEBSOCKET_KEY, "AAAAAAAAAAAAAAAAAAAAAA=="),
];

/// Bytes of a stream that wait in h2 for the connection: four frames of the common size. Bytes on their way wait in the
/// system.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;

/// An extension of requests: the WebSocket is a stream of an HTTP/2 connection.
#[derive(Debug, Clone, Copy)]
struct OverHttp2;

/// Returns whether a WebSocket with this handshake is a stream of an HTTP/2 connection.
pub(crate) fn is_over_http2(handshake: &Parts) -> bool {
    handshake.extensions.get::<OverHttp2>().is_some()
}

/// How the response to a request has to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Translated {
    Nothing,
    /// It is the answer to extended CONNECT.
    Handshake,
}

/// Changes a request of HTTP/2, and leaves others as they are.
///
/// # Errors
/// Returns the refusal of a protocol other than WebSockets.
pub(crate) fn translate(parts: &mut Parts) -> Result<Translated, Box<Response>> {
    if parts.version != Version::HTTP_2 {
        return Ok(Translated::Nothing);
    }
    // RFC 9113 §8.3.1.
    let authority = parts.uri.authority().map(|authority| HeaderValue::try_from(authority.as_str()));
    if let Some(Ok(host)) = authority {
        parts.headers.insert(header::HOST, host);
    }
    join_cookies(&mut parts.headers);
    match protocol(parts) {
        Some("websocket") => {}
        Some(_) => {
            let why = "the only protocol for CONNECT is websocket";
            return Err(Box::new(plain(StatusCode::NOT_IMPLEMENTED, why)));
        }
        None => return Ok(Translated::Nothing),
    }
    parts.method = Method::GET;
    parts.version = Version::HTTP_11;
    for (name, value) in HANDSHAKE {
        parts.headers.insert(name, HeaderValue::from_static(value));
    }
    parts.extensions.insert(OverHttp2);
    Ok(Translated::Handshake)
}

/// Returns the protocol that extended CONNECT asks for.
#[cfg(feature = "http2")]
fn protocol(parts: &Parts) -> Option<&str> {
    parts.extensions.get::<hyper::ext::Protocol>().map(hyper::ext::Protocol::as_str)
}

/// hyper without HTTP/2 does not know it.
#[cfg(not(feature = "http2"))]
fn protocol(_: &Parts) -> Option<&str> {
    None
}

/// Joins the cookies, which may have a line each (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(header::COOKIE).iter();
    if lines.next().is_none() || lines.next().is_none() {
        return;
    }
    let lines = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    if let Ok(all) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(header::COOKIE, all);
    }
}

impl Translated {
    /// Changes a response. Extended CONNECT succeeds with any status of success, an upgrade with 101 only.
    pub(crate) fn answer(self, mut response: Response) -> Response {
        if self == Self::Nothing {
            return response;
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            *response.status_mut() = StatusCode::OK;
            for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_ACCEPT] {
                response.headers_mut().remove(name);
            }
        } else if response.status().is_success() {
            return plain(StatusCode::NOT_FOUND, "this is no WebSocket");
        }
        response
    }
}

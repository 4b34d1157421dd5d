//! Decides which pages may read plain HTTP responses.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

use crate::access::forwarded::Forwarded;
use crate::access::origin::Origins;
use crate::access::plain;

/// Returns the refusal of a reader of another origin; `None` if the origin is the server's own or is listed.
pub(crate) fn refuse_reader(parts: &Parts) -> Option<Response> {
    let forwarded = Forwarded::of(parts);
    let check = match parts.extensions.get::<Origins>() {
        Some(origins) => origins.check_reader(&parts.headers, &forwarded),
        None => Origins::default().check_reader(&parts.headers, &forwarded),
    };
    check.err().map(|why| plain(StatusCode::FORBIDDEN, &why))
}

/// Allows the requesting page to read the response from another origin (CORS). [`refuse_reader`] has checked the origin.
pub(crate) fn allow_cors(response: Response, request: &HeaderMap) -> Response {
    allow_origin(response, request.get(header::ORIGIN))
}

/// Allows pages of an origin, if there is one, to read the response.
pub(crate) fn allow_origin(mut response: Response, origin: Option<&HeaderValue>) -> Response {
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    response
}

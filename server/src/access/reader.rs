//! Decides which pages may read plain HTTP responses.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::access::origin::Origins;

/// Returns the refusal of a reader of another origin; `None` if the origin is the server's own or is listed.
pub(crate) fn refuse_reader(parts: &Parts) -> Option<Response> {
    let check = match parts.extensions.get::<Origins>() {
        Some(origins) => origins.check_reader(&parts.headers),
        None => Origins::default().check_reader(&parts.headers),
    };
    check.err().map(|why| (StatusCode::FORBIDDEN, format!("{why}\n")).into_response())
}

/// Allows the requesting page to read the response from another origin (CORS). [`refuse_reader`] has checked the origin.
pub(crate) fn allow_cors(mut response: Response, request: &HeaderMap) -> Response {
    let headers = response.headers_mut();
    if let Some(origin) = request.get(header::ORIGIN) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    response
}

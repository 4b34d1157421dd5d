//! Decides which pages and users may open which sockets.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

pub(crate) mod entry;
pub(crate) mod excerpt;
pub(crate) mod forwarded;
pub(crate) mod host;
pub(crate) mod inherited;
pub(crate) mod open_headers;
pub(crate) mod origin;
pub(crate) mod path_form;
pub(crate) mod proxies;
pub(crate) mod reader;
pub(crate) mod rewrite;
pub(crate) mod scope;
pub(crate) mod tokens;
pub(crate) mod web_origin;

/// Answers with a line of text.
pub(crate) fn plain(status: StatusCode, why: &str) -> Response {
    as_declared((status, format!("{why}\n")))
}

/// Makes a browser obey the `Content-Type` of a response, and never guess another type from its content, which
/// may contain text of other users.
pub(crate) fn as_declared<R: IntoResponse>(response: R) -> Response {
    let mut response = response.into_response();
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

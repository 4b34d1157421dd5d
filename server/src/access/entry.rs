//! Runs before anything answers a request: determines its host, and reads the headers of its proxies.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;

use super::forwarded::Trusted;
use super::{host, plain, tokens};
use crate::net::extended_connect::translate;

/// Refuses a request whose host is not one, and adds [`Forwarded`](super::forwarded::Forwarded) to the extensions of others.
pub(crate) async fn enter(State(trusted): State<Arc<Trusted>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let translated = match translate(&mut parts) {
        Ok(translated) => translated,
        Err(refusal) => return *refusal,
    };
    if let Err(why) = host::settle(&mut parts) {
        return plain(StatusCode::BAD_REQUEST, why);
    }
    tokens::join_upgrade(&mut parts.headers);
    let forwarded = trusted.read(&parts);
    parts.extensions.insert(forwarded);
    translated.answer(next.run(Request::from_parts(parts, body)).await)
}

//! Answers the requests with which browsers fetch the cookies of virtual opens (docs/protocol.md §4.2).

use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tracing::debug;

use crate::access::forwarded::Forwarded;
use crate::access::origin::Origins;
use crate::access::plain;
use crate::access::reader::allow_cors;
use crate::link::registry::Links;
use crate::link::tickets::{REQUEST, Redeemed, Tickets};

/// How long the tickets of a request may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);

/// Answers a request with tickets, and renews the cookies of the links that they belong to.
pub(super) async fn fetch(origins: &Origins, known: &Tickets, links: &Links, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if let Err(why) = origins.check(&parts.headers, &Forwarded::of(&parts)) {
        return plain(StatusCode::FORBIDDEN, &why);
    }
    let Ok(Ok(tickets)) = tokio::time::timeout(ARRIVAL, to_bytes(body, REQUEST)).await else {
        return plain(StatusCode::BAD_REQUEST, "a request for cookies has up to 64 tickets");
    };
    // Without an origin, no ticket is valid.
    let origin = parts.headers.get(header::ORIGIN).cloned().unwrap_or(HeaderValue::from_static(""));
    let mut response = match known.redeem(&origin, &tickets) {
        Redeemed::Cookies(cookies) => {
            let mut response = StatusCode::OK.into_response();
            response.headers_mut().extend(cookies.into_iter().map(|cookie| (header::SET_COOKIE, cookie)));
            response
        }
        Redeemed::Links(shown) => {
            for link in shown {
                links.renew_cookies(link, &parts.headers);
            }
            StatusCode::NO_CONTENT.into_response()
        }
        Redeemed::Nothing => {
            debug!("a request for cookies has no valid ticket");
            StatusCode::NOT_FOUND.into_response()
        }
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    allow_cors(response, &parts.headers)
}

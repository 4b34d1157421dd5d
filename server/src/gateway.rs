//! Forwards WebSockets to a server in any language, so that it can be used before a line of it has changed.

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WireError, handshake::client::generate_key};
use tracing::{debug, warn};

use crate::bridge::bridge;
use crate::upgrade::WebSocketUpgrade;

/// Headers of a page's request that an upstream server is to see as if it were asked directly.
const PASSED: [HeaderName; 6] = [
    header::ORIGIN,
    header::COOKIE,
    header::AUTHORIZATION,
    header::USER_AGENT,
    header::ACCEPT_LANGUAGE,
    header::SEC_WEBSOCKET_PROTOCOL,
];

/// Headers of a response that speak of one connection, and so are not passed on (RFC 9110 §7.6.1).
const OF_THE_CONNECTION: [HeaderName; 4] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::UPGRADE];

/// An upstream WebSocket server, as a handler.
///
/// ```
/// use axum::Router;
/// use manysocket_server::{Gateway, Multiplexer};
///
/// let chat = Gateway::new("/chat", "ws://127.0.0.1:9000/rooms").expect("a ws: URL");
/// let app = Multiplexer::new("/multiplexer").serve(chat.mount(Router::new()));
/// ```
///
/// `/chat` then reaches `ws://127.0.0.1:9000/rooms`, and `/chat/blue?a=1` reaches `ws://127.0.0.1:9000/rooms/blue?a=1`, over native
/// and virtual sockets alike. Refusals, subprotocols, close codes and reasons pass as they are.
#[derive(Debug, Clone)]
pub struct Gateway {
    prefix: String,
    authority: Authority,
    path: String,
}

impl Gateway {
    /// Forwards what is at and below `prefix` to the upstream URL.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn new(prefix: &str, upstream: &str) -> Result<Self, String> {
        if !prefix.starts_with('/') || prefix.contains(['{', '}', '?', '#']) {
            return Err(format!("the prefix {prefix:?} is not a path that begins with a slash"));
        }
        let url: Uri =
            upstream.parse().map_err(|error| format!("the upstream {upstream:?} is not a URL: {error}"))?;
        match url.scheme_str() {
            Some("ws") => {}
            Some("wss") => {
                return Err(format!("the upstream {upstream:?} asks for TLS, which is not supported"));
            }
            _ => return Err(format!("the upstream {upstream:?} does not begin with ws://")),
        }
        let authority =
            url.authority().cloned().ok_or_else(|| format!("the upstream {upstream:?} names no host"))?;
        if url.query().is_some() {
            return Err(format!("the upstream {upstream:?} has a query; the page's own is passed on"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        Ok(Self { prefix: prefix.trim_end_matches('/').to_owned(), authority, path })
    }

    /// Adds the gateway's routes to an application. Of several gateways the one with the longest prefix answers.
    pub fn mount(self, app: Router) -> Router {
        let (below, at) = (format!("{}/{{*rest}}", self.prefix), format!("{}/", self.prefix));
        let this = Arc::new(self);
        let handler = any(move |request: Request| Arc::clone(&this).forward(request));
        let app = app.route(&below, handler.clone()).route(&at, handler.clone());
        if at == "/" { app } else { app.route(at.trim_end_matches('/'), handler) }
    }

    async fn forward(self: Arc<Self>, request: Request) -> Response {
        let (mut parts, _) = request.into_parts();
        let url = match self.upstream(&parts.uri) {
            Some(url) => url,
            None => return StatusCode::NOT_FOUND.into_response(),
        };
        let mut upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
            Ok(upgrade) => upgrade,
            Err(rejection) => return rejection,
        };
        let mut upstream_request = Request::new(());
        *upstream_request.uri_mut() = url.clone();
        *upstream_request.headers_mut() = self.headers(&parts);
        // Messages pass through: their size is limited where they are made and where they are read.
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let dialled =
            tokio_tungstenite::connect_async_with_config(upstream_request, Some(config), true).await;
        let (wire, response) = match dialled {
            Ok(dialled) => dialled,
            Err(WireError::Http(response)) => {
                debug!(%url, status = %response.status(), "the upstream refused");
                return refusal(*response);
            }
            Err(error) => {
                warn!(%url, "the upstream cannot be reached: {error}");
                return StatusCode::BAD_GATEWAY.into_response();
            }
        };
        if let Some(protocol) = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL) {
            upgrade.set_selected_protocol(protocol.clone());
        }
        upgrade.on_upgrade(|socket| bridge(socket, wire))
    }

    /// The upstream URL of a page's: what is behind the prefix is passed on byte for byte.
    fn upstream(&self, requested: &Uri) -> Option<Uri> {
        let rest = requested.path().strip_prefix(&self.prefix)?;
        let path = format!("{}{rest}", self.path);
        let path = if path.is_empty() { "/" } else { &path };
        let target = match requested.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        Uri::builder()
            .scheme(Scheme::try_from("ws").ok()?)
            .authority(self.authority.clone())
            .path_and_query(PathAndQuery::try_from(target).ok()?)
            .build()
            .ok()
    }

    fn headers(&self, parts: &Parts) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in PASSED {
            for value in parts.headers.get_all(&name) {
                headers.append(&name, value.clone());
            }
        }
        for (name, value) in [
            (header::CONNECTION, "upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
            (header::SEC_WEBSOCKET_KEY, &generate_key()),
            (header::HOST, self.authority.as_str()),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        self.forwarded(parts, &mut headers);
        headers
    }

    /// Who asked, in the headers that servers behind proxies read.
    fn forwarded(&self, parts: &Parts, headers: &mut HeaderMap) {
        let before = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let remote =
            parts.extensions.get().map(|ConnectInfo::<SocketAddr>(address)| address.ip().to_string());
        let by_way_of = [before("x-forwarded-for").map(str::to_owned), remote];
        let by_way_of = by_way_of.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let host = before("x-forwarded-host").or(before("host")).unwrap_or_default();
        let scheme = before("x-forwarded-proto").unwrap_or("http");
        for (name, value) in [
            ("x-forwarded-for", by_way_of.as_str()),
            ("x-forwarded-host", host),
            ("x-forwarded-proto", scheme),
        ] {
            if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_str(value)) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

/// The upstream's answer that is not 101, for the page: status, headers and body.
fn refusal(response: tokio_tungstenite::tungstenite::http::Response<Option<Vec<u8>>>) -> Response {
    let (mut parts, body) = response.into_parts();
    for name in OF_THE_CONNECTION {
        parts.headers.remove(name);
    }
    Response::from_parts(parts, Body::from(body.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_the_prefix_is_passed_on_byte_for_byte() {
        for (prefix, upstream, asked, expected) in [
            ("/chat", "ws://h:1/rooms", "/chat", "ws://h:1/rooms"),
            ("/chat", "ws://h:1/rooms", "/chat/", "ws://h:1/rooms/"),
            (
                "/chat",
                "ws://h:1/rooms/",
                "/chat/a%20b/%2e?q=1&q=%C3%A9",
                "ws://h:1/rooms/a%20b/%2e?q=1&q=%C3%A9",
            ),
            ("/chat/", "ws://h", "/chat", "ws://h/"),
            ("/", "ws://h", "/any/thing?x", "ws://h/any/thing?x"),
        ] {
            let gateway = Gateway::new(prefix, upstream).expect("a gateway");
            let url = gateway.upstream(&asked.parse().expect("a path"));
            assert_eq!(url.map(|url| url.to_string()).as_deref(), Some(expected), "{prefix} {asked}");
        }
    }

    #[test]
    fn what_cannot_be_forwarded_to_is_refused_with_a_reason() {
        for (prefix, upstream, reason) in [
            ("chat", "ws://h", "begins with a slash"),
            ("/{x}", "ws://h", "begins with a slash"),
            ("/", "http://h", "does not begin with ws://"),
            ("/", "wss://h", "TLS"),
            ("/", "nonsense", "ws://"),
            ("/", "ws://h?q", "query"),
        ] {
            let error = Gateway::new(prefix, upstream).expect_err(upstream);
            assert!(error.contains(reason), "{error}");
        }
    }
}

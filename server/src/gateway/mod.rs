//! Forwards WebSockets to a server in any language, so that a server can use the multiplexer without a change.

mod keepalive;
mod spelling;
mod upstream;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::uri::{PathAndQuery, Scheme};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::sync::Arc;
use tracing::{debug, warn};

use crate::access::excerpt::excerpt;
use crate::access::forwarded::Forwarded;
use crate::access::inherited::{Inherited, is_of_trace};
use crate::access::tokens::members;
use crate::access::{path_form, plain};
use crate::gateway::keepalive::Watched;
use crate::gateway::upstream::{DialAnswer, Failure, Upstream};
use crate::ws::bridge::bridge;
use crate::ws::upgrade::WebSocketUpgrade;

const FORWARDED_FOR: &str = "x-forwarded-for";

const REAL_IP: &str = "x-real-ip";

/// The default for the largest forwarded message, in bytes: equal to the default of the protocol's `max_message` for
/// virtual sockets.
const MAX_MESSAGE: usize = 64 << 20;

/// The headers of a page's request that the gateway copies to the upstream request.
const PASSED: [HeaderName; 6] = [
    header::ORIGIN,
    header::COOKIE,
    header::AUTHORIZATION,
    header::USER_AGENT,
    header::ACCEPT_LANGUAGE,
    header::SEC_WEBSOCKET_PROTOCOL,
];

/// The response headers that describe one connection; the gateway removes them (RFC 9110 §7.6.1, RFC 6455 §11.3).
const OF_THE_CONNECTION: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::UPGRADE,
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_PROTOCOL,
];

/// The headers that describe the way of a request. The gateway forwards none that a client sends, unless it is a trusted proxy.
const FORWARDING: [&str; 10] = [
    "forwarded",
    FORWARDED_FOR,
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    REAL_IP,
];

/// Forwards the sockets at a path to an upstream WebSocket server.
///
/// ```
/// use axum::Router;
/// use manysocket_server::{Gateway, Multiplexer};
///
/// let chat = Gateway::new("/chat", "ws://127.0.0.1:9000/rooms").expect("a ws: URL");
/// let app = Multiplexer::new("/multiplexer").serve(chat.mount(Router::new()));
/// ```
///
/// `/chat` then reaches `ws://127.0.0.1:9000/rooms`, and `/chat/blue?a=1` reaches
/// `ws://127.0.0.1:9000/rooms/blue?a=1`, over native and virtual sockets alike. The gateway forwards refusals,
/// subprotocols, close codes and reasons unchanged. It verifies a `wss:` upstream with the system's root certificates.
/// If the URL contains a user and password, the gateway sends them with requests that have no `Authorization` header.
///
/// The gateway sends the page's `Host` header, so that a server that compares it with `Origin` accepts the page.
/// [`upstream_host`](Self::upstream_host) sends the host of the upstream URL instead.
///
/// The gateway forwards the path after the prefix byte for byte. It refuses with 400 a path that some server would
/// read as another one: dot segments, separators and control characters, encoded once or several times, and invalid
/// UTF-8.
#[derive(Debug, Clone)]
pub struct Gateway {
    prefix: String,
    upstream: Upstream,
    path: String,
    has_own_host: bool,
    max_message: usize,
}

/// The error for a [`Gateway`] that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayError(String);

impl Display for GatewayError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for GatewayError {}

impl Gateway {
    /// Creates a gateway that forwards requests at and below `prefix` to the upstream URL.
    ///
    /// # Errors
    /// Returns a message if `prefix` is not an absolute path without parameters, if `upstream` is not a `ws:` or
    /// `wss:` URL or has a query, or if the system has no root certificates for `wss:`.
    pub fn new(prefix: &str, upstream: &str) -> Result<Self, GatewayError> {
        if !prefix.starts_with('/') || prefix.contains(['{', '}', '*', '?', '#']) || prefix.contains("/:") {
            return Err(GatewayError(format!(
                "the prefix {prefix:?} is not a path that begins with a slash"
            )));
        }
        let url: Uri = upstream
            .parse()
            .map_err(|error| GatewayError(format!("the upstream {upstream:?} is not a URL: {error}")))?;
        let server =
            Upstream::new(&url).map_err(|why| GatewayError(format!("the upstream {upstream:?}: {why}")))?;
        if url.query().is_some() {
            return Err(GatewayError(format!(
                "the upstream {upstream:?} has a query; the page's own is passed on"
            )));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        let prefix = prefix.trim_end_matches('/').to_owned();
        Ok(Self { prefix, upstream: server, path, has_own_host: false, max_message: MAX_MESSAGE })
    }

    /// Sends the host of the upstream URL in `Host`, in place of the page's, for servers that select a site by it.
    /// `X-Forwarded-Host` then carries the page's.
    #[must_use]
    pub fn upstream_host(mut self) -> Self {
        self.has_own_host = true;
        self
    }

    /// Sets the size in bytes of the largest message in either direction; the default is 64 MiB. A larger message
    /// closes the socket. Half of [`Limits::link_memory`](crate::Limits) limits virtual sockets, too.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Adds the gateway's routes to an application. If several gateways match a path, the one with the longest prefix
    /// answers.
    pub fn mount(self, app: Router) -> Router {
        self.routes().fold(app, |app, (path, methods)| app.route(&path, methods))
    }

    /// Returns the path prefix without a trailing slash; it is empty if the gateway covers the whole site.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the routes for the prefix with and without a trailing slash, and for all paths below it.
    pub(crate) fn routes<S: Clone + Send + Sync + 'static>(
        self,
    ) -> impl Iterator<Item = (String, MethodRouter<S>)> {
        let prefix = self.prefix.clone();
        let this = Arc::new(self);
        let handler = any(move |request: Request| Arc::clone(&this).forward(request));
        let paths = [format!("{prefix}/{{*rest}}"), format!("{prefix}/"), prefix];
        paths.into_iter().filter(|path| !path.is_empty()).map(move |path| (path, handler.clone()))
    }

    async fn forward(self: Arc<Self>, request: Request) -> Response {
        let (mut parts, _) = request.into_parts();
        let Some(target) = self.target(&parts.uri) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        if let Err(why) = check(&parts.uri, &target) {
            debug!(path = excerpt(parts.uri.path()), "refusing to forward a request: {why}");
            return plain(StatusCode::BAD_REQUEST, why);
        }
        let mut upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
            Ok(upgrade) => upgrade,
            Err(rejection) => return rejection.into_response(),
        };
        upgrade = upgrade.max_message_size(self.max_message).max_frame_size(self.max_message);
        let upstream = &self.upstream;
        match upstream.dial(target.clone(), self.headers(&parts), self.max_message).await {
            Ok(DialAnswer::Open(wire, mut headers)) => {
                if let Some(protocol) = headers.get(header::SEC_WEBSOCKET_PROTOCOL) {
                    upgrade.set_selected_protocol(protocol.clone());
                }
                let watched = Watched::new(*wire, upstream.clone());
                let mut response = upgrade.on_upgrade(|socket| bridge(socket, watched, Watched::held));
                pass_on(&mut headers);
                response.headers_mut().extend(headers);
                response
            }
            Ok(DialAnswer::Refused(response)) => {
                debug!(%upstream, path = excerpt(target.path()), status = %response.status(), "the upstream refused");
                let (mut parts, body) = response.into_parts();
                pass_on(&mut parts.headers);
                Response::from_parts(parts, Body::new(body))
            }
            Err(Failure { status, why }) => {
                warn!(%upstream, path = excerpt(target.path()), "the upstream cannot be reached: {why}");
                status.into_response()
            }
        }
    }

    /// Returns the upstream path and query for a requested URL: the path after the prefix, byte for byte, and the
    /// page's query. Returns `None` outside the prefix.
    fn target(&self, requested: &Uri) -> Option<PathAndQuery> {
        let rest = requested.path().strip_prefix(&self.prefix)?;
        let path = format!("{}{rest}", self.path);
        let path = if path.is_empty() { "/" } else { &path };
        let target = match requested.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        PathAndQuery::try_from(target).ok()
    }

    /// Builds the upstream request's headers: those copied from the page's request, and the forwarding headers.
    fn headers(&self, parts: &Parts) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let host = Forwarded::of(parts).host_or_header(&parts.headers).map(|host| host.to_string());
        if let (Some(Ok(host)), false) = (host.map(HeaderValue::try_from), self.has_own_host) {
            headers.insert(header::HOST, host);
        }
        for name in PASSED {
            for value in parts.headers.get_all(&name) {
                headers.append(&name, value.clone());
            }
        }
        let (inherited, known) = (Inherited::of(parts), Forwarded::of(parts));
        for (name, value) in &parts.headers {
            let is_passed = if FORWARDING.contains(&name.as_str()) {
                known.is_by_proxy()
            } else {
                is_of_trace(name) || (known.identifies() && inherited.is_by_proxy(name))
            };
            if is_passed {
                headers.append(name, value.clone());
            }
        }
        forwarded(parts, &mut headers);
        headers
    }
}

/// Checks that all servers read a request's path in the same way, both before the prefix is removed and after.
fn check(requested: &Uri, target: &PathAndQuery) -> Result<(), &'static str> {
    path_form::check_for_any_reader(requested.path_and_query().map_or("", PathAndQuery::as_str))?;
    if target.path().starts_with("//") {
        return Err(
            "the path after the prefix begins with two slashes, and a server would read it as a host",
        );
    }
    Ok(())
}

/// Adds the client's address, host and scheme in the headers that servers behind proxies read. The gateway discards
/// the client's own values of these headers and keeps a trusted proxy's. `X-Real-IP` and `Forwarded` are not added to
/// a request that has none.
fn forwarded(parts: &Parts, headers: &mut HeaderMap) {
    let known = Forwarded::of(parts);
    let remote = parts.extensions.get().map(|ConnectInfo::<SocketAddr>(address)| address.ip());
    let mut by_way_of = Vec::new();
    if known.is_by_proxy() {
        by_way_of.extend(members(parts.headers.get_all(FORWARDED_FOR)).map(str::to_owned));
        if by_way_of.is_empty() {
            by_way_of.extend(known.client().map(|client| client.to_string()));
        }
    }
    by_way_of.extend(remote.map(|address| address.to_canonical().to_string()));
    let host = known.host_or_header(&parts.headers).map(|host| host.to_string()).unwrap_or_default();
    let scheme = known.scheme().or(parts.extensions.get()).map_or("http", Scheme::as_str);
    let mut set = |name: &'static str, value: &str| {
        if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_str(value)) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set(FORWARDED_FOR, &by_way_of.join(", "));
    set("x-forwarded-host", &host);
    set("x-forwarded-proto", scheme);
    if !known.is_by_proxy()
        && let Some(remote) = remote.map(|address| address.to_canonical())
    {
        if parts.headers.contains_key(REAL_IP) {
            set(REAL_IP, &remote.to_string());
        }
        if parts.headers.contains_key(header::FORWARDED) {
            let node = if remote.is_ipv6() { format!("\"[{remote}]\"") } else { remote.to_string() };
            set("forwarded", &format!("for={node};host=\"{host}\";proto={scheme}"));
        }
    }
}

/// Removes the response headers that describe one connection.
fn pass_on(headers: &mut HeaderMap) {
    for name in OF_THE_CONNECTION {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_after_the_prefix_is_forwarded_byte_for_byte() {
        for (prefix, upstream, asked, expected) in [
            ("/chat", "ws://h:1/rooms", "/chat", "ws://h:1/rooms"),
            ("/chat", "ws://h:1/rooms", "/chat/", "ws://h:1/rooms/"),
            (
                "/chat",
                "ws://h:1/rooms/",
                "/chat/a%20b/;x?q=1&q=%C3%A9",
                "ws://h:1/rooms/a%20b/;x?q=1&q=%C3%A9",
            ),
            ("/chat/", "ws://h", "/chat", "ws://h/"),
            ("/", "ws://h", "/any/thing?x", "ws://h/any/thing?x"),
        ] {
            let gateway = Gateway::new(prefix, upstream).expect("a gateway");
            let target = gateway.target(&asked.parse().expect("a path")).expect("below the prefix");
            assert_eq!(format!("{}{target}", gateway.upstream), expected, "{prefix} {asked}");
        }
    }

    #[test]
    fn an_ambiguous_path_is_not_forwarded() {
        for (prefix, upstream, asked, is_right) in [
            ("/chat", "ws://h/rooms", "/chat/a", true),
            ("/chat", "ws://h/rooms", "/chat//a", true),
            ("/chat", "ws://h", "/chat//evil.example/a", false),
            ("/", "ws://h", "//evil.example/a", false),
            ("/chat", "ws://h/rooms", "/chat/../admin", false),
            ("/chat", "ws://h/rooms", "/chat/%2e%2e/admin", false),
            ("/chat", "ws://h/rooms", "/chat/..;/admin", false),
            ("/chat", "ws://h/rooms", "/chat/%252e%252e/admin", false),
            ("/chat", "ws://h/rooms", "/chat/a%00", false),
            ("/chat", "ws://h/rooms", "/chat/a?x=%0d%0a", true),
            ("/chat", "ws://h/rooms", "/chat/{a}", false),
        ] {
            let gateway = Gateway::new(prefix, upstream).expect("a gateway");
            let asked = asked.parse().expect("a path");
            let target = gateway.target(&asked).expect("below the prefix");
            assert_eq!(check(&asked, &target).is_ok(), is_right, "{prefix} {asked}");
        }
    }

    #[test]
    fn an_invalid_prefix_or_upstream_is_refused_with_a_reason() {
        for (prefix, upstream, reason) in [
            ("chat", "ws://h", "begins with a slash"),
            ("/{x}", "ws://h", "begins with a slash"),
            ("/", "http://h", "does not begin with ws://"),
            ("/", "nonsense", "ws://"),
            ("/", "ws://h?q", "query"),
        ] {
            let error = Gateway::new(prefix, upstream).expect_err(upstream).to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}

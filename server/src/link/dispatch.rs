//! Turns a virtual open into an HTTP request to the application, and interprets the response.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::uri::Scheme;
use axum::http::{Extensions, HeaderMap, HeaderValue, Request, StatusCode, header};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::access::forwarded::Forwarded;
use crate::access::inherited::Inherited;
use crate::access::open_headers;
use crate::link::head;
use crate::link::registry::copy_cookies;
use crate::ws::in_memory_upgrade::Minted;
use crate::ws::peer;
use crate::ws::upgrade::{Offer, Waiting};

/// Copies an extension of the handshake's request to those of virtual opens.
pub(crate) type InheritExtension = fn(&Extensions, &mut Extensions);

pub(crate) fn inherit_extension<T: Clone + Send + Sync + 'static>(from: &Extensions, to: &mut Extensions) {
    if let Some(extension) = from.get::<T>() {
        to.insert(extension.clone());
    }
}

/// The state that all virtual opens of a link share.
#[derive(Debug, Clone)]
pub(crate) struct Dispatcher {
    app: Router,
    headers: HeaderMap,
    extensions: Extensions,
    /// Headers that only proxies write.
    inherited: Inherited,
    /// The forwarding headers of the handshake's proxies.
    forwarded: Forwarded,
    /// The number of the link.
    peer: u64,
}

/// The application's answer to an open.
pub(crate) struct OpenAnswer {
    pub(crate) status: StatusCode,
    pub(crate) protocol: Option<HeaderValue>,
    /// The cookies that it sets.
    pub(crate) cookies: Vec<HeaderValue>,
    /// The handler that waits for its pipe.
    pub(crate) waiting: Option<Waiting>,
    /// The connection for a handler that took hyper's upgrade instead of the offer.
    pub(crate) minted: Option<Minted>,
}

impl Dispatcher {
    /// Creates a dispatcher from the physical handshake.
    pub(crate) fn new(
        app: Router,
        handshake: &Parts,
        inherited: &Inherited,
        inherit: &[InheritExtension],
    ) -> Self {
        let mut headers: HeaderMap = handshake
            .headers
            .iter()
            .filter(|(name, _)| inherited.has(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        for (name, value) in [
            (header::CONNECTION, "upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
            // Sixteen zero bytes in base64. Nobody computes an answer from the key, but some servers require it.
            (header::SEC_WEBSOCKET_KEY, "AAAAAAAAAAAAAAAAAAAAAA=="),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // Other extensions belong to the multiplexer's own route, such as its path parameters.
        let mut extensions = Extensions::new();
        let forwarded = Forwarded::of(handshake);
        extensions.insert(forwarded.clone());
        // The scheme is known if this server terminates the connection's TLS.
        let always =
            [inherit_extension::<ConnectInfo<SocketAddr>> as InheritExtension, inherit_extension::<Scheme>];
        for inherit in always.iter().chain(inherit) {
            inherit(&handshake.extensions, &mut extensions);
        }
        Self { app, headers, extensions, inherited: inherited.clone(), forwarded, peer: peer::number() }
    }

    /// Returns the same with the cookies of a newer request.
    pub(crate) fn with_cookies(&self, request: &HeaderMap) -> Self {
        let mut renewed = self.clone();
        if self.inherited.has(&header::COOKIE) {
            copy_cookies(request, &mut renewed.headers);
        }
        renewed
    }

    /// Returns the bytes it holds besides the handshake, with which it shares the header values.
    pub(crate) fn held(&self) -> usize {
        head::entries(&self.headers)
    }

    /// Returns the beginning of paths that trusted proxies have removed; empty: none.
    pub(crate) fn prefix(&self) -> &str {
        self.forwarded.prefix().unwrap_or_default()
    }

    /// Reads the headers that the client wrote for an open.
    ///
    /// # Errors
    /// Returns the status and the reason of a refusal.
    pub(crate) fn own_headers(&self, lines: &str) -> Result<HeaderMap, (u16, &'static str)> {
        open_headers::parse(lines, &self.inherited)
    }

    /// Builds the request to the application, with the open's headers in place of the handshake's. `parked` says whether the link
    /// has no connection. Returns `None` if the target or the subprotocols are invalid in a
    /// request.
    pub(crate) fn request(
        &self,
        target: &str,
        protocols: &str,
        own: HeaderMap,
        parked: watch::Receiver<bool>,
    ) -> Option<(Request<Body>, Offer)> {
        let mut headers = self.headers.clone();
        // Replaces headers of the same names.
        headers.extend(own);
        if !protocols.is_empty() {
            let value = HeaderValue::from_str(protocols).ok().filter(|_| are_tokens(protocols))?;
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
        let mut request = Request::builder().uri(target).body(Body::empty()).ok()?;
        *request.headers_mut() = headers;
        let offer = Offer::new(self.peer, parked);
        *request.extensions_mut() = self.extensions.clone();
        request.extensions_mut().insert(offer.clone());
        Some((request, offer))
    }

    /// Calls the application and returns its answer.
    pub(crate) async fn call(self: Arc<Self>, mut request: Request<Body>, offer: Offer) -> OpenAnswer {
        let minted = Minted::new().await.map(|(minted, upgrade)| {
            request.extensions_mut().insert(upgrade);
            minted
        });
        let Ok(response) = self.app.clone().oneshot(request).await;
        let (status, mut headers) = (response.status(), response.into_parts().0.headers);
        let protocol = headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
        let cookies = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
        let waiting = offer.taken();
        let minted = match minted {
            Some(minted) if waiting.is_some() => {
                minted.put_back().await;
                None
            }
            minted => minted,
        };
        OpenAnswer { status, protocol, cookies, waiting, minted }
    }
}

/// Returns whether a page can offer these subprotocols: tokens (RFC 9110 §5.6.2), separated by commas. Header values
/// may contain more, such as bytes that are not ASCII.
fn are_tokens(protocols: &str) -> bool {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    protocols
        .split(',')
        .map(|name| name.trim_matches([' ', '\t']))
        .all(|name| !name.is_empty() && name.bytes().all(is_of_token))
}

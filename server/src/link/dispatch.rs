//! A virtual open as an HTTP request to the application, and what its response means.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::uri::Scheme;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use tokio::sync::oneshot;
use tower::ServiceExt;

use crate::access::forwarded::Forwarded;
use crate::link::head;
use crate::ws::in_memory_upgrade::Minted;
use crate::ws::peer;
use crate::ws::pipe::Pipe;
use crate::ws::upgrade::Offer;

/// Headers of the physical handshake that speak of the page and its user, and so hold for each virtual open.
/// All others speak of the physical connection.
const INHERITED: [HeaderName; 8] = [
    header::HOST,
    header::ORIGIN,
    header::COOKIE,
    header::AUTHORIZATION,
    header::USER_AGENT,
    header::ACCEPT_LANGUAGE,
    header::FORWARDED,
    HeaderName::from_static("x-real-ip"),
];

/// What a proxy in front adds: `X-Forwarded-For`, `-Proto`, `-Host` and their kin.
const FORWARDED_PREFIX: &str = "x-forwarded-";

/// What the virtual opens of a link have in common.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    app: Router,
    headers: HeaderMap,
    remote: Option<ConnectInfo<SocketAddr>>,
    /// Of the connection, if this server ends its TLS.
    scheme: Option<Scheme>,
    /// What the handshake's proxies said.
    forwarded: Forwarded,
    /// The number of the link.
    peer: u64,
}

/// The application's answer to an open.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) protocol: Option<HeaderValue>,
    /// Where a handler waits for its pipe.
    pub(crate) waiting: Option<oneshot::Sender<Arc<Pipe>>>,
    /// For a handler that has taken the upgrade in place of the offer.
    pub(crate) minted: Option<Minted>,
}

impl Dispatcher {
    /// `handshake` is the physical one.
    pub(crate) fn new(app: Router, handshake: &Parts) -> Self {
        let mut headers: HeaderMap = handshake
            .headers
            .iter()
            .filter(|(name, _)| INHERITED.contains(name) || name.as_str().starts_with(FORWARDED_PREFIX))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        for (name, value) in [
            (header::CONNECTION, "upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
            // Sixteen zero bytes in base64: nobody computes an answer from it, but some look whether it is there.
            (header::SEC_WEBSOCKET_KEY, "AAAAAAAAAAAAAAAAAAAAAA=="),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // Other extensions belong to the multiplexer's own route, its path parameters for example.
        let remote = handshake.extensions.get().copied();
        let scheme = handshake.extensions.get().cloned();
        let forwarded = Forwarded::of(handshake);
        Self { app, headers, remote, scheme, forwarded, peer: peer::number() }
    }

    /// Bytes that it takes besides what the handshake does, whose values it shares.
    pub(crate) fn held(&self) -> usize {
        head::entries(&self.headers)
    }

    /// Calls the application. `None` if the target or the protocols cannot stand in a request.
    pub(crate) fn request(&self, target: &str, protocols: &str) -> Option<(Request<Body>, Offer)> {
        let mut headers = self.headers.clone();
        if !protocols.is_empty() {
            let value = HeaderValue::from_str(protocols).ok().filter(|_| are_tokens(protocols))?;
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
        let mut request = Request::builder().uri(target).body(Body::empty()).ok()?;
        *request.headers_mut() = headers;
        let offer = Offer::new(self.peer);
        let extensions: &mut Extensions = request.extensions_mut();
        extensions.insert(offer.clone());
        extensions.insert(self.forwarded.clone());
        if let Some(remote) = self.remote {
            extensions.insert(remote);
        }
        if let Some(scheme) = &self.scheme {
            extensions.insert(scheme.clone());
        }
        Some((request, offer))
    }

    /// Has the application answer.
    pub(crate) async fn call(self: Arc<Self>, mut request: Request<Body>, offer: Offer) -> Answer {
        let minted = Minted::new().await.map(|(minted, upgrade)| {
            request.extensions_mut().insert(upgrade);
            minted
        });
        let Ok(response) = self.app.clone().oneshot(request).await;
        let (status, mut headers) = (response.status(), response.into_parts().0.headers);
        let protocol = headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
        let waiting = offer.taken();
        let minted = match minted {
            Some(minted) if waiting.is_some() => {
                minted.put_back().await;
                None
            }
            minted => minted,
        };
        Answer { status, protocol, waiting, minted }
    }
}

/// Whether these are what a page can offer: tokens (RFC 9110 §5.6.2), separated by commas. An HTTP server would let more stand in
/// a header, bytes that are not ASCII for example.
fn are_tokens(protocols: &str) -> bool {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    protocols
        .split(',')
        .map(|name| name.trim_matches([' ', '\t']))
        .all(|name| !name.is_empty() && name.bytes().all(is_of_token))
}

//! The extractor that handlers use, for native and virtual opens.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Error;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::{self, DefaultOnFailedUpgrade, OnFailedUpgrade};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::{oneshot, watch};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::{Instrument, warn};

use crate::access::excerpt::excerpt;
use crate::access::reader::refuse_reader;
use crate::access::tokens::{join_upgrade, members};
use crate::ws::frame::Config;
use crate::ws::frames::FramedSocket;
use crate::ws::peer;
use crate::ws::pipe::Pipe;
use crate::ws::rejection::WebSocketUpgradeRejection;
use crate::ws::socket::WebSocket;

/// The limits of axum's own extractor.
const NATIVE: Config = Config {
    is_client: false,
    max_message: 64 << 20,
    max_frame: 16 << 20,
    accept_unmasked: false,
    answers_pings: true,
};

/// The offer of a virtual open to its handler, as an extension of the request. A handler that takes it gets
/// the pipe once the response has come back through all layers as 101.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    waiting: Arc<Mutex<Option<Waiting>>>,
    /// The link.
    peer: u64,
    /// Whether the link has no connection now.
    parked: watch::Receiver<bool>,
}

/// A handler that waits for its pipe.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) pipe: oneshot::Sender<Arc<Pipe>>,
    /// The handler's own limit on messages, in bytes.
    pub(crate) max_message_size: Option<usize>,
}

impl Offer {
    pub(crate) fn new(peer: u64, parked: watch::Receiver<bool>) -> Self {
        Self { waiting: Arc::default(), peer, parked }
    }

    fn take_up(&self, max_message_size: Option<usize>) -> oneshot::Receiver<Arc<Pipe>> {
        let (pipe, receiver) = oneshot::channel();
        let waiting = Waiting { pipe, max_message_size };
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiting);
        receiver
    }

    /// The handler that waits for the pipe, if there is one.
    pub(crate) fn taken(&self) -> Option<Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Extractor for WebSockets, native and virtual, with the interface of [axum's own](ws::WebSocketUpgrade).
///
/// Settings of the wire (buffer sizes, frames) concern native connections only: a virtual one shares the link's wire.
#[must_use]
#[derive(Debug)]
pub struct WebSocketUpgrade<F = DefaultOnFailedUpgrade> {
    kind: Kind,
    requested: BTreeSet<HeaderValue>,
    protocol: Option<HeaderValue>,
    /// `None`: nobody wants to know.
    on_failed_upgrade: Option<F>,
}

#[derive(Debug)]
enum Kind {
    Native { connection: OnUpgrade, key: Option<HeaderValue>, config: Config },
    Virtual { offer: Offer, max_message_size: Option<usize> },
}

impl<F> WebSocketUpgrade<F> {
    /// Returns whether the socket will be a channel of a multiplexer, for example for statistics.
    pub fn is_virtual(&self) -> bool {
        matches!(self.kind, Kind::Virtual { .. })
    }

    /// The number of the link, or of the native socket.
    pub(crate) fn peer(&self) -> u64 {
        match &self.kind {
            Kind::Native { .. } => peer::number(),
            Kind::Virtual { offer, .. } => offer.peer,
        }
    }

    /// Whether the link of a virtual socket has no connection, at any time from now on.
    pub(crate) fn parked(&self) -> Option<watch::Receiver<bool>> {
        match &self.kind {
            Kind::Native { .. } => None,
            Kind::Virtual { offer, .. } => Some(offer.parked.clone()),
        }
    }

    fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        if let Kind::Native { config, .. } = &mut self.kind {
            change(config);
        }
        self
    }

    /// Has no effect, and is here for handlers that axum's extractor served: a native connection has a buffer only
    /// while there is something in it.
    pub fn read_buffer_size(self, _: usize) -> Self {
        self
    }

    /// Has no effect, as [`read_buffer_size`](Self::read_buffer_size).
    pub fn write_buffer_size(self, _: usize) -> Self {
        self
    }

    /// Has no effect, as [`read_buffer_size`](Self::read_buffer_size): `send` waits while 32 KiB are not written, and
    /// answers to pings are not queued.
    pub fn max_write_buffer_size(self, _: usize) -> Self {
        self
    }

    /// Sets the largest frame of a native connection, in bytes; the default is 16 MiB.
    pub fn max_frame_size(self, max: usize) -> Self {
        self.configure(|config| config.max_frame = max)
    }

    /// Sets whether a native connection accepts frames that are not masked.
    pub fn accept_unmasked_frames(self, accept: bool) -> Self {
        self.configure(|config| config.accept_unmasked = accept)
    }

    /// Sets the largest message for the handler, in bytes; the default is 64 MiB. A larger one is an error, and ends the socket. A virtual
    /// socket accepts at most half of [`Limits::link_memory`](crate::Limits).
    pub fn max_message_size(mut self, max: usize) -> Self {
        match &mut self.kind {
            Kind::Native { config, .. } => config.max_message = max,
            Kind::Virtual { max_message_size, .. } => *max_message_size = Some(max),
        }
        self
    }

    /// Chooses the first of these subprotocols that the client offers.
    pub fn protocols<I>(mut self, protocols: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Cow<'static, str>>,
    {
        self.protocol = protocols
            .into_iter()
            .filter_map(|protocol| HeaderValue::from_str(&protocol.into()).ok())
            .find(|protocol| self.requested.contains(protocol));
        self
    }

    /// Returns the subprotocols that the client offers.
    pub fn requested_protocols(&self) -> impl Iterator<Item = &HeaderValue> {
        self.requested.iter()
    }

    /// Chooses a subprotocol, in place of the choice of [`protocols`](Self::protocols).
    pub fn set_selected_protocol(&mut self, protocol: HeaderValue) {
        self.protocol = Some(protocol);
    }

    /// Returns the chosen subprotocol.
    pub fn selected_protocol(&self) -> Option<&HeaderValue> {
        self.protocol.as_ref()
    }

    /// Sets a callback for an upgrade that fails, for example because a layer replaces the response.
    pub fn on_failed_upgrade<C: OnFailedUpgrade>(self, callback: C) -> WebSocketUpgrade<C> {
        let Self { kind, requested, protocol, on_failed_upgrade: _ } = self;
        WebSocketUpgrade { kind, requested, protocol, on_failed_upgrade: Some(callback) }
    }

    /// Answers the request, and calls back with the socket once it is open.
    #[must_use = "the socket opens when this response is returned"]
    pub fn on_upgrade<C, Fut>(self, callback: C) -> Response
    where
        C: FnOnce(WebSocket) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
        F: OnFailedUpgrade,
    {
        let Self { kind, protocol, on_failed_upgrade, .. } = self;
        let chosen = protocol.clone();
        let (opening, response): (BoxFuture<'static, Result<WebSocket, Error>>, _) = match kind {
            Kind::Native { connection, key, config } => {
                let response = switching_protocols(key.as_ref(), chosen);
                let opening = async move {
                    let io = TokioIo::new(connection.await.map_err(Error::new)?);
                    Ok(WebSocket::native(FramedSocket::new(io, config), protocol))
                };
                (Box::pin(opening), response)
            }
            Kind::Virtual { offer, max_message_size } => {
                let accepted = offer.take_up(max_message_size);
                let opening = async move {
                    let not_101 = |_| Error::new("the response was not 101 in the end");
                    let pipe = accepted.await.map_err(not_101)?;
                    Ok(WebSocket::virtual_(pipe, protocol, max_message_size))
                };
                (Box::pin(opening), accepting(StatusCode::SWITCHING_PROTOCOLS, chosen))
            }
        };
        let serving = async move {
            match opening.await {
                Ok(socket) => callback(socket).await,
                Err(error) => {
                    if let Some(callback) = on_failed_upgrade {
                        callback.call(error);
                    }
                }
            }
        };
        tokio::spawn(serving.in_current_span());
        response
    }
}

/// The answer to a native handshake that is accepted (RFC 6455 §4.2.2); over HTTP/2, where there is no key, RFC 8441 §5.
pub(crate) fn switching_protocols(key: Option<&HeaderValue>, protocol: Option<HeaderValue>) -> Response {
    let Some(key) = key else { return accepting(StatusCode::OK, protocol) };
    let mut response = accepting(StatusCode::SWITCHING_PROTOCOLS, protocol);
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64");
    response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

fn accepting(status: StatusCode, protocol: Option<HeaderValue>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

impl<S: Send + Sync> FromRequestParts<S> for WebSocketUpgrade {
    type Rejection = WebSocketUpgradeRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let (protocol, on_failed_upgrade) = (None, None);
        if let Some(offer) = parts.extensions.get::<Offer>() {
            let kind = Kind::Virtual { offer: offer.clone(), max_message_size: None };
            let requested = requested_protocols(&parts.headers);
            return Ok(Self { kind, requested, protocol, on_failed_upgrade });
        }
        let connection = parts.extensions.get::<OnUpgrade>().cloned();
        join_upgrade(&mut parts.headers);
        // axum checks the handshake.
        drop(ws::WebSocketUpgrade::from_request_parts(parts, state).await?);
        let connection = connection.ok_or(WebSocketUpgradeRejection::ConnectionNotUpgradable)?;
        let key = parts.headers.get(header::SEC_WEBSOCKET_KEY).cloned();
        let kind = Kind::Native { connection, key, config: NATIVE };
        Ok(Self { kind, requested: requested_protocols(&parts.headers), protocol, on_failed_upgrade })
    }
}

impl WebSocketUpgrade {
    /// For endpoints that serve pages of the server's own origin, and those that the site or the multiplexer allows. A
    /// virtual open brings the origin of its link's handshake, and is held to the same.
    pub(crate) async fn checked(parts: &mut Parts) -> Result<Self, Response> {
        let upgrade = Self::from_request_parts(parts, &()).await.map_err(IntoResponse::into_response)?;
        match refuse_reader(parts) {
            Some(refusal) => {
                warn!(path = excerpt(parts.uri.path()), "open refused: the page is of another origin");
                Err(refusal)
            }
            None => Ok(upgrade),
        }
    }
}

fn requested_protocols(headers: &HeaderMap) -> BTreeSet<HeaderValue> {
    let protocols = members(headers.get_all(header::SEC_WEBSOCKET_PROTOCOL));
    protocols.filter_map(|protocol| HeaderValue::from_str(protocol).ok()).collect()
}

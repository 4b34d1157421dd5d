//! The extractor that handlers use, for native and virtual opens.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{self, DefaultOnFailedUpgrade, OnFailedUpgrade};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use tokio::sync::oneshot;
use tracing::{Instrument, warn};

use crate::access::as_declared;
use crate::access::excerpt::excerpt;
use crate::access::reader::refuse_reader;
use crate::access::tokens::{join_upgrade, members};
use crate::ws::peer;
use crate::ws::pipe::Pipe;
use crate::ws::socket::WebSocket;

/// What a virtual open offers to the handler it is routed to, as an extension of the request. Whoever takes it gets
/// the pipe once the response has come back through all layers as 101.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    waiting: Arc<Mutex<Option<oneshot::Sender<Arc<Pipe>>>>>,
    /// The link.
    peer: u64,
}

impl Offer {
    pub(crate) fn new(peer: u64) -> Self {
        Self { waiting: Arc::default(), peer }
    }

    fn take_up(&self) -> oneshot::Receiver<Arc<Pipe>> {
        let (sender, receiver) = oneshot::channel();
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Where to send the pipe, if a handler waits for it.
    pub(crate) fn taken(&self) -> Option<oneshot::Sender<Arc<Pipe>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Extractor for WebSockets, native and virtual, with the interface of [axum's own](ws::WebSocketUpgrade).
///
/// Settings of the wire (buffer sizes, frames) concern native connections only: a virtual one has no wire of its own.
#[must_use]
#[derive(Debug)]
pub struct WebSocketUpgrade<F = DefaultOnFailedUpgrade>(Inner<F>);

#[derive(Debug)]
enum Inner<F> {
    Native(Box<ws::WebSocketUpgrade<F>>),
    Virtual(Virtual<F>),
}

#[derive(Debug)]
struct Virtual<F> {
    offer: Offer,
    requested: BTreeSet<HeaderValue>,
    protocol: Option<HeaderValue>,
    max_message_size: Option<usize>,
    /// `None`: nobody wants to know.
    on_failed_upgrade: Option<F>,
}

impl<F> WebSocketUpgrade<F> {
    /// Whether the socket will be a channel of a multiplexer. Handlers have no need to know; statistics may.
    pub fn is_virtual(&self) -> bool {
        matches!(self.0, Inner::Virtual(_))
    }

    /// The number of the link, or of the native socket.
    pub(crate) fn peer(&self) -> u64 {
        match &self.0 {
            Inner::Native(_) => peer::number(),
            Inner::Virtual(upgrade) => upgrade.offer.peer,
        }
    }

    fn map_native(self, change: impl FnOnce(ws::WebSocketUpgrade<F>) -> ws::WebSocketUpgrade<F>) -> Self {
        Self(match self.0 {
            Inner::Native(upgrade) => Inner::Native(Box::new(change(*upgrade))),
            Inner::Virtual(upgrade) => Inner::Virtual(upgrade),
        })
    }

    /// Size of a native connection's read buffer, in bytes.
    pub fn read_buffer_size(self, size: usize) -> Self {
        self.map_native(|upgrade| upgrade.read_buffer_size(size))
    }

    /// Bytes that a native connection gathers before it writes.
    pub fn write_buffer_size(self, size: usize) -> Self {
        self.map_native(|upgrade| upgrade.write_buffer_size(size))
    }

    /// The most bytes that a native connection's write buffer may hold.
    pub fn max_write_buffer_size(self, max: usize) -> Self {
        self.map_native(|upgrade| upgrade.max_write_buffer_size(max))
    }

    /// The largest frame of a native connection, in bytes.
    pub fn max_frame_size(self, max: usize) -> Self {
        self.map_native(|upgrade| upgrade.max_frame_size(max))
    }

    /// Whether a native connection accepts frames that are not masked.
    pub fn accept_unmasked_frames(self, accept: bool) -> Self {
        self.map_native(|upgrade| upgrade.accept_unmasked_frames(accept))
    }

    /// The largest message that the handler takes, in bytes. A larger one is an error, and ends the socket.
    pub fn max_message_size(mut self, max: usize) -> Self {
        if let Inner::Virtual(upgrade) = &mut self.0 {
            upgrade.max_message_size = Some(max);
        }
        self.map_native(|upgrade| upgrade.max_message_size(max))
    }

    /// Chooses the first of these subprotocols that the client offers.
    pub fn protocols<I>(self, protocols: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Cow<'static, str>>,
    {
        Self(match self.0 {
            Inner::Native(upgrade) => Inner::Native(Box::new(upgrade.protocols(protocols))),
            Inner::Virtual(mut upgrade) => {
                upgrade.protocol = protocols
                    .into_iter()
                    .filter_map(|protocol| HeaderValue::from_str(&protocol.into()).ok())
                    .find(|protocol| upgrade.requested.contains(protocol));
                Inner::Virtual(upgrade)
            }
        })
    }

    /// The subprotocols that the client offers.
    pub fn requested_protocols(&self) -> impl Iterator<Item = &HeaderValue> {
        let (native, requested) = match &self.0 {
            Inner::Native(upgrade) => (Some(upgrade.requested_protocols()), None),
            Inner::Virtual(upgrade) => (None, Some(upgrade.requested.iter())),
        };
        native.into_iter().flatten().chain(requested.into_iter().flatten())
    }

    /// Chooses a subprotocol, in place of what [`protocols`](Self::protocols) chose.
    pub fn set_selected_protocol(&mut self, protocol: HeaderValue) {
        match &mut self.0 {
            Inner::Native(upgrade) => upgrade.set_selected_protocol(protocol),
            Inner::Virtual(upgrade) => upgrade.protocol = Some(protocol),
        }
    }

    /// The subprotocol that has been chosen.
    pub fn selected_protocol(&self) -> Option<&HeaderValue> {
        match &self.0 {
            Inner::Native(upgrade) => upgrade.selected_protocol(),
            Inner::Virtual(upgrade) => upgrade.protocol.as_ref(),
        }
    }

    /// A callback for an upgrade that comes to nothing, for example because a layer replaces the response.
    pub fn on_failed_upgrade<C: OnFailedUpgrade>(self, callback: C) -> WebSocketUpgrade<C> {
        WebSocketUpgrade(match self.0 {
            Inner::Native(upgrade) => Inner::Native(Box::new(upgrade.on_failed_upgrade(callback))),
            Inner::Virtual(Virtual { offer, requested, protocol, max_message_size, .. }) => {
                Inner::Virtual(Virtual {
                    offer,
                    requested,
                    protocol,
                    max_message_size,
                    on_failed_upgrade: Some(callback),
                })
            }
        })
    }

    /// Answers the request, and calls back with the socket once it is open.
    #[must_use = "the socket opens when this response is returned"]
    pub fn on_upgrade<C, Fut>(self, callback: C) -> Response
    where
        C: FnOnce(WebSocket) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
        F: OnFailedUpgrade,
    {
        let upgrade = match self.0 {
            Inner::Native(upgrade) => {
                return upgrade.on_upgrade(move |socket| callback(WebSocket::native(socket)));
            }
            Inner::Virtual(upgrade) => upgrade,
        };
        let accepted = upgrade.offer.take_up();
        let protocol = upgrade.protocol.clone();
        let serving = async move {
            match accepted.await {
                Ok(pipe) => {
                    callback(WebSocket::virtual_(pipe, upgrade.protocol, upgrade.max_message_size)).await;
                }
                Err(_) => {
                    if let Some(callback) = upgrade.on_failed_upgrade {
                        callback.call(axum::Error::new("the response was not 101 in the end"));
                    }
                }
            }
        };
        tokio::spawn(serving.in_current_span());
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if let Some(protocol) = protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

impl<S: Send + Sync> FromRequestParts<S> for WebSocketUpgrade {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        if let Some(offer) = parts.extensions.get::<Offer>() {
            return Ok(Self(Inner::Virtual(Virtual {
                offer: offer.clone(),
                requested: requested_protocols(&parts.headers),
                protocol: None,
                max_message_size: None,
                on_failed_upgrade: None,
            })));
        }
        join_upgrade(&mut parts.headers);
        let upgrade = ws::WebSocketUpgrade::from_request_parts(parts, state)
            .await
            .map_err(as_declared::<WebSocketUpgradeRejection>)?;
        Ok(Self(Inner::Native(Box::new(upgrade))))
    }
}

impl WebSocketUpgrade {
    /// For endpoints that serve pages of the server's own origin, and those that the site or the multiplexer allows. A
    /// virtual open brings the origin of its link's handshake, and is held to the same.
    pub(crate) async fn checked(parts: &mut Parts) -> Result<Self, Response> {
        let upgrade = Self::from_request_parts(parts, &()).await?;
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

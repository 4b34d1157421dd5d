//! Dials a carrier for a link: a WebSocket, or HTTP where none opens (docs/protocol.md §3.3).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::SinkExt;
use futures_util::future::{self, Either};
use manysocket_protocol::client::FirstBatch;
use manysocket_protocol::{HANDSHAKE_PARAMETER, NONCE_PARAMETER, SUBPROTOCOL, Settings};
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::Message as WsMessage;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tracing::debug;

use super::carrier::Carrier;
use super::http;
use super::target::{Io, Target, connect};

/// How long the server has to answer the physical handshake, with the time to reach it: as the server's gateway.
const DIAL_TIMEOUT: Duration = Duration::from_secs(60);

/// The largest physical message: those of an honest server are below it (three times the largest piece, plus headers).
const MAX_PHYSICAL: usize = 4 << 20;

/// How long a WebSocket may take to open before HTTP is tried beside it.
const OPENS_WITHIN: Duration = Duration::from_secs(2);

pub(super) type Wire = WebSocketStream<Box<dyn Io>>;

/// An open connection, and its kind.
pub(super) type Dialled = (Wire, Carrier);

/// Connects to the multiplexer for a new link, with the first batch in the query. If the handshake fails, a second attempt sends
/// the batch as the first message: a proxy may refuse the length or the form of the query. So does HTTP.
pub(super) async fn dial_first(target: &Target, first: FirstBatch) -> Result<Dialled, WsError> {
    // Keyed at random, once in a process and for each use.
    let nonce = format!("{NONCE_PARAMETER}={}", RandomState::new().hash_one(()));
    let parameters = format!("{nonce}&{HANDSHAKE_PARAMETER}={}", first.value());
    let message = WsMessage::Binary(first.message());
    let websocket = async {
        if let Ok(wire) = dial_websocket(target, &parameters).await {
            return Ok(wire);
        }
        let mut wire = dial_websocket(target, &nonce).await?;
        wire.send(message.clone()).await?;
        Ok(wire)
    };
    let http = async {
        let (mut wire, carrier) = dial_http(target, &nonce).await?;
        wire.send(message.clone()).await?;
        Ok((wire, carrier))
    };
    in_time(either(target, websocket, http)).await
}

/// Connects to the multiplexer. `parameter` is added to the query: which link is resumed.
pub(super) async fn dial(target: &Target, parameter: &str) -> Result<Dialled, WsError> {
    in_time(either(target, dial_websocket(target, parameter), dial_http(target, parameter))).await
}

async fn in_time(attempts: impl Future<Output = Result<Dialled, WsError>>) -> Result<Dialled, WsError> {
    tokio::time::timeout(DIAL_TIMEOUT, attempts).await.unwrap_or_else(|_| {
        let why = format!("the server did not answer within {} s", DIAL_TIMEOUT.as_secs());
        Err(WsError::Io(io::Error::new(io::ErrorKind::TimedOut, why)))
    })
}

/// Dials a WebSocket, and HTTP if that fails or has not opened in time. The first that opens is taken.
async fn either(
    target: &Target,
    websocket: impl Future<Output = Result<Wire, WsError>>,
    http: impl Future<Output = Result<Dialled, WsError>>,
) -> Result<Dialled, WsError> {
    let websocket = async { websocket.await.map(|wire| (wire, Carrier::WebSocket)) };
    if !target.carriers.has_http() {
        return websocket.await;
    }
    let http = async {
        let dialled = http.await;
        // Where neither gets through, WebSockets may not be to blame.
        target.is_blocked.store(dialled.is_ok(), Relaxed);
        dialled
    };
    if !target.carriers.has_websocket() || target.is_blocked.load(Relaxed) {
        return http.await;
    }
    let mut websocket = Box::pin(websocket);
    match tokio::time::timeout(OPENS_WITHIN, &mut websocket).await {
        Ok(Ok(dialled)) => return Ok(dialled),
        Ok(Err(error)) => {
            debug!("no WebSocket opens, so the link goes over HTTP: {error}");
            return http.await;
        }
        Err(_) => debug!("no WebSocket has opened yet, so HTTP is tried, too"),
    }
    match future::select(websocket, Box::pin(http)).await {
        Either::Left((Ok(dialled), _)) | Either::Right((Ok(dialled), _)) => Ok(dialled),
        Either::Left((Err(_), http)) => http.await,
        Either::Right((Err(_), websocket)) => websocket.await,
    }
}

async fn dial_http(target: &Target, parameters: &str) -> Result<Dialled, WsError> {
    let (tunnel, carrier) = http::open(target, &target.address(parameters)).await?;
    let tunnel: Box<dyn Io> = Box::new(tunnel);
    Ok((WebSocketStream::from_raw_socket(tunnel, Role::Client, Some(config())).await, carrier))
}

/// Dials a WebSocket, with parameters.
pub(super) async fn dial_websocket(target: &Target, parameters: &str) -> Result<Wire, WsError> {
    let mut request = target.address(parameters).into_client_request()?;
    request.headers_mut().extend(target.handshake_headers());
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    let stream = connect(&target.url).await?;
    client_async_with_config(request, stream, Some(config())).await.map(|(wire, _)| wire)
}

fn config() -> WebSocketConfig {
    let max_message = MAX_PHYSICAL.max(3 * Settings::default().max_fragment as usize);
    WebSocketConfig::default().max_message_size(Some(max_message)).max_frame_size(Some(max_message))
}

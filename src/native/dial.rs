//! Dials the physical WebSocket of a link.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::SinkExt;
use manysocket_protocol::client::FirstBatch;
use manysocket_protocol::{HANDSHAKE_PARAMETER, NONCE_PARAMETER, SUBPROTOCOL, Settings};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::Message as WsMessage;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, error::TlsError, error::UrlError};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async_with_config};
use url::{Position, Url};

/// How long the server has to answer the physical handshake, with the time to reach it: as the server's gateway.
const DIAL_TIMEOUT: Duration = Duration::from_secs(60);

/// The largest physical message: what an honest server sends is below it (three times the largest piece, plus headers).
const MAX_PHYSICAL: usize = 4 << 20;

pub(super) type Wire = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Where a link leads, and what its handshakes carry.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
}

/// Connects to the multiplexer for a new link, with the first batch in the query. If the handshake fails, a second attempt sends
/// the batch as the first message: a proxy may refuse the length or the form of the query.
pub(super) async fn dial_first(target: &Target, first: FirstBatch) -> Result<Wire, WsError> {
    in_time(async {
        // Keyed at random, once in a process and for each use.
        let nonce = format!("{NONCE_PARAMETER}={}", RandomState::new().hash_one(()));
        let parameter = format!("{nonce}&{HANDSHAKE_PARAMETER}={}", first.value());
        let stream = connect(&target.url).await?;
        if let Ok(wire) = handshake(stream, target, &parameter).await {
            return Ok(wire);
        }
        let mut wire = handshake(connect(&target.url).await?, target, &nonce).await?;
        wire.send(WsMessage::Binary(first.message())).await?;
        Ok(wire)
    })
    .await
}

/// Connects to the multiplexer. `parameter` is added to the query: which link is resumed.
pub(super) async fn dial(target: &Target, parameter: &str) -> Result<Wire, WsError> {
    in_time(async { handshake(connect(&target.url).await?, target, parameter).await }).await
}

async fn in_time(attempts: impl Future<Output = Result<Wire, WsError>>) -> Result<Wire, WsError> {
    tokio::time::timeout(DIAL_TIMEOUT, attempts).await.unwrap_or_else(|_| {
        let why = format!("the server did not answer within {} s", DIAL_TIMEOUT.as_secs());
        Err(WsError::Io(io::Error::new(io::ErrorKind::TimedOut, why)))
    })
}

/// Sends the handshake, with parameters.
async fn handshake(
    stream: MaybeTlsStream<TcpStream>,
    target: &Target,
    parameters: &str,
) -> Result<Wire, WsError> {
    let Target { url, headers } = target;
    let mut address = url[..Position::AfterQuery].to_owned();
    // Appended as text: a query that the program wrote stays as it is.
    address.push(if url.query().is_some() { '&' } else { '?' });
    address.push_str(parameters);
    let mut request = address.into_client_request()?;
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    if let Ok(origin) = HeaderValue::from_str(&own_origin(url)) {
        request.headers_mut().insert(header::ORIGIN, origin);
    }
    for (name, value) in headers {
        request.headers_mut().insert(name, value.clone());
    }
    let max_message = MAX_PHYSICAL.max(3 * Settings::default().max_fragment as usize);
    let config =
        WebSocketConfig::default().max_message_size(Some(max_message)).max_frame_size(Some(max_message));
    client_async_with_config(request, stream, Some(config)).await.map(|(wire, _)| wire)
}

/// Connects to the server of a URL, by TLS if the URL says so.
async fn connect(url: &Url) -> Result<MaybeTlsStream<TcpStream>, WsError> {
    let host = url.host_str().ok_or(WsError::Url(UrlError::NoHostName))?.trim_matches(['[', ']']);
    let port = url.port_or_known_default().ok_or(WsError::Url(UrlError::UnableToConnect(url.to_string())))?;
    let stream = TcpStream::connect((host, port)).await?;
    // The client gathers small messages before it writes them.
    stream.set_nodelay(true)?;
    if url.scheme() != "wss" {
        return Ok(MaybeTlsStream::Plain(stream));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| WsError::Tls(TlsError::InvalidDnsName))?;
    Ok(MaybeTlsStream::Rustls(tls()?.connect(name, stream).await?))
}

/// The origin of a page that the server itself serves. A program has no page, and servers refuse handshakes without one.
fn own_origin(url: &Url) -> String {
    let scheme = if url.scheme() == "wss" { "https" } else { "http" };
    format!("{scheme}://{}", &url[Position::BeforeHost..Position::AfterPort])
}

/// TLS with the system's root certificates, read once.
fn tls() -> io::Result<TlsConnector> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(TlsConnector::from(Arc::clone(config)));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::clone(CONFIG.get_or_init(|| Arc::new(config)))))
}

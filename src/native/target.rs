//! Where a link leads, and connections to there.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::task::Context;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, header};
use tokio_tungstenite::tungstenite::{Error as WsError, error::TlsError, error::UrlError};
use url::{Position, Url};

use super::carrier::Carriers;

/// A connection, by TCP, by TLS, or through a tunnel.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    /// Returns the written bytes that this process still holds, and has the task woken once there are fewer. Those that wait in
    /// the system do not count, as for a page.
    fn untaken(&self, _: &Context<'_>) -> u64 {
        0
    }
}

impl Io for TcpStream {}

impl Io for TlsStream<TcpStream> {}

/// The target of a link, and the headers of its handshakes.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) carriers: Carriers,
    /// Whether a WebSocket has failed where HTTP did not.
    pub(super) is_blocked: Arc<AtomicBool>,
}

impl Target {
    /// Returns the headers of a handshake, over HTTP or not.
    pub(super) fn handshake_headers(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        if !headers.contains_key(header::ORIGIN)
            && let Ok(origin) = HeaderValue::from_str(&own_origin(&self.url))
        {
            headers.insert(header::ORIGIN, origin);
        }
        headers
    }

    /// Returns the URL with parameters. They are appended as text: a query that the program wrote stays as it is.
    pub(super) fn address(&self, parameters: &str) -> String {
        let mut address = self.url[..Position::AfterQuery].to_owned();
        address.push(if self.url.query().is_some() { '&' } else { '?' });
        address.push_str(parameters);
        address
    }
}

/// Connects to the server of a URL, by TLS if the URL says so.
pub(super) async fn connect(url: &Url) -> Result<Box<dyn Io>, WsError> {
    let host = url.host_str().ok_or(WsError::Url(UrlError::NoHostName))?.trim_matches(['[', ']']);
    let port = url.port_or_known_default().ok_or(WsError::Url(UrlError::UnableToConnect(url.to_string())))?;
    let stream = TcpStream::connect((host, port)).await?;
    // The client gathers small messages before it writes them.
    stream.set_nodelay(true)?;
    if url.scheme() != "wss" {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| WsError::Tls(TlsError::InvalidDnsName))?;
    Ok(Box::new(tls()?.connect(name, stream).await?))
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

//! TLS as a test has it: a certificate that signs itself, and a link through it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::{Endpoint, Event, Message, Physical, SUBPROTOCOL, Settings, Side};
use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self as ts};

use crate::common::PATIENCE;

/// A certificate that signs itself, and the files it is in.
pub(crate) struct Files {
    folder: tempfile::TempDir,
    certificate: CertificateDer<'static>,
}

impl Files {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut files = Self { folder, certificate: CertificateDer::from(Vec::new()) };
        files.renew();
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a new certificate with a new key.
    pub(crate) fn renew(&mut self) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(self.path("cert.pem"), certificate.pem()).expect("a file");
        std::fs::write(self.path("key.pem"), key.serialize_pem()).expect("a file");
        self.certificate = certificate.der().clone();
    }

    /// Connects for HTTP/1.1, if the server has this certificate.
    pub(crate) async fn connect(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_for(address, &["http/1.1"]).await
    }

    /// Connects, and offers the protocols.
    pub(crate) async fn connect_for(
        &self,
        address: SocketAddr,
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring's versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

pub(crate) type Wire = WebSocketStream<TlsStream<TcpStream>>;

/// A link with one channel, open.
pub(crate) struct Link<S = TlsStream<TcpStream>> {
    pub(crate) wire: WebSocketStream<S>,
    pub(crate) endpoint: Endpoint,
}

impl Link {
    pub(crate) async fn over(stream: TlsStream<TcpStream>, port: u16, path: &str) -> Self {
        Self::below("", stream, port, path).await
    }

    /// The same, where a proxy serves the multiplexer below a prefix.
    pub(crate) async fn below(prefix: &str, stream: TlsStream<TcpStream>, port: u16, path: &str) -> Self {
        let multiplexer = format!("{prefix}/multiplexer");
        Self::on(dial(stream, port, &multiplexer, Some(SUBPROTOCOL)).await, &multiplexer, path).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// Starts a link on a WebSocket to the multiplexer.
    pub(crate) async fn on(wire: WebSocketStream<S>, multiplexer: &str, path: &str) -> Self {
        let mut endpoint = Endpoint::new(Side::Client, Settings::default(), 0);
        endpoint.set_dialled_path(multiplexer);
        endpoint.open(path, "");
        let mut link = Self { wire, endpoint };
        assert!(matches!(link.event().await, Event::Accepted { .. }));
        link
    }

    /// Sends what there is to send.
    pub(crate) async fn flush(&mut self) {
        while let Some(message) = self.endpoint.poll_transmit() {
            let message = match message {
                Physical::Text(bytes) => ts::Message::Text(bytes.try_into().expect("UTF-8")),
                Physical::Binary(bytes) => ts::Message::Binary(bytes),
            };
            self.wire.send(message).await.expect("an open link");
        }
    }

    pub(crate) async fn event(&mut self) -> Event {
        loop {
            self.flush().await;
            match self.endpoint.poll_event() {
                Some(Event::Drained { .. }) => continue,
                Some(event) => return event,
                None => {}
            }
            let next = tokio::time::timeout(PATIENCE, self.wire.next()).await;
            let physical = match next.expect("a message in time").expect("an open link").expect("a message") {
                ts::Message::Text(text) => Physical::Text(text.into()),
                ts::Message::Binary(bytes) => Physical::Binary(bytes),
                // Answered by the library.
                ts::Message::Ping(_) => continue,
                other => panic!("{other:?}"),
            };
            self.endpoint.receive(0, physical).expect("a correct server");
        }
    }

    pub(crate) async fn assert_echo(&mut self, text: &str) {
        self.endpoint.send(1, Message::text(text));
        assert_eq!(self.event().await, Event::Message { channel: 1, message: Message::text(text) });
    }
}

/// A WebSocket as a page of that server makes it.
pub(crate) async fn dial(
    stream: TlsStream<TcpStream>,
    port: u16,
    path: &str,
    protocol: Option<&str>,
) -> Wire {
    let mut request = format!("wss://localhost:{port}{path}").into_client_request().expect("a URL");
    let origin = format!("https://localhost:{port}").parse().expect("a value");
    request.headers_mut().insert("origin", origin);
    // As a client may claim that imitates another.
    request.headers_mut().insert("x-forwarded-for", "203.0.113.66".parse().expect("a value"));
    if let Some(protocol) = protocol {
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse().expect("a value"));
    }
    tokio_tungstenite::client_async(request, stream).await.expect("a WebSocket").0
}

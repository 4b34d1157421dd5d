//! The binary with TLS of its own: links over wss:, and certificates that are replaced while it serves.
#![cfg(unix)]

mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::binary::Binary;
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::{Endpoint, Event, Message, Physical, SUBPROTOCOL, Settings, Side};
use rcgen::{CertificateParams, KeyPair};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self as ts};

/// A certificate that signs itself, and the files it is in.
struct Files {
    folder: tempfile::TempDir,
    certificate: CertificateDer<'static>,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut files = Self { folder, certificate: CertificateDer::from(Vec::new()) };
        files.renew();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a new certificate with a new key.
    fn renew(&mut self) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(self.path("cert.pem"), certificate.pem()).expect("a file");
        std::fs::write(self.path("key.pem"), key.serialize_pem()).expect("a file");
        self.certificate = certificate.der().clone();
    }

    async fn serve(&self) -> Binary {
        let (certificate, key) = (self.path("cert.pem"), self.path("key.pem"));
        let certificate = certificate.to_str().expect("UTF-8");
        Binary::start(&["--tls-cert", certificate, "--tls-key", key.to_str().expect("UTF-8")], &[]).await
    }

    /// Connects, if the server has this certificate.
    async fn connect(&self, binary: &Binary) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring's versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = TcpStream::connect(binary.server.address).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

type Wire = tokio_tungstenite::WebSocketStream<TlsStream<TcpStream>>;

/// A link with one channel, open.
struct Link {
    wire: Wire,
    endpoint: Endpoint,
}

impl Link {
    async fn over(stream: TlsStream<TcpStream>, port: u16) -> Self {
        let mut endpoint = Endpoint::new(Side::Client, Settings::default(), 0);
        endpoint.open("/demo/echo", "");
        let mut request = format!("wss://localhost:{port}/multiplexer").into_client_request().expect("a URL");
        let origin = format!("https://localhost:{port}").parse().expect("a value");
        request.headers_mut().insert("origin", origin);
        request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().expect("a value"));
        let (wire, _) = tokio_tungstenite::client_async(request, stream).await.expect("a link");
        let mut link = Self { wire, endpoint };
        assert!(matches!(link.event().await, Event::Accepted { .. }));
        link
    }

    async fn event(&mut self) -> Event {
        loop {
            while let Some(message) = self.endpoint.poll_transmit() {
                let message = match message {
                    Physical::Text(bytes) => ts::Message::Text(bytes.try_into().expect("UTF-8")),
                    Physical::Binary(bytes) => ts::Message::Binary(bytes),
                };
                self.wire.send(message).await.expect("an open link");
            }
            match self.endpoint.poll_event() {
                Some(Event::Drained { .. }) => continue,
                Some(event) => return event,
                None => {}
            }
            let next = tokio::time::timeout(Duration::from_secs(10), self.wire.next()).await;
            let physical = match next.expect("a message in time").expect("an open link").expect("a message") {
                ts::Message::Text(text) => Physical::Text(text.into()),
                ts::Message::Binary(bytes) => Physical::Binary(bytes),
                other => panic!("{other:?}"),
            };
            self.endpoint.receive(0, physical).expect("a correct server");
        }
    }

    async fn assert_echo(&mut self, text: &str) {
        self.endpoint.send(1, Message::text(text));
        assert_eq!(self.event().await, Event::Message { channel: 1, message: Message::text(text) });
    }
}

#[tokio::test]
async fn a_link_over_tls() {
    let files = Files::new();
    let binary = files.serve().await;
    let stream = files.connect(&binary).await.expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut link = Link::over(stream, binary.server.address.port()).await;
    link.assert_echo("in secret").await;
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections() {
    let mut files = Files::new();
    let mut binary = files.serve().await;
    let port = binary.server.address.port();
    let mut old = Link::over(files.connect(&binary).await.expect("TLS"), port).await;

    // The key of another certificate: nothing changes.
    let right = std::fs::read(files.path("key.pem")).expect("a key");
    let other = KeyPair::generate().expect("a key").serialize_pem();
    std::fs::write(files.path("key.pem"), other).expect("a file");
    binary.signal("HUP").await;
    let line = binary.logged("has not been replaced").await;
    assert!(line.contains("cert.pem") && line.contains("key.pem"), "{line}");
    files.connect(&binary).await.expect("the certificate of before");
    std::fs::write(files.path("key.pem"), right).expect("a file");

    files.renew();
    files.connect(&binary).await.expect_err("nobody has told the server");
    binary.signal("HUP").await;
    binary.logged("has been read again").await;
    Link::over(files.connect(&binary).await.expect("TLS"), port).await.assert_echo("new").await;
    old.assert_echo("old").await;
}

#[tokio::test]
async fn who_does_not_speak_tls_is_given_up_in_time() {
    let files = Files::new();
    let binary = files.serve().await;
    let mut silent = TcpStream::connect(binary.server.address).await.expect("a connection");
    let ended = tokio::time::timeout(Duration::from_secs(20), silent.read_u8()).await;
    ended.expect("an end in time").expect_err("nothing is sent");
    files.connect(&binary).await.expect("others are served");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_an_error_at_start() {
    let files = Files::new();
    let (certificate, key) = (files.path("cert.pem"), files.path("key.pem"));
    for (certificate, key, reason) in [
        (&key, &key, "there is no certificate in it"),
        (&certificate, &certificate, "cert.pem: "),
        (&files.path("none.pem"), &key, "none.pem: "),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_manysocket-server"))
            .args(["--listen", "127.0.0.1:0", "--tls-cert"])
            .arg(certificate)
            .arg("--tls-key")
            .arg(key)
            .output()
            .expect("the binary");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(reason), "{error}");
        assert!(output.stdout.is_empty(), "it is not ready");
    }
}

//! The binary's gateway to an upstream with TLS: trusted by the certificates of the system, or not at all.

mod common;

use std::sync::Arc;

use common::binary::Binary;
use common::{KINDS, Kind, Received, Socket};
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::Message;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

/// An authority, and a certificate from it for a name.
struct Pki {
    authority: String,
    acceptor: TlsAcceptor,
}

impl Pki {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring's versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .expect("a certificate with its key");
        Self { authority, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    /// Starts an upstream that echoes; its port.
    async fn serve(&self) -> u16 {
        let acceptor = self.acceptor.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await.ok()?;
                    let mut wire = tokio_tungstenite::accept_async(stream).await.ok()?;
                    while let Some(Ok(message)) = wire.next().await {
                        wire.send(message).await.ok()?;
                    }
                    Some(())
                });
            }
        });
        port
    }
}

/// The binary, with one upstream, and one authority in place of the system's.
async fn binary(upstream: &str, authority: &str) -> Binary {
    let file = std::env::temp_dir().join(format!("manysocket-{}-{}.pem", std::process::id(), upstream.len()));
    std::fs::write(&file, authority).expect("a temporary file");
    let variables = [("SSL_CERT_FILE", file.to_str().expect("UTF-8"))];
    let binary = Binary::start(&["--upstream", &format!("/up={upstream}")], &variables).await;
    std::fs::remove_file(file).expect("the temporary file");
    binary
}

async fn open(binary: &Binary, kind: Kind) -> Result<Socket, u16> {
    Socket::open(kind, &binary.server, "/up", "", "").await.map(|(socket, _)| socket)
}

#[tokio::test]
async fn an_upstream_with_a_trusted_certificate_is_reached() {
    let pki = Pki::new("localhost");
    let binary = binary(&format!("wss://localhost:{}", pki.serve().await), &pki.authority).await;
    for kind in KINDS {
        let mut socket = open(&binary, kind).await.expect("open");
        socket.send(Message::text("through TLS")).await;
        assert_eq!(socket.receive().await, Received::Message(Message::text("through TLS")));
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_a_failure_with_a_reason() {
    let pki = Pki::new("localhost");
    let mut binary =
        binary(&format!("wss://localhost:{}/x", pki.serve().await), &Pki::new("x").authority).await;
    for kind in KINDS {
        assert_eq!(open(&binary, kind).await.err(), Some(502));
        let line = binary.logged("cannot be reached").await;
        assert!(line.contains("UnknownIssuer") || line.contains("BadSignature"), "{line}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_a_failure_with_a_reason() {
    let pki = Pki::new("other.example");
    let mut binary = binary(&format!("wss://localhost:{}/xy", pki.serve().await), &pki.authority).await;
    assert_eq!(open(&binary, Kind::Virtual).await.err(), Some(502));
    let line = binary.logged("cannot be reached").await;
    assert!(line.contains("not valid for name"), "{line}");
}

//! The binary with its own TLS: links over wss:, and certificates that are replaced while it serves.
#![cfg(unix)]

mod common;

use common::binary::Binary;
use common::tls::{Files, Link};
use rcgen::KeyPair;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ECHO: &str = "/demo/echo";

async fn serve(files: &Files) -> Binary {
    let (certificate, key) = (files.path("cert.pem"), files.path("key.pem"));
    let certificate = certificate.to_str().expect("UTF-8");
    Binary::start(&["--tls-cert", certificate, "--tls-key", key.to_str().expect("UTF-8")], &[]).await
}

#[tokio::test]
async fn a_link_over_tls() {
    let files = Files::new();
    let binary = serve(&files).await;
    let address = binary.server.address;
    for (offered, expected) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["http/1.1", "h2"], Some("h2")),
        (&[], None),
    ] {
        let stream = files.connect_for(address, offered).await.expect("TLS");
        assert_eq!(stream.get_ref().1.alpn_protocol(), expected.map(str::as_bytes), "{offered:?}");
    }
    let stream = files.connect(address).await.expect("TLS");
    let mut link = Link::over(stream, binary.server.address.port(), ECHO).await;
    link.assert_echo("in secret").await;
}

/// A page that came over plain HTTP may be anybody's on the way. The server ends TLS, so it knows its scheme.
#[tokio::test]
async fn pages_of_the_same_host_without_tls_are_of_another_origin() {
    let files = Files::new();
    let binary = serve(&files).await;
    let address = binary.server.address;
    for (path, protocol) in
        [("/multiplexer", "manysocket.v1"), ("/demo/topics/x", "a"), ("/demo/state/x", "a"), ("/demo/", "a")]
    {
        for (origin, expected) in [
            (format!("https://localhost:{}", address.port()), "101"),
            (format!("http://localhost:{}", address.port()), "403"),
            ("http://localhost".into(), "403"),
            ("https://localhost".into(), "403"),
        ] {
            // A client's claims about a proxy change nothing.
            for more in ["", "X-Forwarded-Proto: http\r\n", "Forwarded: proto=http\r\n"] {
                let mut stream = files.connect(address).await.expect("TLS");
                let request = format!(
                    "GET {path} HTTP/1.1\r\nHost: localhost:{}\r\nOrigin: {origin}\r\n{more}Connection: upgrade\r\n\
                     Upgrade: websocket\r\nSec-WebSocket-Protocol: {protocol}\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                    address.port()
                );
                stream.write_all(request.as_bytes()).await.expect("a server");
                let mut line = [0; "HTTP/1.1 101".len()];
                stream.read_exact(&mut line).await.expect("an answer");
                assert_eq!(String::from_utf8_lossy(&line), format!("HTTP/1.1 {expected}"), "{request}");
            }
        }
    }
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections() {
    let mut files = Files::new();
    let mut binary = serve(&files).await;
    let port = binary.server.address.port();
    let mut old = Link::over(files.connect(binary.server.address).await.expect("TLS"), port, ECHO).await;

    // The key of another certificate: nothing changes.
    let right = std::fs::read(files.path("key.pem")).expect("a key");
    let other = KeyPair::generate().expect("a key").serialize_pem();
    std::fs::write(files.path("key.pem"), other).expect("a file");
    binary.signal("HUP").await;
    let line = binary.logged("has not been replaced").await;
    assert!(line.contains("cert.pem") && line.contains("key.pem"), "{line}");
    files.connect(binary.server.address).await.expect("the certificate of before");
    std::fs::write(files.path("key.pem"), right).expect("a file");

    files.renew();
    files.connect(binary.server.address).await.expect_err("nobody has told the server");
    binary.signal("HUP").await;
    binary.logged("has been read again").await;
    Link::over(files.connect(binary.server.address).await.expect("TLS"), port, ECHO)
        .await
        .assert_echo("new")
        .await;
    old.assert_echo("old").await;
}

#[tokio::test]
async fn who_does_not_speak_tls_is_given_up_in_time() {
    let files = Files::new();
    let binary = serve(&files).await;
    let mut silent = TcpStream::connect(binary.server.address).await.expect("a connection");
    let ended = tokio::time::timeout(common::PATIENCE, silent.read_u8()).await;
    ended.expect("an end in time").expect_err("nothing is sent");
    files.connect(binary.server.address).await.expect("others are served");
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

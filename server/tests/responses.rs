//! Headers that all responses of the binary have, and the hosts that get them.
#![cfg(unix)]

mod common;

use std::net::SocketAddr;

use common::binary::Binary;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The head of the answer to a request, whose `Host` may bring further lines with it; in lower case.
async fn head(address: SocketAddr, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("an open connection");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("an answer"));
    }
    String::from_utf8(answer).expect("ASCII").to_ascii_lowercase()
}

async fn assert_answer(address: SocketAddr, path: &str, host: &str, status: &str) {
    let head = head(address, path, host).await;
    assert!(head.starts_with(&format!("http/1.1 {status}")), "{path} {host}: {head}");
    assert!(head.contains("\r\nx-content-type-options: nosniff\r\n"), "{path} {host}: {head}");
}

/// A site whose name is made to lead here has its visitors' browsers ask with that name.
#[tokio::test]
async fn figures_are_not_for_sites_whose_names_lead_here() {
    let arguments = ["--metrics", "127.0.0.1:0", "--metrics-host", "metrics.example.com"];
    let mut binary = Binary::start(&arguments, &[]).await;
    let line = binary.logged("metrics on http://").await;
    let (_, address) = line.split_once("http://").expect("a URL");
    let address = address.trim_end_matches("/metrics").parse().expect("an address");
    for (host, path, expected) in [
        ("127.0.0.1:9090", "/metrics", "200"),
        ("localhost", "/metrics", "200"),
        ("manysocket:9090", "/metrics", "200"),
        ("metrics.example.com:9090", "/metrics", "200"),
        ("rebound.evil.example:9090", "/metrics", "421"),
        ("127.0.0.1.evil.example", "/metrics", "421"),
        ("metrics.example.com\r\nHost: evil.example", "/metrics", "421"),
        // It says nothing that is worth it, and balancers ask with any name.
        ("rebound.evil.example:9090", "/healthz", "200"),
    ] {
        assert_answer(address, path, host, expected).await;
    }
}

/// They may contain text of others: names of topics, parts of requests, files.
#[tokio::test]
async fn every_response_is_what_it_is_declared_to_be() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a.txt"), "<script>").expect("a file");
    let files = folder.path().to_str().expect("UTF-8");
    let binary = Binary::start(&["--static", files], &[]).await;
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket";
    let handshake =
        format!("{upgrade}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==");
    let foreign = "Origin: http://evil.example";
    for (path, more, status) in [
        ("/a.txt", "", "200"),
        ("/none", "", "404"),
        ("/demo/", "", "200"),
        ("/demo", "", "308"),
        ("/demo/", "Accept: text/html", "200"),
        ("/demo/", "Accept: text/event-stream", "200"),
        ("/demo/", "Accept: image/png", "406"),
        ("/demo/topics/x", "Accept: text/event-stream", "200"),
        ("/demo/topics/x", &format!("{foreign}\r\nAccept: text/event-stream"), "403"),
        ("/demo/topics/x", &format!("{foreign}\r\n{handshake}"), "403"),
        ("/demo/echo", "", "426"),
        ("/demo/echo", "Accept: text/html", "426"),
        ("/demo/rpc/add", "", "426"),
        ("/demo/state/x", "", "426"),
        ("/demo/stats", "", "200"),
        ("/demo/echo", upgrade, "400"),
        ("/multiplexer", "", "426"),
        ("/multiplexer", upgrade, "400"),
        ("/multiplexer", &handshake, "403"),
        ("/demo/echo", "Host: b.example", "400"),
    ] {
        let lines = if more.is_empty() { "a.example".to_owned() } else { format!("a.example\r\n{more}") };
        assert_answer(binary.server.address, path, &lines, status).await;
    }
    let upstream = Binary::start(&["--upstream", "/chat=ws://127.0.0.1:1"], &[]).await;
    assert_answer(upstream.server.address, "/chat/%2e%2e", "a.example", "400").await;
    let lines = format!("a.example\r\n{handshake}");
    assert_answer(upstream.server.address, "/chat/a", &lines, "502").await;
}

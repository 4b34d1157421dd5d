//! Upstream servers that a test controls byte by byte.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use manysocket_server::Gateway;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::common::Server;

/// Starts an upstream server that does the same with each connection, once it has read the request's head.
pub(crate) async fn upstream<F>(serve: impl Fn(TcpStream, String) -> F + Clone + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    upstream_at(("127.0.0.1", 0), serve).await
}

/// The same at an address of one's choice.
pub(crate) async fn upstream_at<F>(
    address: impl ToSocketAddrs,
    serve: impl Fn(TcpStream, String) -> F + Clone + Send + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let serve = serve.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    // The client may have given up.
                    let Ok(byte) = stream.read_u8().await else { return };
                    head.push(byte);
                }
                serve(stream, String::from_utf8(head).expect("ASCII")).await;
            });
        }
    });
    address
}

pub(crate) async fn gateway(upstream: SocketAddr) -> Server {
    let gateway = Gateway::new("/up", &format!("ws://{upstream}")).expect("a gateway");
    Server::start(gateway.mount(Router::new())).await
}

/// A header's value in a request's head, whatever its case.
pub(crate) fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// A correct 101, with more header lines.
pub(crate) fn accepting(head: &str, more: &str) -> String {
    let key = derive_accept_key(value(head, "Sec-WebSocket-Key").expect("a key").as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {key}\r\n{more}\r\n"
    )
}

pub(crate) async fn accepted(mut stream: TcpStream, head: &str) -> WebSocketStream<TcpStream> {
    let protocol = value(head, "Sec-WebSocket-Protocol").and_then(|offered| offered.split(", ").next());
    let more = protocol.map(|chosen| format!("Sec-WebSocket-Protocol: {chosen}\r\n")).unwrap_or_default();
    stream.write_all(accepting(head, &more).as_bytes()).await.expect("a client");
    WebSocketStream::from_raw_socket(stream, Role::Server, None).await
}

/// A frame as a server sends it; at most 125 bytes.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, u8::try_from(payload.len()).expect("short")];
    frame.extend(payload);
    frame
}

/// Lets time pass at once.
pub(crate) async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

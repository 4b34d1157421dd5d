//! A page reads the last Close of a native socket, whatever it was sending when the server closed.

mod common;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message};
use axum::routing::any;
use common::{PATIENCE, Server};
use manysocket_server::rpc::rpc;
use manysocket_server::topic::Topics;
use manysocket_server::{Site, WebSocketUpgrade};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes of a message: more than one read of the server and than its largest topic message and call.
const LARGE: usize = 8 << 20;

/// Returns the server of the tests.
async fn server() -> Server {
    // Closes at once, while the page sends.
    let closes = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| {
            let close = CloseFrame { code: 4001, reason: "enough".into() };
            let _ = socket.send(Message::Close(Some(close))).await;
        })
    };
    // Gives up at the first error, and says nothing.
    let silent = async |upgrade: WebSocketUpgrade| {
        upgrade
            .max_message_size(1000)
            .on_upgrade(async |mut socket| while let Some(Ok(_)) = socket.recv().await {})
    };
    let router = Site::new()
        .endpoint("/topic/{name}", Topics::new().endpoint())
        .endpoint("/call", rpc(async |text: String| text).endpoint())
        .into_router();
    let app: Router = router.route("/closes", any(closes)).route("/silent", any(silent));
    Server::start(app).await
}

/// Opens a native socket by hand, sends a frame whose payload comes without a pause, and returns the bytes of the server
/// before it ended the connection. An error is a reset: it discards unread bytes.
async fn send_large(server: &Server, path: &str, first: u8) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server.address).await?;
    let address = server.address;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    let mut frame = vec![first, 0xff];
    frame.extend_from_slice(&(LARGE as u64).to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.resize(frame.len() + LARGE, b'x');
    stream.write_all(&frame).await?;
    // Only now the page reads.
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await?;
    Ok(received)
}

/// Returns the code of the Close frame at the end of a server's bytes.
fn close_code(received: &[u8]) -> Option<u16> {
    let at = received.iter().rposition(|byte| *byte == 0x88)?;
    Some(u16::from_be_bytes(received.get(at + 2..at + 4)?.try_into().ok()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_sends_too_much_reads_why_its_socket_was_closed() {
    let server = server().await;
    for (path, first, expected) in [
        ("/topic/large", 0x81, 1009),
        ("/topic/large", 0x82, 1009),
        ("/call", 0x81, 1009),
        ("/silent", 0x82, 1009),
        // A reserved bit: the rest cannot be split into frames.
        ("/silent", 0xc2, 1002),
        ("/topic/broken", 0xc2, 1002),
        ("/closes", 0x82, 4001),
    ] {
        let received = timeout(PATIENCE, send_large(&server, path, first)).await.expect("no hang");
        let received = received.unwrap_or_else(|error| panic!("{path} {first:#x}: {error}"));
        assert_eq!(close_code(&received), Some(expected), "{path} {first:#x}: {received:?}");
    }
}

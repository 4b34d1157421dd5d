//! How long an HTTP connection lasts between requests, and how long the head of a request may take.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use common::PATIENCE;
use common::upstream::pass;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

/// A server of a path that answers at once, and of one that says when it has been asked and waits until it may answer.
async fn serving() -> (SocketAddr, mpsc::UnboundedReceiver<()>, Arc<Notify>) {
    let (tell, asked) = mpsc::unbounded_channel();
    let go = Arc::new(Notify::new());
    let gone = Arc::clone(&go);
    let slow = get(async move || {
        let _ = tell.send(());
        gone.notified().await;
        "late"
    });
    let app = Router::new().route("/", get(async || "hello")).route("/slow", slow);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(manysocket_server::serve(listener, app).into_future());
    (address, asked, go)
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("a connection")
}

async fn ask(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("an open connection");
}

/// Reads an answer of the two, which end differently.
async fn answer(stream: &mut TcpStream, end: &[u8]) {
    let mut answer = Vec::new();
    while !answer.ends_with(end) {
        answer.push(stream.read_u8().await.expect("an answer"));
    }
}

/// Waits for the end of a connection, after which the server sends nothing more.
async fn ends(stream: &mut TcpStream) {
    let ended = tokio::time::timeout(PATIENCE, stream.read_u8()).await;
    ended.expect("an end").expect_err("nothing is sent");
}

/// Waits until the server has read all bytes: in the same thread, it then answers others.
async fn settle(address: SocketAddr) {
    for _ in 0..3 {
        let mut other = connect(address).await;
        ask(&mut other, "/").await;
        answer(&mut other, b"hello").await;
    }
}

/// Balancers keep connections for a minute: the server must not be the first to end one, with a request on its way.
#[tokio::test]
async fn a_connection_is_kept_longer_than_balancers_keep_it() {
    let (address, mut asked, go) = serving().await;
    let mut stream = connect(address).await;
    for _ in 0..3 {
        ask(&mut stream, "/").await;
        answer(&mut stream, b"hello").await;
        pass(74).await;
        settle(address).await;
    }
    // The server's slowness is not the client's fault.
    ask(&mut stream, "/slow").await;
    asked.recv().await.expect("a request");
    for _ in 0..3 {
        pass(74).await;
        settle(address).await;
    }
    go.notify_one();
    answer(&mut stream, b"late").await;
    pass(74).await;
    settle(address).await;
    ask(&mut stream, "/").await;
    answer(&mut stream, b"hello").await;
    settle(address).await;
    pass(76).await;
    ends(&mut stream).await;
}

/// From its first byte on, however long the connection was idle before.
#[tokio::test]
async fn a_head_has_ten_seconds() {
    let (address, ..) = serving().await;
    // The first of a connection, if nothing comes at all, too; a later one; one whose beginning comes with the last request.
    for (before, first) in [("", ""), ("", "GET / HT"), ("/", "GET / HT"), ("/", "G")] {
        let mut stream = connect(address).await;
        if !before.is_empty() {
            ask(&mut stream, before).await;
            answer(&mut stream, b"hello").await;
            settle(address).await;
            pass(60).await;
        }
        stream.write_all(first.as_bytes()).await.expect("a connection");
        settle(address).await;
        pass(6).await;
        settle(address).await;
        // Another byte is no excuse.
        if !first.is_empty() {
            stream.write_all(b"E").await.expect("a connection");
        }
        settle(address).await;
        pass(6).await;
        ends(&mut stream).await;
    }
}

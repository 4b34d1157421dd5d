//! The program, run against a real server.

use std::future::IntoFuture;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::extract::ws::{CloseFrame, Message};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use manysocket_server::{Multiplexer, WebSocketUpgrade, serve};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;

/// Starts a server; returns the URL of its multiplexer.
async fn server() -> String {
    let tries = Arc::new(AtomicU32::new(0));
    let app = Router::new()
        .route("/echo", any(echo))
        .route(
            "/token",
            any(async |headers: HeaderMap, upgrade: WebSocketUpgrade| {
                upgrade.on_upgrade(async move |mut socket| {
                    let token = headers
                        .get("authorization")
                        .map(|token| String::from_utf8_lossy(token.as_bytes()).into_owned());
                    let _ = socket.send(Message::Text(token.unwrap_or_default().into())).await;
                    let _ = socket.send(Message::Close(None)).await;
                })
            }),
        )
        .route("/bytes", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(bytes)))
        .route("/closes", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(closes)))
        .route(
            "/third-time",
            any(async move |upgrade: WebSocketUpgrade| {
                if tries.fetch_add(1, Ordering::Relaxed) < 2 {
                    return StatusCode::SERVICE_UNAVAILABLE.into_response();
                }
                upgrade.on_upgrade(bytes)
            }),
        );
    // The link's handshake needs the header that `--header` adds.
    let app = Multiplexer::new("/multiplexer").serve(app).layer(axum::middleware::from_fn(
        async |headers: HeaderMap, request: axum::extract::Request, next: axum::middleware::Next| {
            match request.uri().path() == "/multiplexer"
                && headers.get("x-key").is_none_or(|key| key != "open: sesame")
            {
                true => StatusCode::UNAUTHORIZED.into_response(),
                false => next.run(request).await,
            }
        },
    ));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve(listener, app).into_future());
    format!("ws://{address}/multiplexer")
}

async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

async fn bytes(mut socket: manysocket_server::WebSocket) {
    let _ = socket.send(Message::Binary(vec![0, 255].into())).await;
    while let Some(Ok(_)) = socket.recv().await {}
}

async fn closes(mut socket: manysocket_server::WebSocket) {
    let _ = socket.send(Message::Close(Some(CloseFrame { code: 4001, reason: "enough".into() }))).await;
}

/// Runs the program with an input that ends; returns its output.
async fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_manysocket"))
        .args(arguments)
        .args(["--header", "X-Key: open: sesame"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).await.expect("the program reads");
    drop(stdin);
    child.wait_with_output().await.expect("the program ends")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[tokio::test]
async fn lines_are_sent_and_messages_printed() {
    let url = server().await;
    let output = run(&["connect", &url, "/echo", "--count", "2"], "hello\ngrüße\n").await;
    assert_eq!(text(&output.stdout), "hello\ngrüße\n", "{}", text(&output.stderr));
    assert!(output.status.success());
}

#[tokio::test]
async fn an_open_carries_headers() {
    let url = server().await;
    let output = run(&["connect", &url, "/token", "--open-header", "Authorization: Bearer a"], "").await;
    assert_eq!(text(&output.stdout), "Bearer a\n", "{}", text(&output.stderr));
    assert!(output.status.success());
}

#[tokio::test]
async fn several_sockets_share_the_link() {
    let url = server().await;
    let output = run(&["connect", &url, "/echo", "/bytes", "--count", "2"], "nobody\n3:x\n1:hi\n").await;
    let mut lines: Vec<_> = text(&output.stdout).lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["1:hi", "2:0x00ff"]);
    assert_eq!(text(&output.stderr).lines().count(), 2, "{}", text(&output.stderr));
}

#[tokio::test]
async fn json_is_checked_and_shortened() {
    let url = server().await;
    let output =
        run(&["connect", &url, "/echo", "--json", "--count", "1"], "{no json}\n{ \"a\": [1, 0.1] }\n").await;
    assert_eq!(text(&output.stdout), "{\"a\":[1,0.1]}\n");
    assert!(text(&output.stderr).contains("{no json}"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_close_a_refusal_and_a_missing_server_are_failures() {
    let url = server().await;
    for (arguments, why) in [
        (["connect", &url, "/closes"], "closed with 4001 \"enough\""),
        (["connect", &url, "/nothing"], "404"),
        (["connect", "ws://127.0.0.1:1/multiplexer", "/echo"], "never opened"),
        (["connect", "nonsense", "/echo"], "nonsense"),
        (["bench", &url, "/bytes"], "does not echo"),
    ] {
        let output = run(&arguments, "").await;
        assert!(text(&output.stderr).contains(why), "{arguments:?}: {}", text(&output.stderr));
        assert!(!output.status.success());
    }
}

#[tokio::test]
async fn a_socket_that_fails_is_opened_again() {
    let url = server().await;
    let output = run(&["connect", &url, "/third-time", "--reconnect", "--count", "1"], "").await;
    assert_eq!(text(&output.stdout), "0x00ff\n", "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr).matches("503").count(), 2, "{}", text(&output.stderr));
}

#[tokio::test]
async fn the_benchmark_counts_echoes() {
    let url = server().await;
    let output = run(&["bench", &url, "/echo", "--sockets", "20", "--messages", "5"], "").await;
    let text = text(&output.stdout);
    assert!(text.contains("opened 20 sockets") && text.contains("echoed 100 messages of 32 bytes"), "{text}");
    assert!(output.status.success());
}

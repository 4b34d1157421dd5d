//! An axum application with a multiplexer around it. `cargo run --example echo`

use axum::{Router, response::Response, routing::any, serve::ListenerExt};
use manysocket_server::{Multiplexer, WebSocketUpgrade};

async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = Router::new().route("/echo", any(echo));
    let app = Multiplexer::new("/multiplexer").serve(app);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    println!("ws://127.0.0.1:8080/echo, and the same over the multiplexer at /multiplexer");
    // Small messages go at once: otherwise TCP waits for the answer to the last one (Nagle's algorithm).
    let listener = listener.tap_io(|tcp| drop(tcp.set_nodelay(true)));
    axum::serve(listener, app).await
}

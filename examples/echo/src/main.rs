//! One handler, for native sockets at `/echo/NAME` and for any number of virtual ones over the multiplexer.

use axum::Router;
use axum::extract::Path;
use axum::response::{Html, Response};
use axum::routing::{any, get};
use manysocket_server::{Multiplexer, WebSocketUpgrade};
use tokio::net::TcpListener;
use tower_http::services::ServeDir;

/// Greets, then sends everything back.
async fn echo(Path(name): Path<String>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket| async move {
        if socket.send(format!("this is {name}").into()).await.is_err() {
            return;
        }
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = Router::new().route("/echo/{name}", any(echo));
    // The npm package from `cargo xtask build`.
    let package = ServeDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pkg"));
    let page = get(async || Html(include_str!("../index.html")));
    let app = app.route("/", page).nest_service("/pkg", package);
    let app = Multiplexer::new("/multiplexer").serve(app);

    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    manysocket_server::serve(listener, app).await
}

//! A multiplexer in front of a WebSocket server in any language: `backend.mjs` is one in JavaScript, without any change.
//! The program `manysocket-server` does the same with `--upstream /chat=ws://127.0.0.1:9000/`.

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use manysocket_server::{Gateway, Multiplexer};
use tokio::net::TcpListener;
use tower_http::services::ServeDir;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let backend = std::env::args().nth(2).unwrap_or("ws://127.0.0.1:9000/".into());
    let gateway = Gateway::new("/chat", &backend).map_err(std::io::Error::other)?;
    let app = gateway.mount(Router::new());
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

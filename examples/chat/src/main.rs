//! Chat rooms: each URL below `/rooms/` is a topic, which sends every message to every socket on it.

use axum::response::Html;
use axum::routing::get;
use manysocket_server::topic::Topics;
use manysocket_server::{Multiplexer, Site};
use tokio::net::TcpListener;
use tower_http::services::ServeDir;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    // A late subscriber gets the last 50 messages. `/rooms/` lists the rooms.
    let rooms = Topics::new().history(50);
    let page = get(async || Html(include_str!("../index.html")));
    let app = Site::new().route("/", page).endpoint("/rooms/{room}", rooms.endpoint()).into_router();
    // The npm package from `cargo xtask build`.
    let package = ServeDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pkg"));
    let app = Multiplexer::new("/multiplexer").serve(app.nest_service("/pkg", package));

    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    manysocket_server::serve(listener, app).await
}

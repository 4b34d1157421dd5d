//! Spreadsheets: each URL below `/sheets/` is a JSON document that pages share, with atomic commits.

use axum::response::Html;
use axum::routing::get;
use manysocket_server::state::{Documents, Store};
use manysocket_server::{Multiplexer, Site};
use serde_json::json;
use tokio::net::TcpListener;
use tower_http::services::ServeDir;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    // `Store::open("sheets.redb")` keeps them on disk.
    let store = Store::in_memory()?;
    let sheets = Documents::new(&store, "sheets").initial(json!({ "cells": {} }));
    let page = get(async || Html(include_str!("../index.html")));
    let app = Site::new().route("/", page).endpoint("/sheets/{name}", sheets.endpoint()).into_router();
    // The npm package from `cargo xtask build`.
    let package = ServeDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pkg"));
    let app = Multiplexer::new("/multiplexer").serve(app.nest_service("/pkg", package));

    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    manysocket_server::serve(listener, app).await
}

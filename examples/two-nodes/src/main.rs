//! Two servers on one NATS: they share a topic and documents, and one offers a function that pages call at either.
//!
//! ```sh
//! nats-server -js -sd /var/lib/nats &
//! cargo run -p example-two-nodes -- 127.0.0.1:8080 nats://127.0.0.1:4222 counter &
//! cargo run -p example-two-nodes -- 127.0.0.1:8081 nats://127.0.0.1:4222
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::response::Html;
use axum::routing::get;
use manysocket_server::rpc::{remote, rpc};
use manysocket_server::state::{Documents, Store};
use manysocket_server::topic::Topics;
use manysocket_server::{Multiplexer, Nats, Site};
use serde_json::json;
use tokio::net::TcpListener;
use tower_http::services::ServeDir;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:8080".into());
    let nats = arguments.next().unwrap_or("nats://127.0.0.1:4222".into());
    let has_counter = arguments.next().is_some_and(|role| role == "counter");

    let nats = Nats::connect(&nats).await?;
    let news = Topics::new().nats(&nats);
    // One server counts the calls of all pages, at whichever server they are connected.
    let _registration = if has_counter {
        let (count, news) = (Arc::new(AtomicU64::new(0)), news.clone());
        let next = rpc(move || {
            let (count, news) = (count.fetch_add(1, Ordering::Relaxed) + 1, news.clone());
            async move {
                news.publish("/news/all", format!("somebody counted to {count}"));
                count
            }
        });
        Some(next.register(&nats, "/next").await?)
    } else {
        None
    };

    let notes =
        Documents::new(&Store::nats(&nats, "documents").await?, "notes").initial(json!({ "text": "" }));
    let page = get(async || Html(include_str!("../index.html")));
    let app = Site::new()
        .route("/", page)
        .endpoint("/news/{name}", news.endpoint())
        .endpoint("/notes/{name}", notes.endpoint())
        .endpoint("/next", remote(&nats, "/next")?.endpoint())
        .into_router();
    // The npm package from `cargo xtask build`.
    let package = ServeDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pkg"));
    let app = Multiplexer::new("/multiplexer").serve(app.nest_service("/pkg", package));

    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    manysocket_server::serve(listener, app).await
}

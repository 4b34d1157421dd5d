//! Any number of WebSockets over one connection, for axum.
//!
//! A [`Multiplexer`] goes around an application's [`Router`](axum::Router). Pages that use the npm package
//! `manysocket` open one physical WebSocket to it, and any number of virtual ones over that; each virtual open
//! becomes a request to the application, which takes the same way as a native upgrade: through the same routes,
//! middleware and handlers.
//!
//! ```no_run
//! use axum::{Router, response::Response, routing::any};
//! use manysocket_server::{Multiplexer, WebSocket, WebSocketUpgrade};
//!
//! async fn echo(upgrade: WebSocketUpgrade) -> Response {
//!     upgrade.on_upgrade(|mut socket: WebSocket| async move {
//!         while let Some(Ok(message)) = socket.recv().await {
//!             if socket.send(message).await.is_err() {
//!                 return;
//!             }
//!         }
//!     })
//! }
//!
//! # async fn run() -> std::io::Result<()> {
//! let app = Router::new().route("/echo", any(echo));
//! let app = Multiplexer::new("/multiplexer").serve(app);
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! manysocket_server::serve(listener, app).await
//! # }
//! ```
//!
//! In the page, `const M = new MultiWebSocket("/multiplexer")`, and then `new M.WebSocket("/echo")` wherever it had `new WebSocket`.
//!
//! # Handlers
//!
//! The extractor [`WebSocketUpgrade`] and the [`WebSocket`] it gives have the interface of axum's own, and serve
//! native and virtual opens alike. Handlers that use [axum's](axum::extract::ws) work unchanged, too, over a pipe in
//! memory: with frames at both ends, and so at several times the cost.
//!
//! A virtual open is a request like any other: path parameters, queries, headers, state, subprotocols and layers work as they do
//! natively. Cookies and `Authorization` are those of the link's own handshake. The response of a handler in place of an upgrade,
//! such as 401 or 404, refuses this one socket.
//!
//! ```
//! use axum::extract::{Path, State};
//! use axum::http::{HeaderMap, StatusCode, header};
//! use axum::response::{IntoResponse, Response};
//! use axum::{Router, routing::any};
//! use manysocket_server::{Multiplexer, WebSocketUpgrade};
//!
//! async fn room(State(rooms): State<Vec<String>>, Path(name): Path<String>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
//!     if !headers.contains_key(header::COOKIE) {
//!         return StatusCode::UNAUTHORIZED.into_response();
//!     }
//!     if !rooms.contains(&name) {
//!         return StatusCode::NOT_FOUND.into_response();
//!     }
//!     upgrade.protocols(["chat.v1"]).on_upgrade(async move |mut socket| {
//!         // It fails if the page has gone.
//!         let _ = socket.send(format!("welcome to {name}").into()).await;
//!     })
//! }
//!
//! let app = Router::new().route("/rooms/{name}", any(room)).with_state(vec!["blue".to_owned()]);
//! let app: Router = Multiplexer::new("/multiplexer").serve(app);
//! ```
//!
//! # Which pages may connect
//!
//! Pages of the server's own host, and those of [`Multiplexer::allow_origin`]. A multiplexer reaches the paths below its own
//! folder, or below [`Multiplexer::scope`]. A peer's use of memory and time is bounded by [`Limits`] and
//! [`Settings`], each field with its default and the reason for it. [`Stats`] has the counts.
//!
//! # More than sockets
//!
//! | | |
//! | --- | --- |
//! | [`topic::Topics`] | publish and subscribe: a message to a URL goes to every socket on it |
//! | [`rpc::rpc()`] | an async function at a URL |
//! | [`state::Documents`] | JSON documents that pages share, with atomic commits |
//! | [`Gateway`] | WebSocket servers in other languages, at a path |
//! | [`Site`] | builds the `Router` from paths, and lets each interior path list the names below it, live |
//! | [`Endpoint`] | describes a WebSocket's URL to plain HTTP requests |
//! | [`sse()`] | a stream as Server-Sent Events |
//!
//! ```no_run
//! use manysocket_server::rpc::rpc;
//! use manysocket_server::topic::Topics;
//! use manysocket_server::{Gateway, Multiplexer, Site};
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let site = Site::new()
//!     .endpoint("/rooms/{room}", Topics::new().history(50).endpoint())
//!     .endpoint("/add", rpc(async |a: f64, b: f64| a + b).endpoint())
//!     .gateway(Gateway::new("/legacy", "ws://127.0.0.1:9000/")?);
//!
//! // `shutdown.cancel()` closes all links as those of a server that goes away (1001), and then `serve` returns.
//! let shutdown = CancellationToken::new();
//! let app = Multiplexer::new("/multiplexer").serve(site.into_router());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! manysocket_server::serve(listener, app).with_graceful_shutdown(shutdown.cancelled_owned()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The repository has whole programs in `examples/`, and more in `docs/`: adopting it step by step, the wire protocol,
//! security, figures.

// Helpers that only some features use are dead code without these; with all of them the compiler finds what nothing uses.
#![cfg_attr(
    not(all(
        feature = "documents",
        feature = "gateway",
        feature = "metrics",
        feature = "nats",
        feature = "rpc",
        feature = "site",
        feature = "tls",
        feature = "topics"
    )),
    allow(dead_code)
)]

mod access;
mod budget;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "gateway")]
mod gateway;
#[cfg(any(feature = "documents", feature = "rpc"))]
mod json;
#[cfg(any(feature = "documents", feature = "rpc", feature = "topic-store"))]
mod lane;
mod limits;
mod link;
mod metrics;
mod multiplexer;
#[cfg(feature = "nats")]
mod nats;
mod net;
#[cfg(any(feature = "documents", feature = "topic-store"))]
mod redb_file;
#[cfg(feature = "rpc")]
pub mod rpc;
#[cfg(feature = "site")]
mod site;
#[cfg(feature = "documents")]
pub mod state;
#[cfg(any(feature = "documents", feature = "rpc"))]
mod surrogates;
#[cfg(feature = "topics")]
pub mod topic;
mod turns;
#[cfg(feature = "site")]
mod waiters;
mod ws;

pub use access::forwarded::Forwarded;
pub use access::origin::{Origin, OriginError};
pub use access::proxies::{Proxies, ProxiesError};
#[cfg(feature = "gateway")]
pub use gateway::{Gateway, GatewayError};
pub use limits::Limits;
pub use link::registry::Links;
pub use manysocket_protocol::{SUBPROTOCOL, Settings};
#[cfg(feature = "metrics")]
pub use metrics::prometheus::metrics_router;
pub use metrics::stats::{OPEN_LATENCY_BUCKETS, Stats, Totals, Traffic};
pub use multiplexer::Multiplexer;
#[cfg(feature = "nats")]
pub use nats::Nats;
pub use net::serve::{Serve, serve};
#[cfg(feature = "tls")]
pub use net::tls::Tls;
#[cfg(feature = "site")]
pub use site::Site;
#[cfg(feature = "site")]
pub use site::conflict::RouteConflict;
#[cfg(feature = "site")]
pub use site::endpoint::Endpoint;
#[cfg(feature = "site")]
pub use site::listing::{Change, Changes, Listing};
#[cfg(feature = "site")]
pub use site::sse::{LastEventId, SseMessage, sse};
#[cfg(feature = "typescript")]
pub use site::typescript::TypeConflict;
pub use ws::rejection::WebSocketUpgradeRejection;
pub use ws::socket::WebSocket;
pub use ws::upgrade::WebSocketUpgrade;

/// The Rust examples of the documents for users compile.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../docs/adopt.md")]
    mod adopt {}

    #[doc = include_str!("../../README.md")]
    mod readme {}
}

//! Any number of WebSockets over one connection, for axum.
//!
//! A [`Multiplexer`] goes around an application's [`Router`](axum::Router). Pages that use the npm package
//! `manysocket` open one physical WebSocket to it, and any number of virtual ones over that; each virtual open
//! becomes a request to the application, which takes the same way as a native upgrade: through the same routes,
//! middleware and handlers.
//!
//! ```no_run
//! use axum::{Router, response::Response, routing::any, serve::ListenerExt};
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
//! // Small messages go at once: otherwise TCP waits for the answer to the last one (Nagle's algorithm).
//! let listener = listener.tap_io(|tcp| drop(tcp.set_nodelay(true)));
//! axum::serve(listener, app).await
//! # }
//! ```
//!
//! The extractor [`WebSocketUpgrade`] and the [`WebSocket`] it gives have the interface of axum's own, and serve
//! native and virtual opens alike. Handlers that use [axum's](axum::extract::ws) work unchanged, too, over a pipe in
//! memory: with frames at both ends, and so at several times the cost.
//!
//! A [`Site`] builds the `Router` from paths and has each interior one list what is below it, live; an [`Endpoint`]
//! tells plain HTTP what lives there.

mod accept;
mod bridge;
mod dispatch;
mod endpoint;
mod events;
mod gateway;
mod guard;
mod index;
mod limits;
mod link;
mod listing;
mod mint;
mod multiplexer;
mod page;
mod pipe;
pub mod rpc;
mod serve;
mod site;
mod socket;
pub mod state;
mod stats;
pub mod topic;
mod tree;
mod upgrade;
mod upstream;

pub use endpoint::Endpoint;
pub use events::{LastEventId, Outgoing, events};
pub use gateway::Gateway;
pub use limits::Limits;
pub use listing::{Change, Changes, Listing};
pub use manysocket_protocol::{SUBPROTOCOL, Settings};
pub use multiplexer::Multiplexer;
pub use serve::serve;
pub use site::Site;
pub use socket::WebSocket;
pub use stats::Stats;
pub use upgrade::WebSocketUpgrade;

/// The Rust examples of the documents for users compile.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../docs/adopt.md")]
    mod adopt {}
}

//! The client for Rust programs, on tokio: any number of WebSockets over one connection.
//!
//! A [`MultiWebSocket`] dials its link when the first socket opens. Each [`WebSocket`] is a [`Stream`](futures_util::Stream)
//! of messages and a [`Sink`](futures_util::Sink) for them. The rules of a socket are those of the page's client
//! (`manysocket_protocol::client`).
//!
//! ```no_run
//! use futures_util::{SinkExt, StreamExt};
//! use manysocket::{Message, MultiWebSocket};
//!
//! # async fn run() -> Result<(), manysocket::Error> {
//! let multi = MultiWebSocket::new("ws://127.0.0.1:8080/multiplexer")?;
//! let mut socket = multi.open("/demo/echo")?;
//! socket.send(Message::from("hello")).await?;
//! while let Some(message) = socket.next().await {
//!     println!("{:?}", message?);
//! }
//! # Ok(())
//! # }
//! ```

mod carrier;
mod dial;
mod driver;
mod error;
mod http;
mod json;
mod link;
mod message;
mod multi;
mod relative;
mod seek;
mod socket;
mod state;
mod target;

pub use carrier::{Carrier, Carriers};
pub use error::Error;
pub use json::JsonWebSocket;
pub use message::Message;
pub use multi::MultiWebSocket;
pub use relative::RelativeWebSocket;
pub use socket::{Handle, WebSocket};
pub use state::{Commit, Conflict, State, StateError, state};

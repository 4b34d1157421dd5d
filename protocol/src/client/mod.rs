//! The rules of virtual sockets, without I/O: a page's `WebSocket` over a link's connection.
//!
//! [`Connection`](crate::Connection) knows channels and frames. This module adds the rules by which a client makes
//! a channel a `WebSocket` as the WHATWG standard and RFC 6455 have it: when it fails and when it is lost, which close
//! codes it reports, which subprotocols a server may choose, how long it waits, and what `bufferedAmount` counts.
//!
//! - [`Socket`] is the state that an application sees of one socket. A host keeps one for each.
//! - [`Link`] is one connection and the sockets over it. It is generic over the [`Host`]: a page keeps its strings in
//!   JavaScript, others keep bytes.
//! - [`Client`] is a [`Link`] for hosts that keep messages as bytes.
//!
//! A host drives a [`Link`] or [`Client`] as it drives a [`Connection`](crate::Connection):
//!
//! 1. *Mutate*: it calls commands (`open`, `send`, `close`, …) or inputs (`receive`, `handle_timeout`, `lost`).
//! 2. *Drain*: it calls `poll_transmit` and `poll_event` until both return `None`, then asks `poll_timeout` when to call
//!    `handle_timeout`. Opens, closes and received messages may move that time forward.
//!
//! An event names its socket by the key that the host gave to `open`. [`SocketEvent::Close`] is a socket's last event, and the
//! only one that every socket gets; the host uses the socket's channel number no more.
//!
//! ```
//! use manysocket_protocol::client::{Client, SocketEvent};
//! use manysocket_protocol::{Endpoint, Message, Settings, Side};
//!
//! let mut client = Client::new(Settings::default(), None, 0);
//! let mut server = Endpoint::new(Side::Server, Settings::default(), 0);
//!
//! let channel = client.open(0, "my socket", "/ws1", "").expect("below the channel limit");
//! server.receive_handshake(0, &client.handshake().value()).expect("a well-formed first batch");
//! server.accept(channel, "");
//! server.send(channel, Message::text("hello"));
//! server.close(channel, Some(1000), "bye");
//! while let Some(message) = server.poll_transmit() {
//!     client.receive(0, message).expect("a well-formed message");
//! }
//! assert_eq!(client.poll_event(), Some(SocketEvent::Open { key: "my socket", protocol: String::new() }));
//! assert_eq!(client.poll_event(), Some(SocketEvent::Message { key: "my socket", message: Message::text("hello") }));
//! let Some(SocketEvent::Close { close, .. }) = client.poll_event() else { panic!("not closed") };
//! assert_eq!((close.code, close.reason.as_str(), close.was_clean), (1000, "bye", true));
//! ```

mod bytes;
mod carrier;
mod event;
mod host;
mod link;
mod redial;
mod socket;
mod unsent;

pub use bytes::{Client, FirstBatch};
pub use event::{Failure, SocketClose, SocketEvent};
pub use host::{Host, Source};
pub use link::{Link, Timeout};
pub use socket::{Closing, ReadyState, Socket, check_close};
pub use unsent::Unsent;

//! The `manysocket.v1` wire protocol, without I/O, clock, randomness or JavaScript.
//!
//! Many WebSockets ("channels") travel over one "link", which a physical WebSocket or HTTP requests carry. Both ends run the
//! same state machine, [`Connection`]; its creator says which [`Side`] it is. A host drives it in one fixed way:
//!
//! 1. *Mutate*: call any command ([`Connection::send`], [`Connection::close`], …) or input
//!    ([`Connection::receive_batch`], …).
//! 2. *Drain*: call [`Connection::poll_event`] and [`Connection::poll_transmit`] until both return
//!    `None`, then ask [`Connection::poll_timeout`] when to call [`Connection::handle_timeout`].
//!
//! A [`Connection`] never touches message contents: it is generic over a [`Payload`], so that a
//! browser can keep its strings in JavaScript. [`Endpoint`] wraps it for hosts that hold messages
//! as bytes, such as the server:
//!
//! ```
//! use manysocket_protocol::{Endpoint, Event, Message, Settings, Side};
//!
//! let mut client = Endpoint::new(Side::Client, Settings::default(), 0);
//! let mut server = Endpoint::new(Side::Server, Settings::default(), 0);
//!
//! let channel = client.open("/ws1", "").expect("below the channel limit");
//! server.receive_handshake(0, &client.handshake()).expect("a well-formed first batch");
//! assert!(matches!(server.poll_event(), Some(Event::Open { target, .. }) if target == "/ws1"));
//!
//! server.accept(channel, "");
//! server.send(channel, Message::text("hello"));
//! while let Some(message) = server.poll_transmit() {
//!     client.receive(0, message).expect("a well-formed message");
//! }
//! assert!(matches!(client.poll_event(), Some(Event::Accepted { .. })));
//! assert!(matches!(client.poll_event(), Some(Event::Message { message, .. }) if message == Message::text("hello")));
//! ```
//!
//! The normative text is `docs/protocol.md`; section numbers in comments refer to it.

mod channel;
pub mod client;
pub mod connection;
mod content;
mod endpoint;
mod flow_control;
mod frame;
mod intake;
mod keepalive;
mod message;
mod open_headers;
mod open_limiter;
pub mod physical;
mod resumption;
mod settings;
mod side;
mod text;
mod token;
mod transmit;
mod varint;
mod violation;
mod window_tuning;

pub use connection::{Connection, FAILED, Refusals};
pub use endpoint::{Close, Endpoint, Event};
pub use frame::{Kind, Resume};
pub use intake::Intake;
pub use message::{Message, Physical};
pub use open_headers::may_be_in_open;
pub use settings::{CLIENT_MAX_MESSAGE, MESSAGE_OVERHEAD, Settings};
pub use side::Side;
pub use token::Token;
pub use transmit::{Batch, LARGE, Part, Payload, Transmit};
pub use violation::Violation;

/// The WebSocket subprotocol that a link speaks (RFC 6455 §1.9).
pub const SUBPROTOCOL: &str = "manysocket.v1";

/// The query parameter of the physical handshake that carries the first batch (§3).
pub const HANDSHAKE_PARAMETER: &str = "manysocket";

/// The query parameter of a physical handshake whose connection resumes a link: the server's node number (§8.1).
pub const RESUME_PARAMETER: &str = "manysocket-resume";

/// The query parameter of a link's handshakes that names the link before the server has: the server takes the second of two
/// for the first's (`docs/protocol.md` §3.4).
pub const NONCE_PARAMETER: &str = "manysocket-nonce";

/// The close code for a connection that resumes no link: the server does not know the token, or the link is not the client's.
pub const NOT_RESUMED: u16 = 4404;

/// The close code for a connection that the client gives up, and not the link over it.
pub const ABANDONED: u16 = 4003;

/// The number of a channel within its link. The client picks it, from 1 up (§4).
pub type Channel = u32;

/// Milliseconds on any monotonic clock of the host.
pub type Millis = u64;

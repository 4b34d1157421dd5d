//! The interface of a [`Link`](super::Link) to its host: how it holds messages, and where their contents are.

use crate::Violation;
use crate::connection::Span;
use crate::transmit::Payload;

/// How a host holds messages, and how it names its sockets.
pub trait Host {
    /// The name of a socket in its events.
    type Key: Clone;
    /// A message to send, or a string of a frame.
    type Payload: Payload;
    /// A message that has arrived, or a piece of one.
    type Message;

    /// Joins the pieces of a message. There are at least two.
    fn join(pieces: Vec<Self::Message>) -> Self::Message;
}

/// The contents of a physical message that has arrived. Spans come in ascending order.
pub trait Source<M> {
    /// Returns a text, or a piece of one. Pieces that are not the last are held until the last arrives: their host copies
    /// them, so that they do not keep the whole physical message.
    ///
    /// # Errors
    /// Returns a [`Violation`] if the span cuts a surrogate pair.
    fn text(&self, span: Span, is_last: bool) -> Result<M, Violation>;

    /// Returns a binary message, or a piece of one.
    ///
    /// # Errors
    /// Returns a [`Violation`] if the span lies outside of the contents.
    fn binary(&self, span: Span, is_last: bool) -> Result<M, Violation>;

    /// Returns a frame's string. It is not empty.
    ///
    /// # Errors
    /// As [`Source::text`].
    fn string(&self, span: Span) -> Result<String, Violation>;
}

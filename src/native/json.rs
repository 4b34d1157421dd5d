//! Sockets whose messages are JSON values.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Sink, Stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Error, Handle, Message, WebSocket};

/// A [`WebSocket`] whose messages are JSON: values of `Out` go out, values of `In` come in.
///
/// ```no_run
/// use futures_util::{SinkExt, StreamExt};
/// use manysocket::{JsonWebSocket, MultiWebSocket};
///
/// # async fn run() -> Result<(), manysocket::Error> {
/// let multi = MultiWebSocket::new("ws://127.0.0.1:8080/multiplexer")?;
/// let mut socket = JsonWebSocket::<(f64, f64), serde_json::Value>::new(multi.open("/demo/rpc/add")?);
/// socket.send((1.0, 2.0)).await?;
/// let answer = socket.next().await;
/// # let _ = answer;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct JsonWebSocket<Out, In> {
    socket: WebSocket,
    types: PhantomData<fn(Out) -> In>,
}

impl<Out, In> JsonWebSocket<Out, In> {
    /// Reads and writes the messages of `socket` as JSON.
    pub fn new(socket: WebSocket) -> Self {
        Self { socket, types: PhantomData }
    }

    /// Returns a handle, which controls the socket also after a split.
    pub fn handle(&self) -> Handle {
        self.socket.handle()
    }

    /// Returns the socket below.
    pub fn into_inner(self) -> WebSocket {
        self.socket
    }
}

impl<Out, In: DeserializeOwned> Stream for JsonWebSocket<Out, In> {
    type Item = Result<In, Error>;

    /// A message that is not the JSON of an `In` is returned as [`Error::Json`]; the messages after it follow.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let message = match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return Poll::Ready(None),
        };
        let value = match &message {
            Message::Text(text) => serde_json::from_str(text).map_err(|error| Error::Json(error.to_string())),
            Message::Binary(_) => Err(Error::Json("the message is binary".into())),
        };
        Poll::Ready(Some(value))
    }
}

impl<Out: Serialize, In> Sink<Out> for JsonWebSocket<Out, In> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.socket).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, value: Out) -> Result<(), Error> {
        let text = serde_json::to_string(&value).map_err(|error| Error::Json(error.to_string()))?;
        Pin::new(&mut self.socket).start_send(Message::Text(text))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

//! Joins a WebSocket that speaks frames to a virtual one: messages, closes and losses pass in both directions.

use axum::extract::ws::{CloseFrame, Message};
use futures_util::future::{Either, select};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{self as ts, CloseFrame as WireCloseFrame};

use crate::socket::WebSocket;

/// Runs until both sides have closed, or one is lost; then drops both, so that the other side sees the loss.
pub(crate) async fn bridge<S: AsyncRead + AsyncWrite + Unpin>(socket: WebSocket, wire: WebSocketStream<S>) {
    let (mut to_page, mut from_page) = socket.split();
    let (mut to_wire, mut from_wire) = wire.split();
    {
        // Each direction waits for its own receiver only: together they could wait for each other.
        let up = std::pin::pin!(forward(&mut from_page, &mut to_wire, to_wire_message));
        let down = std::pin::pin!(forward(&mut from_wire, &mut to_page, from_wire_message));
        // A close has passed in one direction: the answer passes in the other. After a loss nothing does.
        match select(up, down).await {
            Either::Left((true, down)) => drop(down.await),
            Either::Right((true, up)) => drop(up.await),
            _ => {}
        }
    }
    // The library that speaks frames answers a close by itself, but only when it is used again.
    let _ = to_wire.flush().await;
}

/// Forwards up to a close, whose answer is left to the other direction: the virtual socket would answer by itself if
/// it were read again. False if a side is lost.
async fn forward<From, To, M, N, E>(from: &mut From, to: &mut To, convert: fn(M) -> Option<(N, bool)>) -> bool
where
    From: Stream<Item = Result<M, E>> + Unpin,
    To: Sink<N> + Unpin,
{
    while let Some(Ok(message)) = from.next().await {
        let Some((message, is_close)) = convert(message) else { continue };
        if to.send(message).await.is_err() {
            return false;
        }
        if is_close {
            return true;
        }
    }
    false
}

/// The message for the other side, and whether it is a close; `None` if it does not concern it.
fn to_wire_message(message: Message) -> Option<(ts::Message, bool)> {
    Some(match message {
        Message::Text(text) => (ts::Message::Text(ts_text(text.as_str())), false),
        Message::Binary(bytes) => (ts::Message::Binary(bytes), false),
        Message::Close(frame) => {
            let frame = frame.map(|CloseFrame { code, reason }| WireCloseFrame {
                code: code.into(),
                reason: ts_text(reason.as_str()),
            });
            (ts::Message::Close(frame), true)
        }
        Message::Ping(_) | Message::Pong(_) => return None,
    })
}

fn from_wire_message(message: ts::Message) -> Option<(Message, bool)> {
    Some(match message {
        ts::Message::Text(text) => (Message::Text(text.as_str().into()), false),
        ts::Message::Binary(bytes) => (Message::Binary(bytes), false),
        ts::Message::Close(frame) => {
            let frame = frame
                .map(|frame| CloseFrame { code: frame.code.into(), reason: frame.reason.as_str().into() });
            (Message::Close(frame), true)
        }
        ts::Message::Ping(_) | ts::Message::Pong(_) | ts::Message::Frame(_) => return None,
    })
}

fn ts_text(text: &str) -> tokio_tungstenite::tungstenite::Utf8Bytes {
    text.into()
}

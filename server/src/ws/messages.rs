//! A framed socket as a stream and a sink of axum's messages.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::turns::poll_counted;
use crate::ws::frame::{Broken, opcode};
use crate::ws::frames::{FramedSocket, Received};

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for FramedSocket<S> {
    type Item = Result<Message, Broken>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let size = |next: &Option<Self::Item>| next.iter().flatten().map(content).sum();
        poll_counted(cx, size, |cx| {
            let received = ready!(FramedSocket::poll_next(&mut self, cx));
            Poll::Ready(received.map(|received| message(received?)))
        })
    }
}

fn message(received: Received) -> Result<Message, Broken> {
    Ok(match received {
        Received::Text(text) => Message::Text(Utf8Bytes::try_from(text).map_err(|_| Broken::NotUtf8)?),
        Received::Binary(bytes) => Message::Binary(bytes),
        Received::Ping(bytes) => Message::Ping(bytes),
        Received::Pong(bytes) => Message::Pong(bytes),
        Received::Close(close) => {
            Message::Close(close.map(|(code, reason)| CloseFrame { code, reason: reason.into() }))
        }
    })
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Message> for FramedSocket<S> {
    type Error = Broken;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        done(FramedSocket::poll_ready(&mut self, cx))
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Broken> {
        match message {
            Message::Text(text) => FramedSocket::start_send(&mut self, opcode::TEXT, text.into()),
            Message::Binary(bytes) => FramedSocket::start_send(&mut self, opcode::BINARY, bytes),
            Message::Ping(bytes) => FramedSocket::start_send(&mut self, opcode::PING, bytes),
            Message::Pong(bytes) => FramedSocket::start_send(&mut self, opcode::PONG, bytes),
            Message::Close(close) => {
                self.start_close(close.as_ref().map(|close| (close.code, close.reason.as_str())))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        done(FramedSocket::poll_flush(&mut self, cx))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        // It may have closed before.
        let _ = self.start_close(None);
        done(FramedSocket::poll_flush(&mut self, cx))
    }
}

/// Returns the bytes of a message's content.
pub(crate) fn content(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    }
}

fn done(written: Poll<io::Result<()>>) -> Poll<Result<(), Broken>> {
    written.map_err(Broken::Io)
}

//! The carrier of a link's frames: the connection of a WebSocket, or a tunnel in the bodies of HTTP requests.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::budget::Reservation;
use crate::net::extended_connect::SEND_BUFFER;
use crate::ws::duplex::Duplex;
use crate::ws::output::PART_OF_STREAM;

/// The memory of an HTTP carrier besides its buffers: a request that is under way, with its connection, and a task. A thousand idle
/// streams take 36 MiB with their links, and a thousand polls between two requests 26 MiB.
const CARRIER: usize = 24 * 1024;

/// The memory of an HTTP/2 connection that has one stream: 500 take 26 KiB each beside that of TLS.
const HTTP2: usize = 26 * 1024;

/// The output of a stream that may wait below its socket: what h2 buffers, and the parts that hyper holds, one in a task and
/// two on the way to it.
const HTTP2_OUTPUT: usize = SEND_BUFFER + 3 * PART_OF_STREAM;

/// A connection that carries a link.
#[derive(Debug)]
pub(crate) enum Connection {
    WebSocket(TokioIo<Upgraded>),
    /// A WebSocket that is a stream of an HTTP/2 connection.
    Stream(TokioIo<Upgraded>),
    Http(Tunnel),
}

/// The link's end of a tunnel.
#[derive(Debug)]
pub(crate) struct Tunnel {
    io: Duplex,
    /// Cancels a token once the link has left.
    _left: DropGuard,
}

impl Tunnel {
    /// Creates the link's end of a tunnel. `left` is cancelled when it is dropped.
    pub(crate) fn new(io: Duplex, left: CancellationToken) -> Self {
        Self { io, _left: left.drop_guard() }
    }
}

impl Connection {
    /// Counts the buffers of the connection as memory of the link that the reservation belongs to.
    pub(crate) fn count_for(&self, reservation: &Reservation) {
        if let Self::Http(tunnel) = self {
            tunnel.io.count_for(reservation);
        }
    }

    /// Returns the bytes that the connection holds besides its buffers. `is_full`: it has no room for output.
    pub(crate) fn held(&self, is_full: bool) -> usize {
        match self {
            // The figure of an idle link has them.
            Self::WebSocket(_) => 0,
            Self::Stream(_) if is_full => HTTP2 + HTTP2_OUTPUT,
            Self::Stream(_) => HTTP2,
            Self::Http(_) => CARRIER,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::WebSocket(io) | Self::Stream(io) => Pin::new(io).poll_read(cx, into),
            Self::Http(tunnel) => Pin::new(&mut tunnel.io).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::WebSocket(io) | Self::Stream(io) => Pin::new(io).poll_write(cx, bytes),
            Self::Http(tunnel) => Pin::new(&mut tunnel.io).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::WebSocket(io) | Self::Stream(io) => Pin::new(io).poll_write_vectored(cx, slices),
            Self::Http(tunnel) => Pin::new(&mut tunnel.io).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::WebSocket(io) | Self::Stream(io) => io.is_write_vectored(),
            Self::Http(tunnel) => tunnel.io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::WebSocket(io) | Self::Stream(io) => Pin::new(io).poll_flush(cx),
            Self::Http(tunnel) => Pin::new(&mut tunnel.io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::WebSocket(io) | Self::Stream(io) => Pin::new(io).poll_shutdown(cx),
            Self::Http(tunnel) => Pin::new(&mut tunnel.io).poll_shutdown(cx),
        }
    }
}

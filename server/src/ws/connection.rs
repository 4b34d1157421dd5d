//! What carries the frames of a link: the connection of a WebSocket, or a tunnel in the bodies of HTTP requests.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::budget::Reservation;
use crate::ws::duplex::Duplex;

/// The memory of an HTTP carrier besides its buffers: a request that is under way, with its connection, and a task. A thousand idle
/// streams take 36 MiB with their links, and a thousand polls between two requests 26 MiB.
const CARRIER: usize = 24 * 1024;

/// A connection that carries a link.
#[derive(Debug)]
pub(crate) enum Connection {
    WebSocket(TokioIo<Upgraded>),
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

    /// Returns the bytes that the connection holds besides its buffers.
    pub(crate) fn held(&self) -> usize {
        match self {
            // The figure of an idle link has them.
            Self::WebSocket(_) => 0,
            Self::Http(_) => CARRIER,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::WebSocket(io) => Pin::new(io).poll_read(cx, into),
            Self::Http(tunnel) => Pin::new(&mut tunnel.io).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::WebSocket(io) => Pin::new(io).poll_write(cx, bytes),
            Self::Http(tunnel) => Pin::new(&mut tunnel.io).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::WebSocket(io) => Pin::new(io).poll_write_vectored(cx, slices),
            Self::Http(tunnel) => Pin::new(&mut tunnel.io).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::WebSocket(io) => io.is_write_vectored(),
            Self::Http(tunnel) => tunnel.io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::WebSocket(io) => Pin::new(io).poll_flush(cx),
            Self::Http(tunnel) => Pin::new(&mut tunnel.io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::WebSocket(io) => Pin::new(io).poll_shutdown(cx),
            Self::Http(tunnel) => Pin::new(&mut tunnel.io).poll_shutdown(cx),
        }
    }
}

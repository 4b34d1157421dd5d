//! Ends a connection so that the peer can read the last Close frame.

use std::future::poll_fn;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::ws::frames::FramedSocket;

/// The longest time that a connection is read after this side has closed: longer than a round trip to anywhere, and as
/// long as the link waits for an answer to its Close.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// Bytes that are discarded with one read: the largest head of a TLS record and its content are four of these.
const DISCARD: usize = 4 * 1024;

/// Writes all that is queued, ends this side's half of the connection, and discards input until the peer ends its half,
/// for at most [`LINGER`].
///
/// A connection that is dropped while input is unread is reset, and a reset makes the peer's system discard a Close
/// frame that it has received (RFC 6455 §7.1.1, RFC 9112 §9.6).
pub(crate) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut socket: FramedSocket<S>) {
    let lingering = async {
        poll_fn(|cx| socket.poll_flush(cx)).await?;
        // The buffers of an unfinished message are not needed any more.
        let mut io = socket.into_io();
        io.shutdown().await?;
        let mut discarded = [0; DISCARD];
        while io.read(&mut discarded).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    // Whether the peer ends its half in time changes nothing: the connection ends here.
    let _ = tokio::time::timeout(LINGER, lingering).await;
}

//! A connection in memory. Its buffers hold waiting bytes and nothing else, and count as memory of a link.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::budget::Reservation;

/// The part of a large write that is taken at once, even beyond the limit. The writer of axum's extractor moves all the rest after each
/// write: with 64 KiB at a time, a message of 60 MiB cost copies of 29 GB.
const PART: usize = 16;

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Duplex {
    incoming: Arc<Mutex<Direction>>,
    outgoing: Arc<Mutex<Direction>>,
}

/// The bytes on their way in one direction.
#[derive(Debug)]
struct Direction {
    limit: usize,
    buffer: VecDeque<u8>,
    /// No more bytes follow, or nobody reads them.
    is_closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    reservation: Option<Reservation>,
}

impl Duplex {
    /// Returns both ends of a connection that buffers at most `limit` bytes in each direction, or a sixteenth of a large write.
    pub(crate) fn pair(limit: usize) -> (Self, Self) {
        let direction = || {
            Arc::new(Mutex::new(Direction {
                limit,
                buffer: VecDeque::new(),
                is_closed: false,
                reader: None,
                writer: None,
                reservation: None,
            }))
        };
        let (there, back) = (direction(), direction());
        let near = Self { incoming: Arc::clone(&back), outgoing: Arc::clone(&there) };
        (near, Self { incoming: there, outgoing: back })
    }

    /// Counts the buffers as memory of the link that the reservation belongs to, from now on.
    pub(crate) fn count_for(&self, reservation: &Reservation) {
        for direction in [&self.incoming, &self.outgoing] {
            let mut direction = lock(direction);
            direction.reservation = Some(reservation.beside());
            direction.account();
        }
    }

    /// Takes waiting bytes, at most `most`. They count for the link until they are dropped. Empty: the end.
    pub(crate) fn poll_take(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<Bytes> {
        let mut direction = lock(&self.incoming);
        if direction.buffer.is_empty() {
            if direction.is_closed {
                return Poll::Ready(Bytes::new());
            }
            direction.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let buffer = &mut direction.buffer;
        let bytes: Vec<u8> =
            if buffer.len() <= most { mem::take(buffer).into() } else { buffer.drain(..most).collect() };
        let mut share = direction.reservation.as_ref().map(Reservation::beside);
        if let Some(share) = &mut share {
            share.set(bytes.capacity());
        }
        direction.account();
        let writer = direction.writer.take();
        drop(direction);
        if let Some(writer) = writer {
            writer.wake();
        }
        Poll::Ready(Bytes::from_owner(Taken { bytes, _share: share }))
    }
}

/// Bytes that have been taken out of a connection.
struct Taken {
    bytes: Vec<u8>,
    _share: Option<Reservation>,
}

impl AsRef<[u8]> for Taken {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Direction {
    fn account(&mut self) {
        let held = self.buffer.capacity();
        if let Some(reservation) = &mut self.reservation {
            reservation.set(held);
        }
    }

    fn close(&mut self) {
        self.is_closed = true;
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut direction = lock(&self.incoming);
        if direction.buffer.is_empty() {
            if direction.is_closed || into.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            direction.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (first, second) = direction.buffer.as_slices();
        let taken = (first.len() + second.len()).min(into.remaining());
        let of_first = first.len().min(taken);
        into.put_slice(&first[..of_first]);
        into.put_slice(&second[..taken - of_first]);
        if taken == direction.buffer.len() {
            direction.buffer = VecDeque::new();
        } else {
            direction.buffer.drain(..taken);
        }
        direction.account();
        let writer = direction.writer.take();
        drop(direction);
        if let Some(writer) = writer {
            writer.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut direction = lock(&self.outgoing);
        if direction.is_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = direction.limit.max(bytes.len() / PART).saturating_sub(direction.buffer.len());
        if room == 0 {
            direction.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = bytes.len().min(room);
        direction.buffer.extend(&bytes[..taken]);
        direction.account();
        let reader = direction.reader.take();
        drop(direction);
        if let Some(reader) = reader {
            reader.wake();
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.outgoing).close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        lock(&self.outgoing).close();
        let mut incoming = lock(&self.incoming);
        // Nobody reads it any more.
        drop(mem::take(&mut incoming.buffer));
        incoming.account();
        incoming.close();
    }
}

/// The data is consistent at every step, so a panic while the lock is held concerns nobody else.
fn lock(direction: &Mutex<Direction>) -> MutexGuard<'_, Direction> {
    direction.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::budget::Budgets;

    #[tokio::test]
    async fn bytes_pass_in_order_through_small_buffers() {
        let (mut near, mut far) = Duplex::pair(7);
        let sent: Vec<u8> = (0..=255).collect();
        let copy = sent.clone();
        let writing = tokio::spawn(async move {
            far.write_all(&copy).await.expect("a reader");
            far
        });
        let mut read = vec![0; 256];
        near.read_exact(&mut read).await.expect("a writer");
        assert_eq!(read, sent);
        let mut far = writing.await.expect("no panic");
        far.shutdown().await.expect("a shutdown");
        assert_eq!(near.read(&mut read).await.expect("the end"), 0);
        near.write_all(b"still").await.expect("the other direction");
        far.read_exact(&mut read[..5]).await.expect("the other direction");
        drop(far);
        assert_eq!(near.write(b"x").await.expect_err("gone").kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_large_message_takes_few_writes() {
        const LIMIT: usize = 64 * 1024;
        let (mut near, mut far) = Duplex::pair(LIMIT);
        let mut rest = vec![1; 64 << 20];
        let mut read = vec![0; 4 << 20];
        let (mut writes, mut moved) = (0, 0);
        while !rest.is_empty() {
            let written = far.write(&rest).await.expect("room");
            assert!(written <= LIMIT.max(rest.len() / PART), "{written} of {}", rest.len());
            rest.truncate(rest.len() - written);
            (writes, moved) = (writes + 1, moved + rest.len());
            near.read_exact(&mut read[..written]).await.expect("bytes");
        }
        assert!(writes < 200 && moved < 2 << 30, "{writes} writes move {moved} bytes");
    }

    #[tokio::test]
    async fn an_end_that_is_dropped_wakes_the_other() {
        let (mut near, mut far) = Duplex::pair(4);
        near.write_all(b"full").await.expect("room");
        let mut more = Box::pin(near.write(b"x"));
        assert!(more.as_mut().now_or_never().is_none());
        let reading = async {
            let mut all = Vec::new();
            far.read_exact(&mut [0; 2]).await.expect("two bytes");
            drop(far);
            all.push(0);
        };
        let (written, ()) = tokio::join!(more, reading);
        // Two bytes were read before the other end went, so the write may have found room.
        assert!(written.is_ok() || written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe));
    }

    #[tokio::test]
    async fn buffers_are_counted_and_given_back() {
        let budget = Budgets::default().open(Arc::new(AtomicUsize::new(0)));
        let (mut near, mut far) = Duplex::pair(64 * 1024);
        near.write_all(&[0; 1000]).await.expect("room");
        near.count_for(&Reservation::new(Arc::clone(&budget)));
        assert!((1000..3000).contains(&budget.taken().0), "{:?}", budget.taken());
        far.write_all(&[0; 60_000]).await.expect("room");
        assert!((61_000..130_000).contains(&budget.taken().0), "{:?}", budget.taken());
        near.read_exact(&mut vec![0; 60_000]).await.expect("bytes");
        far.read_exact(&mut [0; 1000]).await.expect("bytes");
        assert_eq!(budget.taken().0, 0, "an idle connection holds nothing");
        near.write_all(&[0; 5000]).await.expect("room");
        drop(far);
        assert_eq!(budget.taken().0, 0);
    }

    #[tokio::test]
    async fn bytes_that_are_taken_count_until_they_are_dropped() {
        let budget = Budgets::default().open(Arc::new(AtomicUsize::new(0)));
        let (mut near, mut far) = Duplex::pair(64 * 1024);
        near.count_for(&Reservation::new(Arc::clone(&budget)));
        let mut take = async |most| poll_fn(|cx| far.poll_take(cx, most)).await;
        near.write_all(&[0; 30_000]).await.expect("room");
        let first = take(10_000).await;
        let second = take(30_000).await;
        assert_eq!((first.len(), second.len()), (10_000, 20_000));
        assert!((30_000..90_000).contains(&budget.taken().0), "{:?}", budget.taken());
        drop(first.clone());
        assert!(budget.taken().0 >= 30_000, "{:?}", budget.taken());
        drop((first, second));
        assert_eq!(budget.taken().0, 0);
        near.write_all(&[0; 3]).await.expect("room");
        drop(near);
        assert_eq!((take(10).await.len(), take(10).await.len()), (3, 0));
    }
}

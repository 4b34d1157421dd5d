//! Work in turns: after each share of it, other tasks run.

use std::pin::pin;
use std::task::{Context, Poll, ready};

use tokio::task::coop::{has_budget_remaining, poll_proceed};
use tokio::task::yield_now;

/// The bytes that one turn makes or copies. Escaping and encoding cost at most 5 ns a byte, so a turn lasts a third of a
/// millisecond at most.
const TURN: usize = 64 * 1024;

/// The bytes of a message that cost its reader as much as an operation of tokio's budget, of which a turn has 128: checking
/// 4 KiB of UTF-8 takes 4 µs at most.
const OPERATION: usize = 4 * 1024;

/// Ends the turn of a task that has more to do: the task runs again after all tasks that are ready, and after the runtime has
/// looked at its connections.
///
/// A task that wakes itself is ready at once. While any task is ready, tokio looks at the connections after 61 turns only: a
/// single busy link would have everybody else wait for 30 ms.
pub(crate) fn end_turn(cx: &mut Context<'_>) {
    // Polled once, it hands over the waker.
    let _ = pin!(yield_now()).poll(cx);
}

/// Counts an item that a task receives, with the bytes of its content, as work of the task's turn. A queue in memory and a
/// buffer with many frames would keep a task going for as long as they last.
pub(crate) fn poll_counted<T>(
    cx: &mut Context<'_>,
    content: impl Fn(&T) -> usize,
    poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    let operation = ready!(poll_proceed(cx));
    let item = ready!(poll(cx));
    operation.made_progress();
    for _ in 0..content(&item) / OPERATION {
        if !has_budget_remaining() {
            break;
        }
        if let Poll::Ready(operation) = poll_proceed(cx) {
            operation.made_progress();
        }
    }
    Poll::Ready(item)
}

/// Counts the work of a task, and yields after each turn.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    done: usize,
}

impl Turns {
    /// Returns how many bytes may be worked on before the next yield.
    pub(crate) fn left(&self) -> usize {
        TURN.saturating_sub(self.done)
    }

    /// Counts work, and yields if that was enough for one turn.
    pub(crate) async fn spend(&mut self, bytes: usize) {
        self.done += bytes;
        if self.done >= TURN {
            self.done = 0;
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// tokio's own measure of a turn.
    const OPERATIONS: usize = 128;

    #[tokio::test]
    async fn connections_are_looked_at_after_each_turn() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let mut near = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let (mut far, _) = listener.accept().await.expect("a connection");
        let turns = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&turns);
        let busy = tokio::spawn(poll_fn::<(), _>(move |cx| {
            count.fetch_add(1, Ordering::Relaxed);
            end_turn(cx);
            Poll::Pending
        }));
        for _ in 0..100 {
            near.write_all(b"x").await.expect("a connection");
            let before = turns.load(Ordering::Relaxed);
            far.read_u8().await.expect("a connection");
            let taken = turns.load(Ordering::Relaxed) - before;
            assert!(taken <= 3, "{taken} turns before a connection was read");
        }
        busy.abort();
    }

    /// Returns the most items of a size that a task receives in one turn, of more than enough.
    async fn most_in_a_turn(bytes: usize) -> usize {
        let (mut most, mut received) = (0, 0);
        poll_fn(|cx| {
            let before = received;
            while received < 10 * OPERATIONS {
                let received_one = poll_counted(cx, |bytes| *bytes, |_| Poll::Ready(bytes));
                most = most.max(received - before);
                ready!(received_one);
                received += 1;
            }
            Poll::Ready(())
        })
        .await;
        most
    }

    #[tokio::test]
    async fn a_turn_receives_so_many_items_or_bytes() {
        for (bytes, expected) in [(0, OPERATIONS), (4096, OPERATIONS / 2), (64 << 10, 8), (64 << 20, 1)] {
            assert_eq!(most_in_a_turn(bytes).await, expected, "{bytes} bytes");
        }
    }
}

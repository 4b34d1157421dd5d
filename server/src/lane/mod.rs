//! A thread for expensive work on documents: reading and applying large commits, reading large documents, and serialising
//! them for pages.
//!
//! There is one thread, so that this work uses at most one core and leaves the others to the tasks that serve sockets. Peers
//! take turns at it.

pub(crate) mod turns;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::{io, thread};

use tokio::sync::oneshot;
use tracing::error;

use turns::Turns;

/// The most bytes of JSON that a task reads or writes in place. 16 KiB cost some 0.1 ms to read, and a delta of them 0.5 ms
/// to apply; handing work to another thread costs 0.01 ms.
pub(crate) const LIGHT: usize = 16 << 10;

type Work = Box<dyn FnOnce() + Send>;

/// A handle to the thread. The thread ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Lane(Arc<Door>);

struct Door(Arc<Turns<Work>>);

impl std::fmt::Debug for Door {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Door")
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Lane {
    pub(crate) fn start(name: &'static str) -> io::Result<Self> {
        let turns: Arc<Turns<Work>> = Arc::new(Turns::new());
        let queue = Arc::clone(&turns);
        let run = move || {
            while let Some(work) = queue.take(false) {
                // The caller sees the dropped reply channel as a missing result.
                if catch_unwind(AssertUnwindSafe(work)).is_err() {
                    error!("work of the thread {name} panicked");
                }
            }
        };
        thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(Self(Arc::new(Door(turns))))
    }

    /// Queues work for the peer's next turn.
    pub(crate) fn push(&self, peer: u64, work: impl FnOnce() + Send + 'static) {
        self.0.0.push(peer, Box::new(work));
    }

    /// Queues work for the peer's next turn, and waits for the result; `None` if the work panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        peer: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, result) = oneshot::channel();
        self.push(peer, move || {
            // The caller may have stopped waiting.
            let _ = reply.send(work());
        });
        result.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_has_no_result_and_the_thread_goes_on() {
        let lane = Lane::start("test").expect("a thread");
        let panicked: Option<()> = lane.run(1, || panic!("as asked")).await;
        assert_eq!(panicked, None);
        assert_eq!(lane.run(1, || 7).await, Some(7));
    }
}

//! Work in turns: after each share of it, other tasks run.

/// The bytes that one turn makes or copies. Escaping and encoding cost at most 5 ns a byte, so a turn lasts a third of a
/// millisecond at most.
const TURN: usize = 64 * 1024;

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
            tokio::task::yield_now().await;
        }
    }
}

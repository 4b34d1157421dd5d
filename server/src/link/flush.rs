//! Decides whether a link's task writes now, or first lets the handlers that it has woken add to the same batch.

/// Counts the handlers that may still add messages before the next write.
///
/// A round lasts until all tasks have had a turn. The task of a link waits at most once for each piece of data that arrives.
#[derive(Debug)]
pub(super) struct FlushScheduler {
    round: u64,
    /// The number of handlers that were woken in this round and have not answered.
    awaited: usize,
    /// A handler has sent something unprompted; others may do so, too.
    has_unprompted: bool,
    /// All tasks have had a turn since the last write.
    has_waited: bool,
}

/// The last round in which the handler of a channel was woken.
#[derive(Debug, Default)]
pub(super) struct Woken(u64);

impl FlushScheduler {
    pub(super) fn new() -> Self {
        Self { round: 1, awaited: 0, has_unprompted: false, has_waited: false }
    }

    /// Records that the handler of a channel has something to read. Returns whether it had nothing to read before.
    pub(super) fn wake(&mut self, woken: &mut Woken) -> bool {
        let is_new = woken.0 != self.round;
        if is_new {
            woken.0 = self.round;
            self.awaited += 1;
        }
        is_new
    }

    /// Records that the handler of a channel has run, and whether it has sent anything.
    ///
    /// Freed write space alone does not count as activity: it reappears after every answer, so the next answer would be delayed
    /// for no reason.
    pub(super) fn signalled(&mut self, woken: &mut Woken, has_sent: bool) {
        if woken.0 == self.round {
            woken.0 = 0;
            self.awaited -= 1;
        } else {
            self.has_unprompted |= has_sent;
        }
    }

    /// Returns whether to yield to other tasks before a write; `are_opening`: the application is answering opens. A lone
    /// message's answer is written at once: yielding would wake another thread to look for work (30 µs of a ping's 200).
    pub(super) fn defer(&mut self, are_opening: bool) -> bool {
        if self.has_waited || (self.awaited == 0 && !self.has_unprompted && !are_opening) {
            return false;
        }
        *self = Self { round: self.round + 1, has_waited: true, ..Self::new() };
        true
    }

    /// Records that the task writes now.
    pub(super) fn write(&mut self) {
        self.has_waited = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_a_lone_handler_is_written_at_once() {
        let (mut flush, mut echo) = (FlushScheduler::new(), Woken::default());
        for _ in 0..3 {
            assert!(flush.wake(&mut echo));
            flush.signalled(&mut echo, true);
            assert!(!flush.defer(false));
            flush.write();
        }
    }

    #[test]
    fn a_write_waits_once_for_the_handlers_that_were_woken() {
        let (mut flush, mut quick, mut slow) = (FlushScheduler::new(), Woken::default(), Woken::default());
        assert!(flush.wake(&mut quick) && flush.wake(&mut slow));
        assert!(!flush.wake(&mut slow), "it is awake");
        flush.signalled(&mut quick, true);
        assert!(flush.defer(false), "the slow one may answer");
        assert!(!flush.defer(false), "it has had its turn");
        flush.write();
        // Its answer belongs to no round, so others may have something, too.
        flush.signalled(&mut slow, true);
        assert!(flush.defer(false));
    }

    #[test]
    fn handlers_that_send_unprompted_share_a_write() {
        let (mut flush, mut ticker) = (FlushScheduler::new(), Woken::default());
        flush.signalled(&mut ticker, false);
        assert!(!flush.defer(false), "it has only read");
        flush.signalled(&mut ticker, true);
        assert!(flush.defer(false));
        assert!(!flush.defer(false));
    }

    #[test]
    fn opens_that_are_answered_share_a_write() {
        let mut flush = FlushScheduler::new();
        assert!(flush.defer(true));
        assert!(!flush.defer(true));
        flush.write();
        assert!(flush.defer(true));
    }
}

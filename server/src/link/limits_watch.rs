//! Enforces the limits of one link: its memory, and how long it may stall or stay idle.

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use manysocket_protocol::Intake;
use tokio::time::Sleep;

use crate::budget::{Budget, Reservation};
use crate::limits::Limits;
use crate::metrics::stats::Stats;

/// The interval at which a link looks for memory while it holds messages back: others may have freed some.
const RETRY: Duration = Duration::from_millis(50);

/// A limit that a link has crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitExceeded {
    /// The name of the limit, as in `docs/security.md`.
    pub(crate) limit: &'static str,
    /// The close code and reason for the link.
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

impl LimitExceeded {
    const LINK_MEMORY: Self =
        Self { limit: "link_memory", code: 1008, reason: "the link holds more memory than one may" };
    const TOTAL_MEMORY: Self =
        Self { limit: "total_memory", code: 1013, reason: "the server's memory is full" };
    const STALL_TIMEOUT: Self =
        Self { limit: "stall_timeout", code: 1008, reason: "the peer takes nothing of what it is sent" };
    const IDLE_TIMEOUT: Self =
        Self { limit: "idle_timeout", code: 1000, reason: "the link has had no channel for long" };
    pub(crate) const PHYSICAL_MESSAGE: Self =
        Self { limit: "physical_message", code: 1009, reason: "a physical message larger than any may be" };
}

/// Enforces the limits of one link.
#[derive(Debug)]
pub(crate) struct LinkLimits {
    limits: Limits,
    max_message: u32,
    stats: Stats,
    budget: Arc<Budget>,
    unfinished: Reservation,
    intake: Intake,
    retry: Deadline,
    stalled: Deadline,
    idle: Deadline,
}

impl LinkLimits {
    /// `max_message` is that of the protocol's settings.
    pub(crate) fn new(limits: Limits, max_message: u32, stats: Stats, budget: Arc<Budget>) -> Self {
        Self {
            max_message,
            unfinished: Reservation::new(Arc::clone(&budget)),
            intake: Intake::All,
            retry: Deadline::new(RETRY),
            stalled: Deadline::new(limits.stall_timeout),
            idle: Deadline::new(limits.idle_timeout),
            limits,
            stats,
            budget,
        }
    }

    /// Checks the memory limits, and returns which unfinished messages may continue. The link calls it after receiving;
    /// `unfinished` is the number of bytes in incomplete messages.
    pub(crate) fn check_memory(&mut self, unfinished: usize) -> Result<Intake, LimitExceeded> {
        self.unfinished.set(unfinished);
        let (link, total) = self.budget.taken();
        if link > self.limits.link_memory {
            return Err(LimitExceeded::LINK_MEMORY);
        }
        if total > self.limits.total_memory {
            if link >= total / self.stats.links().max(1) {
                return Err(LimitExceeded::TOTAL_MEMORY);
            }
            self.stats.budgets().wake_largest();
        } else {
            self.stats.budgets().relieve();
        }
        let Limits { link_memory, total_memory, .. } = self.limits;
        // Three eighths, and a message that takes half: the rest is for the handlers' messages and the windows.
        let has_much = link > link_memory / 8 * 3
            || (total > total_memory / 2 && link > total_memory / 2 / self.stats.links().max(1));
        self.intake = if !has_much {
            Intake::All
        } else if link - unfinished > link_memory / 4 {
            // Whole messages wait for their handlers.
            Intake::None
        } else {
            Intake::One
        };
        Ok(self.intake)
    }

    /// Returns the largest message of a channel whose handler sets a limit, if that is above the protocol's: at
    /// most half of the link's memory limit, so that one message cannot end it.
    pub(crate) fn max_message(&self, own_limit: Option<usize>) -> Option<u32> {
        let most = own_limit?.min(self.limits.link_memory / 2);
        u32::try_from(most).ok().filter(|&most| most > self.max_message)
    }

    /// Sets the task to wake when the memory of all links is full and this link holds most of it.
    pub(crate) fn watch(&self, cx: &Context<'_>) {
        self.budget.watch(cx.waker());
    }

    /// Excludes the link from those that are woken, because it has ended.
    pub(crate) fn end(&self) {
        self.budget.end();
        self.stats.budgets().relieve();
    }

    /// Resets the stall timer, because the peer has accepted bytes.
    pub(crate) fn written(&mut self) {
        self.stalled.running = None;
    }

    /// Checks the stall and idle timers. The link calls it whenever one of the conditions may have changed: `stalled`
    /// means that bytes wait for the peer to read them, `idle` that there is no channel.
    pub(crate) fn poll_deadlines(
        &mut self,
        stalled: bool,
        idle: bool,
        cx: &mut Context<'_>,
    ) -> Option<LimitExceeded> {
        while self.retry.poll(self.intake != Intake::All, cx) {
            self.retry.running = None;
            cx.waker().wake_by_ref();
        }
        if self.stalled.poll(stalled, cx) {
            return Some(LimitExceeded::STALL_TIMEOUT);
        }
        self.idle.poll(idle, cx).then_some(LimitExceeded::IDLE_TIMEOUT)
    }
}

/// The longest time that a condition may last.
#[derive(Debug)]
struct Deadline {
    after: Duration,
    running: Option<std::pin::Pin<Box<Sleep>>>,
}

impl Deadline {
    fn new(after: Duration) -> Self {
        Self { after, running: None }
    }

    /// Updates the timer with the condition, whenever that may have changed. Returns true once it has lasted too long.
    fn poll(&mut self, holds: bool, cx: &mut Context<'_>) -> bool {
        if !holds {
            self.running = None;
            return false;
        }
        let after = self.after;
        let sleep = self.running.get_or_insert_with(|| Box::pin(tokio::time::sleep(after)));
        sleep.as_mut().poll(cx).is_ready()
    }
}

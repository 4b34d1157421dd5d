//! When a link and its sockets have waited for too long.

use super::{CLOSING, Entry, Link};
use crate::client::{Failure, Host, SocketClose};
use crate::{Channel, Millis, Violation};

/// How long the server then has to show one, before opens go elsewhere: a round trip and a lost packet on a mobile network.
const PROBED: Millis = 3_000;

/// The host's action after [`Link::handle_timeout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// Nothing but to drain.
    Drain,
    /// Close the physical WebSocket with 1000: no socket has used the link for its idle timeout.
    Idle,
    /// Give the physical WebSocket up, if there still is one, and dial another one, which resumes the link: with
    /// [`Link::resume_query`] in place of the first batch, and [`Link::redialled`] once it is open.
    Dial,
    /// Call [`Link::lost`]: the server no longer keeps the link.
    Lost,
    /// Open sockets over another link, those again whose opens are unanswered: this one may be dead. Its other sockets stay until it
    /// is known to be.
    Silent,
}

impl<H: Host> Link<H> {
    /// Returns the time at which to call [`Link::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Millis> {
        let redial = self.redial.as_ref().map(|redial| redial.at);
        let sockets = earlier(earlier(self.earliest_deadline, self.silent_at), self.idle_at());
        earlier(earlier(self.connection.poll_timeout(), sockets), redial)
    }

    /// Handles the timeouts that are due by `now`: sockets whose server has not answered in time end.
    ///
    /// # Errors
    /// Returns a [`Violation`] if the server has shown no sign of life for too long: the link is dead.
    pub fn handle_timeout(&mut self, now: Millis) -> Result<Timeout, Violation> {
        match self.connection.handle_timeout(now) {
            // Another connection may work.
            Err(_) if self.carrier_lost(now, 0) => {}
            handled => handled?,
        }
        if self.earliest_deadline.is_some_and(|at| at <= now) {
            self.expire(now);
        }
        if self.idle_at().is_some_and(|at| at <= now) {
            self.idle_since = None;
            return Ok(Timeout::Idle);
        }
        if self.silent_at.is_some_and(|at| at <= now) {
            if !std::mem::replace(&mut self.is_probed, true) {
                self.connection.probe(now);
                self.silent_at = Some(now + PROBED);
            } else {
                self.is_probed = false;
                // Another connection serves all sockets, not only those that open.
                if !self.carrier_lost(now, 0) {
                    self.silent_at = None;
                    return Ok(Timeout::Silent);
                }
            }
        }
        if let Some(redial) = &mut self.redial {
            if !self.connection.can_resume() {
                return Ok(Timeout::Lost);
            }
            if redial.at <= now {
                redial.dialled(now);
                return Ok(Timeout::Dial);
            }
        }
        Ok(Timeout::Drain)
    }

    /// When the link has been idle for too long. A link that is still being dialled is not idle.
    fn idle_at(&self) -> Option<Millis> {
        let since = self.idle_since.filter(|_| self.connection.is_established())?;
        Some(since.saturating_add(self.idle_timeout?))
    }

    pub(super) fn set_deadline(&mut self, channel: Channel, at: Millis) {
        if let Some(entry) = self.entry(channel) {
            let is_new = entry.deadline.replace(at).is_none();
            self.deadlines += usize::from(is_new);
            self.earliest_deadline = earlier(self.earliest_deadline, Some(at));
        }
    }

    /// A socket has no deadline any more. The timers of a host have no purpose without any.
    pub(super) fn drop_deadline(&mut self, deadline: Option<Millis>) {
        self.deadlines -= usize::from(deadline.is_some());
        if self.deadlines == 0 {
            self.earliest_deadline = None;
        }
    }

    /// Ends the sockets that have waited too long. It looks at all of them: at most once in the shorter of both times.
    fn expire(&mut self, now: Millis) {
        self.earliest_deadline = None;
        for channel in 1..=self.entries.len() as Channel {
            let Some(&mut Entry { is_open, deadline: Some(at), .. }) = self.entry(channel) else { continue };
            if at > now {
                self.set_deadline(channel, at);
            } else if !is_open {
                self.fail_because(now, channel, Failure::Unanswered);
            } else if self.connection.queued(channel) > 0 {
                // A native socket, too, waits until all that was sent has left.
                self.set_deadline(channel, now + CLOSING);
            } else {
                self.end(now, channel, None, SocketClose::abnormal(), 0);
                self.connection.abort(channel);
            }
        }
    }
}

/// The earlier of two times.
fn earlier(one: Option<Millis>, other: Option<Millis>) -> Option<Millis> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

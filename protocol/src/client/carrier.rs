//! How a link goes on over another connection when it has lost one (docs/protocol.md §8.1).

use super::Host;
use super::link::Link;
use super::redial::Redial;
use crate::physical::text_head;
use crate::{Millis, RESUME_PARAMETER};

impl<H: Host> Link<H> {
    /// Takes in that the connection is lost, or that a connection could not be made. Returns whether the link waits for
    /// another one: [`Timeout::Dial`](super::Timeout::Dial) says when. If it does not, the host calls [`Link::lost`].
    /// `random` is any random number.
    pub fn carrier_lost(&mut self, now: Millis, random: u32) -> bool {
        if !self.connection.carrier_lost(now) {
            return false;
        }
        self.silent_at = None;
        self.redial = Some(Redial::after(self.redial.as_ref(), now, random));
        true
    }

    /// Returns what to add to the query of the link's URL for a connection that resumes the link.
    pub fn resume_query(&self) -> String {
        // Not `format!`: a page would download the code of numbers in all formats for it.
        let mut query = String::from(RESUME_PARAMETER);
        query.push('=');
        let digits = text_head(self.connection.node(), true);
        query.extend(digits.iter().filter(|digit| **digit != b':').map(|&digit| char::from(digit)));
        query
    }

    /// Takes in that a connection which is to resume the link is open.
    pub fn redialled(&mut self, now: Millis) {
        self.connection.redialled(now);
    }

    /// Returns whether the link has lost its connection and waits for another one.
    pub fn is_interrupted(&self) -> bool {
        self.redial.is_some()
    }

    /// Ends the link with its connection from now on, because the host is about to end it. Returns whether the
    /// server does not know: the next physical message says so.
    pub fn forbid_resumption(&mut self) -> bool {
        self.connection.forbid_resumption()
    }

    /// Returns whether the link outlives the loss of its connection.
    pub fn can_resume(&self) -> bool {
        self.connection.can_resume()
    }

    /// Takes in that the server may have answered RESUME.
    pub(super) fn check_resumed(&mut self) {
        if self.redial.is_some() && !self.connection.is_interrupted() {
            self.redial = None;
        }
    }
}

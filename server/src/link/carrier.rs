//! The connection of a link is lost, and another one resumes the link (docs/protocol.md §8.1).

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use super::resumptions::{self, Arrival, Claim, Parked};
use super::{Ended, Link, Task, head};
use crate::ws::linger::linger;

impl Task {
    /// Takes in that the connection is lost. The link waits for another one, if it can.
    ///
    /// # Errors
    /// Returns the end of the link if it cannot: `ended`.
    pub(super) fn lose_carrier(&mut self, ended: Ended) -> Result<(), Ended> {
        let now = self.now();
        if !self.link.endpoint.carrier_lost(now) {
            return Err(ended);
        }
        self.renew_cookies();
        let Link { stats, limits, mailbox, resume_rules, handshake, .. } = &*self.link;
        let all = stats.count_parked();
        let user = resume_rules.user(handshake);
        let of_user = user.map(|user| mailbox.wait_for(user, limits.max_parked_per_user));
        let crossed = if stats.parked() > limits.max_parked {
            Some("max_parked")
        } else {
            matches!(of_user, Some(None)).then_some("max_parked_per_user")
        };
        if let Some(limit) = crossed {
            warn!(limit, "too many links wait for their clients");
            stats.limit_crossed(limit);
            return Err(ended);
        }
        debug!("the link waits for its client");
        self.parked = Some(Parked::new(all, of_user.flatten()));
        self.has_parked.send_replace(true);
        self.is_away = false;
        self.needs_flush = false;
        if let Some(socket) = self.link.socket.take() {
            // A Close of the client's may wait for its answer.
            tokio::spawn(linger(socket));
        }
        Ok(())
    }

    /// Takes the connections that have arrived to carry the link. Returns whether one has.
    pub(super) fn poll_arrivals(&mut self, cx: &mut Context<'_>) -> bool {
        let mut taken = false;
        while let Poll::Ready(arrival) = self.link.mailbox.poll_arrival(cx) {
            self.renew_cookies();
            let Link { endpoint, resume_rules, handshake, .. } = &*self.link;
            let is_accepted = resume_rules.allow(handshake, &arrival.handshake)
                && match &arrival.claim {
                    Claim::Resume(resume) => endpoint.accepts(resume),
                    Claim::Again(_) => endpoint.accepts_second_handshake(),
                };
            if is_accepted && let Some(due) = self.delay_of(&arrival.claim) {
                debug!("the link has been resumed often without progress");
                self.link.stats.limit_crossed("max_resumptions");
                self.link.mailbox.delay(arrival, due);
                continue;
            }
            let token = resumptions::new_token().filter(|_| is_accepted);
            let Some(token) = token else {
                debug!("a connection may not carry the link");
                arrival.refuse();
                continue;
            };
            self.attach(arrival, token);
            taken = true;
        }
        taken
    }

    /// Returns when a connection that is accepted may carry the link, unless that is now.
    fn delay_of(&self, claim: &Claim) -> Option<Instant> {
        let Claim::Resume(resume) = claim else { return None };
        let now = self.now();
        let due = self.link.endpoint.resumption_due(now, resume);
        (due > now).then(|| self.link.started + Duration::from_millis(due))
    }

    /// Takes over the cookies that the browser has shown since the handshake (docs/protocol.md §4.2).
    pub(super) fn renew_cookies(&mut self) {
        let Some(handshake) = self.link.registered.renewed() else { return };
        self.link.dispatcher = Arc::new(self.link.dispatcher.with_cookies(&handshake.headers));
        self.link.head = head::held(&handshake) + self.link.dispatcher.held();
        self.link.handshake = handshake;
    }

    fn attach(&mut self, arrival: Box<Arrival>, token: manysocket_protocol::Token) {
        let Arrival { socket, claim, handshake, dispatcher, head } = *arrival;
        let now = self.now();
        // The connection before may not have noticed yet that it is lost.
        if let Some(old) = self.link.socket.replace(socket) {
            tokio::spawn(linger(old));
        }
        self.count_connection();
        match &claim {
            Claim::Resume(resume) => {
                self.link.endpoint.resume(now, resume, token);
                self.link.stats.link_resumed();
                debug!(carrier = resume.carrier, "link resumed");
            }
            Claim::Again(_) => {
                self.link.endpoint.begin_again(now);
                debug!("a second handshake takes the link over");
            }
        }
        self.link.mailbox.set_tokens(self.link.endpoint.tokens());
        self.link.registered.renew(Arc::clone(&handshake));
        // Opens from now on carry the headers of the newest handshake, such as a cookie that was renewed.
        self.link.dispatcher = dispatcher;
        self.link.handshake = handshake;
        self.link.head = head;
        self.parked = None;
        self.has_parked.send_replace(false);
        self.needs_flush = false;
        self.heard = 0;
        self.pings.restart();
        self.spending.written();
    }
}

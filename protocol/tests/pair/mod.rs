//! Two endpoints, joined by a simulated link with a simulated clock.

// Each test uses a part of it.
#![allow(dead_code)]

use std::collections::VecDeque;

use manysocket_protocol::{Endpoint, Millis, Physical, Settings, Side};

/// A small generator of random numbers (SplitMix64), so that a seed means the same run everywhere.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Messages on their way in one direction, each with the time of its arrival.
#[derive(Default)]
pub(crate) struct Wire(VecDeque<(Millis, Physical)>);

/// Both ends, and the link between them.
pub(crate) struct Pair {
    pub(crate) client: Endpoint,
    pub(crate) server: Endpoint,
    pub(crate) now: Millis,
    pub(crate) latency: Millis,
    to_server: Wire,
    to_client: Wire,
}

impl Pair {
    /// Both ends before the handshake. What the client opens now rides in it.
    pub(crate) fn new(client: Endpoint, server_settings: Settings) -> Self {
        Self {
            client,
            server: Endpoint::new(Side::Server, server_settings, 0),
            now: 0,
            latency: 10,
            to_server: Wire::default(),
            to_client: Wire::default(),
        }
    }

    pub(crate) fn connect(&mut self) {
        self.server.receive_handshake(0, &self.client.handshake()).expect("a correct first batch");
    }

    /// Puts what one side has to send on the wire.
    pub(crate) fn transmit(&mut self, side: Side) {
        let arrival = self.now + self.latency;
        let (endpoint, wire) = match side {
            Side::Client => (&mut self.client, &mut self.to_server),
            Side::Server => (&mut self.server, &mut self.to_client),
        };
        while let Some(message) = endpoint.poll_transmit() {
            wire.0.push_back((arrival, message));
        }
    }

    /// Gives one side what has arrived by now.
    pub(crate) fn deliver(&mut self, side: Side) {
        let (endpoint, wire) = match side {
            Side::Client => (&mut self.client, &mut self.to_client),
            Side::Server => (&mut self.server, &mut self.to_server),
        };
        while wire.0.front().is_some_and(|&(arrival, _)| arrival <= self.now) {
            let (_, message) = wire.0.pop_front().expect("just seen");
            endpoint.receive(self.now, message).expect("a correct peer");
        }
    }

    /// Carries everything until nothing is on its way; events wait to be polled.
    pub(crate) fn settle(&mut self) {
        loop {
            self.transmit(Side::Client);
            self.transmit(Side::Server);
            if self.to_client.0.is_empty() && self.to_server.0.is_empty() {
                return;
            }
            self.now += self.latency;
            self.deliver(Side::Client);
            self.deliver(Side::Server);
        }
    }

    pub(crate) fn end(&mut self, side: Side) -> &mut Endpoint {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}

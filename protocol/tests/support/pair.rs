//! Two endpoints, joined by a simulated link with a simulated clock.

use manysocket_protocol::{Endpoint, Millis, Physical, Settings, Side};

use super::wire::{Wire, length};

pub(crate) const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// Both ends, and the link between them.
pub(crate) struct Pair {
    pub(crate) client: Endpoint,
    pub(crate) server: Endpoint,
    pub(crate) now: Millis,
    pub(crate) latency: Millis,
    /// Bytes a millisecond, each way.
    pub(crate) bandwidth: Option<usize>,
    to_server: Wire<Physical>,
    to_client: Wire<Physical>,
}

impl Pair {
    /// Both ends before the handshake. Channels that the client opens now ride in it.
    pub(crate) fn new(client: Endpoint, server_settings: Settings) -> Self {
        Self::at(0, client, server_settings)
    }

    /// The same, dialled later.
    pub(crate) fn at(now: Millis, client: Endpoint, server_settings: Settings) -> Self {
        Self {
            client,
            server: Endpoint::new(Side::Server, server_settings, now),
            now,
            latency: 10,
            bandwidth: None,
            to_server: Wire::default(),
            to_client: Wire::default(),
        }
    }

    pub(crate) fn connect(&mut self) {
        self.server.receive_handshake(self.now, &self.client.handshake()).expect("a correct first batch");
    }

    /// Puts the output of one side on the wire.
    pub(crate) fn transmit(&mut self, side: Side) {
        self.transmit_some(side, usize::MAX);
    }

    /// Puts at most so many physical messages on the wire.
    pub(crate) fn transmit_some(&mut self, side: Side, most: usize) {
        let arrival = self.now + self.latency;
        let (endpoint, wire) = match side {
            Side::Client => (&mut self.client, &mut self.to_server),
            Side::Server => (&mut self.server, &mut self.to_client),
        };
        for _ in 0..most {
            let Some(message) = endpoint.poll_transmit() else { break };
            let bytes = length(&message);
            wire.send(message, bytes, arrival, self.bandwidth);
        }
    }

    /// Delivers the messages that have arrived at one side by now.
    pub(crate) fn deliver(&mut self, side: Side) {
        let (endpoint, wire) = match side {
            Side::Client => (&mut self.client, &mut self.to_client),
            Side::Server => (&mut self.server, &mut self.to_server),
        };
        while let Some(message) = wire.arrived(self.now) {
            endpoint.receive(self.now, message).expect("a correct peer");
        }
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.to_client.is_empty() && self.to_server.is_empty()
    }

    /// Loses the messages in flight to one side, except the first `kept`, which arrive.
    pub(crate) fn lose(&mut self, side: Side, kept: usize) {
        let wire = match side {
            Side::Client => &mut self.to_client,
            Side::Server => &mut self.to_server,
        };
        wire.lose(kept, self.now);
        self.deliver(side);
    }

    /// Carries everything until nothing is on its way; events wait to be polled.
    pub(crate) fn settle(&mut self) {
        loop {
            self.transmit(Side::Client);
            self.transmit(Side::Server);
            if self.is_idle() {
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

//! Links whose channels are accepted, and the messages that wait at an end.

use manysocket_protocol::{Endpoint, Event, Message, Settings, Side};

use crate::support::pair::Pair;

/// A pair with `count` accepted channels.
pub(crate) fn open(count: u32) -> Pair {
    let mut client = Endpoint::new(Side::Client, Settings::default(), 0);
    for channel in 1..=count {
        assert_eq!(client.open("/", ""), Some(channel));
    }
    let mut pair = Pair::new(client, Settings::default());
    pair.connect();
    while let Some(event) = pair.server.poll_event() {
        let Event::Open { channel, .. } = event else { panic!("{event:?}") };
        pair.server.accept(channel, "");
    }
    pair.settle();
    while pair.client.poll_event().is_some() {}
    pair
}

/// The messages that wait as events, by channel and length.
pub(crate) fn arrived(endpoint: &mut Endpoint) -> Vec<(u32, usize)> {
    let mut arrived = vec![];
    while let Some(event) = endpoint.poll_event() {
        if let Event::Message { channel, message: Message::Text(bytes) | Message::Binary(bytes) } = event {
            arrived.push((channel, bytes.len()));
        }
    }
    arrived
}

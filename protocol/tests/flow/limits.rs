//! Limits of channels, messages, silence and memory.

use manysocket_protocol::{Endpoint, Event, Intake, Message, Settings, Side};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::start::{arrived, open};
use crate::support::pair::{Pair, SIDES};

#[test]
fn opens_beyond_the_servers_limit_are_refused() {
    let mut client = Endpoint::new(Side::Client, Settings::default(), 0);
    for channel in 1..=2000 {
        assert_eq!(client.open("/some/long/path/so/that/not/all/fit/the/handshake", ""), Some(channel));
    }
    let mut pair = Pair::new(client, Settings::new().max_channels(10));
    pair.connect();
    let mut asked = 0;
    for _ in 0..5 {
        while let Some(event) = pair.server.poll_event() {
            let Event::Open { channel, .. } = event else { panic!("{event:?}") };
            pair.server.accept(channel, "");
            asked += 1;
        }
        pair.settle();
    }
    let (mut accepted, mut refused) = (0, 0);
    while let Some(event) = pair.client.poll_event() {
        match event {
            Event::Accepted { .. } => accepted += 1,
            Event::Refused { status: 503, .. } => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((asked, accepted, refused), (10, 10, 1990));
    assert_eq!((pair.client.channels(), pair.server.channels()), (10, 10));
    assert_eq!(pair.client.open("/one/more", ""), None);
}

#[test]
fn a_message_past_the_limit_closes_its_channel_and_no_other() {
    let mut client = Endpoint::new(Side::Client, Settings::default(), 0);
    client.open("/", "");
    client.open("/", "");
    let mut pair = Pair::new(client, Settings::new().max_message(100_000));
    pair.connect();
    while let Some(Event::Open { channel, .. }) = pair.server.poll_event() {
        pair.server.accept(channel, "");
    }
    pair.settle();
    while pair.client.poll_event().is_some() {}

    pair.client.send(1, Message::text("x".repeat(100_001)));
    pair.client.send(2, Message::text("x".repeat(100_000)));
    pair.settle();
    assert_eq!(pair.server.poll_event(), Some(Event::Oversize { channel: 1 }));
    assert_eq!(arrived(&mut pair.server), [(2, 100_000)]);
    let closed =
        std::iter::from_fn(|| pair.client.poll_event()).find(|event| matches!(event, Event::Closed { .. }));
    let Some(Event::Closed { channel: 1, close }) = closed else { panic!("{closed:?}") };
    assert_eq!(close.code, Some(1009));
    pair.client.close(1, close.code, "");
    pair.settle();
    assert_eq!((pair.client.channels(), pair.server.channels()), (1, 1));
}

#[test]
fn a_silent_link_is_kept_alive_and_a_dead_one_found() {
    let mut pair = open(0);
    let interval = Settings::default().ping_interval;
    for _ in 0..100 {
        pair.now += interval;
        let now = pair.now;
        pair.server.handle_timeout(now).expect("the client answers pings");
        pair.client.handle_timeout(now).expect("the server pings");
        pair.settle();
    }
    let dead_within = 2 * interval + 2 * 10_000;
    let start = pair.now;
    for side in [Side::Client, Side::Server] {
        let died = loop {
            let at = pair.end(side).poll_timeout().expect("a timer").max(pair.now);
            match pair.end(side).handle_timeout(at) {
                Ok(()) => while pair.end(side).poll_transmit().is_some() {},
                Err(_) => break at,
            }
        };
        assert!(died - start <= dead_within, "{side:?}: {} ms", died - start);
    }
}

#[test]
fn two_messages_that_are_too_large_do_not_wait_for_each_other() {
    let settings = Settings::new().max_message(100_000);
    let mut client = Endpoint::new(Side::Client, settings, 0);
    client.open("/", "");
    let mut pair = Pair::new(client, settings);
    pair.connect();
    pair.server.accept(1, "");
    pair.settle();
    // Far more than the credit: each gives the channel up with the rest of its message still queued.
    for side in SIDES {
        pair.end(side).send(1, Message::binary(vec![0; 3_000_000]));
    }
    pair.settle();
    for side in SIDES {
        let heard = std::iter::from_fn(|| pair.end(side).poll_event())
            .any(|event| event == Event::Oversize { channel: 1 });
        assert!(heard, "{side:?}");
        assert_eq!((pair.end(side).channels(), pair.end(side).queued(1)), (0, 0), "{side:?}");
    }
}

#[test]
fn a_close_that_waits_behind_what_will_not_come_is_not_sent() {
    let settings = Settings::new().max_message(1000);
    let mut client = Endpoint::new(Side::Client, settings, 0);
    client.open("/", "");
    let mut pair = Pair::new(client, Settings::default());
    pair.connect();
    pair.server.accept(1, "");
    pair.settle();
    // The server's reader takes nothing, so that the close waits for credit.
    for _ in 0..1000 {
        pair.client.send(1, Message::binary(vec![0; 1000]));
    }
    pair.client.close(1, Some(1000), "all of it");
    pair.settle();
    pair.server.send(1, Message::binary(vec![0; 2000]));
    pair.settle();
    let closed = std::iter::from_fn(|| pair.server.poll_event()).find_map(|event| match event {
        Event::Closed { close, .. } => close.code,
        _ => None,
    });
    assert_eq!(closed, Some(1009), "1000 would say that all has come");
}

/// Joins two ends, with three channels open and messages that are larger than the credit.
fn uploading() -> Pair {
    let mut client = Endpoint::new(Side::Client, Settings::default(), 0);
    for _ in 0..3 {
        client.open("/", "");
    }
    let mut pair = Pair::new(client, Settings::default());
    pair.connect();
    for channel in 1..=3 {
        pair.server.accept(channel, "");
    }
    pair.settle();
    while pair.server.poll_event().is_some() {}
    pair
}

#[test]
fn unfinished_messages_wait_for_memory_and_lose_nothing() {
    let mut pair = uploading();
    pair.server.set_intake(Intake::None);
    for channel in 1..=3 {
        pair.client.send(channel, Message::binary(vec![0; 4_000_000]));
    }
    pair.settle();
    assert_eq!(arrived(&mut pair.server), [], "each has spent its credit");
    let held = pair.server.unfinished();
    assert!(held <= 2 * 3 * Settings::default().window as usize, "{held}");

    // Credit for one window at a time: the shortage comes back before a message has ended.
    for _ in 0..2 {
        pair.server.set_intake(Intake::One);
        pair.server.set_intake(Intake::None);
        pair.settle();
        assert_eq!(arrived(&mut pair.server), []);
    }
    let more = pair.server.unfinished();
    assert!(more > held, "{more}");
    pair.server.set_intake(Intake::One);
    pair.settle();
    let mut all = arrived(&mut pair.server);
    while all.len() < 3 {
        // The host calls it whenever its memory has changed.
        pair.server.set_intake(Intake::One);
        pair.settle();
        let more = arrived(&mut pair.server);
        assert_eq!(more.len(), 1, "one goes on while others wait");
        all.extend(more);
    }
    all.sort_unstable();
    assert_eq!(all, [(1, 4_000_000), (2, 4_000_000), (3, 4_000_000)]);
    assert_eq!(pair.server.unfinished(), 0);
}

#[test]
fn a_channel_that_ends_gives_the_next_one_its_turn() {
    let mut pair = uploading();
    pair.server.set_intake(Intake::One);
    for channel in 1..=3 {
        pair.client.send(channel, Message::binary(vec![0; 1_000_000]));
    }
    // Each piece arrives alone, so the first channel has the turn when it ends.
    for channel in [1, 2] {
        pair.client.abort(channel);
    }
    pair.settle();
    pair.server.set_intake(Intake::One);
    pair.settle();
    assert_eq!(arrived(&mut pair.server), [(3, 1_000_000)]);
}

#[test]
fn a_channel_may_take_more_than_others() {
    let mut pair = uploading();
    let most = Settings::default().max_message;
    pair.server.set_max_message(1, most + 1);
    pair.server.set_max_message(2, 10);
    for (channel, size) in [(1, most + 1), (2, 11), (3, 11)] {
        pair.client.send(channel, Message::binary(vec![0; size as usize]));
    }
    pair.settle();
    let mut seen = Vec::new();
    while let Some(event) = pair.server.poll_event() {
        seen.push(match event {
            Event::Message { channel, message } => (channel, message.units()),
            Event::Oversize { channel } => (channel, 0),
            other => panic!("{other:?}"),
        });
    }
    seen.sort_unstable();
    assert_eq!(seen, [(1, most + 1), (2, 0), (3, 11)]);
}

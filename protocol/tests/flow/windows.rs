//! The growth of windows with the length of a path, and its bounds.

use manysocket_protocol::{Event, Message, Settings, Side};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::start::{arrived, open};
use crate::support::pair::Pair;

/// A millisecond of a link, at whose server a reader takes everything at once. Gives what arrived.
fn step(pair: &mut Pair) -> Vec<(u32, usize)> {
    pair.now += 1;
    pair.transmit(Side::Client);
    pair.deliver(Side::Server);
    let arrived = arrived(&mut pair.server);
    for &(channel, units) in &arrived {
        pair.server.consumed(channel, 1, units as u32);
    }
    pair.transmit(Side::Server);
    pair.deliver(Side::Client);
    arrived
}

/// Sends so many messages of 32 KiB on channel 1 and gives the milliseconds until the last has arrived.
fn transfer(pair: &mut Pair, count: usize) -> u64 {
    let start = pair.now;
    for _ in 0..count {
        pair.client.send(1, Message::binary(vec![7; 32 * 1024]));
    }
    let mut left = count;
    while left > 0 {
        left -= step(pair).len();
        assert!(pair.now - start < 100_000, "{left} left");
    }
    pair.now - start
}

#[test]
fn a_window_grows_with_a_long_path() {
    let mut pair = open(1);
    (pair.latency, pair.bandwidth) = (50, Some(12_500));
    // 64 MiB at 100 Mbit/s and 100 ms; a window of 256 KiB a round trip would take 25.6 seconds.
    let took = transfer(&mut pair, 2048);
    assert!((5_300..7_000).contains(&took), "{took} ms of at least 5,369");
}

/// The growth of a channel is free for others once it has ended: closed by the client, or given up by the server.
#[test]
fn the_growth_of_a_channel_that_has_ended_is_free_again() {
    let mut pair = open(1);
    (pair.latency, pair.bandwidth) = (400, None);
    for round in 0..8 {
        let took = transfer(&mut pair, 1024);
        assert!(took < 30_000, "{took} ms in round {round}");
        if round % 2 == 0 {
            pair.client.close(1, None, "");
            pair.settle();
            pair.server.close(1, None, "");
        } else {
            pair.server.abort(1);
            pair.settle();
            pair.client.close(1, None, "");
        }
        pair.settle();
        while pair.client.poll_event().is_some() {}
        while pair.server.poll_event().is_some() {}
        assert_eq!(pair.client.open("/", ""), Some(1));
        pair.settle();
        assert!(matches!(pair.server.poll_event(), Some(Event::Open { channel: 1, .. })));
        pair.server.accept(1, "");
        pair.settle();
        while pair.client.poll_event().is_some() {}
    }
}

#[test]
fn a_window_does_not_grow_into_a_queue() {
    let mut pair = open(2);
    (pair.latency, pair.bandwidth) = (10, Some(1_250));
    // At 10 Mbit/s the first window is more than the path holds: a tenth of a second of queue is too much already.
    transfer(&mut pair, 200);
    for _ in 0..200 {
        pair.client.send(1, Message::binary(vec![7; 32 * 1024]));
    }
    for _ in 0..1000 {
        step(&mut pair);
    }
    let asked = pair.now;
    pair.client.send(2, Message::text("ping"));
    while !step(&mut pair).iter().any(|&(channel, _)| channel == 2) {}
    let window = u64::from(Settings::default().window);
    assert!(pair.now - asked <= 10 + window / 1_250 + 25, "{} ms", pair.now - asked);
}

#[test]
fn a_channel_that_is_not_alone_keeps_its_queue_short() {
    let mut pair = open(2);
    (pair.latency, pair.bandwidth) = (1, Some(100_000));
    for _ in 0..4096 {
        pair.client.send(1, Message::binary(vec![7; 32 * 1024]));
    }
    let mut waits = vec![];
    while pair.client.queued(1) > 0 && waits.len() < 100 {
        let asked = pair.now;
        pair.client.send(2, Message::text("ping"));
        while !step(&mut pair).iter().any(|&(channel, _)| channel == 2) {}
        waits.push(pair.now - asked);
        for _ in 0..5 {
            step(&mut pair);
        }
    }
    assert!(waits.len() > 50 && waits.iter().all(|&wait| wait <= 5), "256 KiB take 2.6 ms: {waits:?}");
}

#[test]
fn all_growth_of_a_link_is_bounded() {
    let mut pair = open(4);
    (pair.latency, pair.bandwidth) = (50, None);
    for channel in 1..=4 {
        for _ in 0..4096 {
            pair.client.send(channel, Message::binary(vec![7; 32 * 1024]));
        }
    }
    for _ in 0..1000 {
        step(&mut pair);
    }
    assert!((1..=4).any(|channel| pair.client.queued(channel) > 0), "still at it");
    // Now nobody reads any more.
    pair.settle();
    let unread: usize = arrived(&mut pair.server).iter().map(|&(_, units)| units).sum();
    let Settings { window, window_growth, .. } = Settings::default();
    assert!(unread > 5 * window as usize, "{unread}: windows have grown");
    assert!(unread <= (4 * window + window_growth) as usize, "{unread}");
}

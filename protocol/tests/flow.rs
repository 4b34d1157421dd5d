//! Credit, fairness and order, seen from outside.

mod support;

use manysocket_protocol::{Endpoint, Event, Intake, MESSAGE_OVERHEAD, Message, Physical, Settings, Side};
use support::pair::{Pair, SIDES};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

/// A pair with `count` accepted channels.
fn open(count: u32) -> Pair {
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
fn arrived(endpoint: &mut Endpoint) -> Vec<(u32, usize)> {
    let mut arrived = vec![];
    while let Some(event) = endpoint.poll_event() {
        if let Event::Message { channel, message: Message::Text(bytes) | Message::Binary(bytes) } = event {
            arrived.push((channel, bytes.len()));
        }
    }
    arrived
}

#[test]
fn a_reader_that_stalls_holds_up_its_own_channel_and_nothing_else() {
    let mut pair = open(2);
    for _ in 0..10_000 {
        pair.client.send(1, Message::binary(vec![0; 1000]));
    }
    pair.settle();
    let stalled = arrived(&mut pair.server);
    let bound = Settings::default().window as usize / (1000 + MESSAGE_OVERHEAD as usize);
    assert_eq!(stalled.len(), bound, "a window of channel 1 and no more");

    for _ in 0..10_000 {
        pair.client.send(2, Message::binary(vec![0; 1000]));
    }
    let mut others = 0;
    while others < 10_000 {
        pair.settle();
        let got = arrived(&mut pair.server);
        assert!(!got.is_empty() && got.iter().all(|&(channel, _)| channel == 2));
        others += got.len();
        pair.server.consumed(2, got.len() as u32, 1000 * got.len() as u32);
    }

    pair.server.consumed(1, bound as u32, 1000 * bound as u32);
    pair.settle();
    assert_eq!(arrived(&mut pair.server).len(), bound, "another window, once it reads");
}

#[test]
fn empty_messages_cost_credit() {
    let mut pair = open(1);
    for _ in 0..100_000 {
        pair.client.send(1, Message::text(""));
    }
    pair.settle();
    assert_eq!(arrived(&mut pair.server).len() as u32, Settings::default().window / MESSAGE_OVERHEAD);
}

#[test]
fn a_message_larger_than_the_window_arrives_whole() {
    let mut pair = open(1);
    let Settings { window, window_growth, .. } = Settings::default();
    let size = 2 * (window + window_growth) as usize + 1;
    pair.client.send(1, Message::binary(vec![7; size]));
    pair.settle();
    assert_eq!(arrived(&mut pair.server), [(1, size)]);
    // It is unread: until it is read, no other comes.
    pair.client.send(1, Message::binary(vec![7; 1000]));
    pair.client.send(1, Message::binary(vec![7; size]));
    pair.settle();
    assert!(arrived(&mut pair.server).len() <= 1);
    assert!(pair.client.queued(1) > size as u32 - window - window_growth);
    pair.server.consumed(1, 1, size as u32);
    pair.server.consumed(1, 1, 1000);
    pair.settle();
    assert_eq!(pair.client.queued(1), 0);
}

#[test]
fn a_message_waits_for_the_grant_that_is_due_rather_than_being_cut() {
    let mut pair = open(1);
    // Less than half of the window is left: the next does not fit, and is not cut.
    for _ in 0..2 {
        pair.client.send(1, Message::binary(vec![1; 160 * 1024]));
    }
    pair.settle();
    assert_eq!(arrived(&mut pair.server), [(1, 160 * 1024)]);
    assert_eq!(pair.client.queued(1), 160 * 1024, "whole");
    pair.server.consumed(1, 1, 160 * 1024);
    pair.settle();
    assert_eq!(arrived(&mut pair.server), [(1, 160 * 1024)]);
}

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

#[test]
fn small_messages_pass_between_the_pieces_of_a_large_one() {
    let mut pair = open(2);
    pair.client.send(1, Message::binary(vec![7; 4 * Settings::default().max_fragment as usize]));
    pair.client.send(2, Message::text("small"));
    pair.settle();
    assert_eq!(arrived(&mut pair.server)[0], (2, 5));
}

#[test]
fn large_messages_take_turns() {
    let mut pair = open(2);
    for channel in [1, 2] {
        for _ in 0..5 {
            pair.client.send(channel, Message::binary(vec![7; 10_000]));
        }
    }
    pair.settle();
    let order: Vec<u32> = arrived(&mut pair.server).into_iter().map(|(channel, _)| channel).collect();
    assert_eq!(order, [1, 2].repeat(5));
}

#[test]
fn batches_end_where_more_in_them_saves_nothing() {
    let mut client = Endpoint::new(Side::Client, Settings::default(), 0);
    client.receive(0, Physical::Binary(vec![2, 0, 0x0b, 0].into())).expect("a HELLO");
    let target = format!("/{}", "x".repeat(100));
    for _ in 0..2000 {
        client.open(&target, "");
    }
    let batches: Vec<Physical> = std::iter::from_fn(|| client.poll_transmit()).collect();
    for batch in &batches {
        let Physical::Binary(bytes) = batch else { panic!("{batch:?}") };
        assert!(bytes.len() < 40_000, "{} bytes", bytes.len());
    }
    assert!(batches.len() < 10);
}

#[test]
fn many_messages_of_one_turn_travel_as_one() {
    let mut pair = open(100);
    for channel in 1..=100 {
        pair.client.send(channel, Message::text(format!("to {channel}")));
    }
    let Some(Physical::Binary(_)) = pair.client.poll_transmit() else { panic!("a batch") };
    assert_eq!(pair.client.poll_transmit(), None);
    pair.client.send(7, Message::text("hello"));
    assert_eq!(pair.client.poll_transmit(), Some(Physical::Text("7:hello".into())), "alone: as text");
}

/// The lengths of the physical messages that go out.
fn sizes(endpoint: &mut Endpoint) -> Vec<usize> {
    std::iter::from_fn(|| endpoint.poll_transmit())
        .map(|(Physical::Binary(bytes) | Physical::Text(bytes))| bytes.len())
        .collect()
}

#[test]
fn large_binaries_of_one_channel_travel_untouched_behind_one_header() {
    let mut pair = open(1);
    for side in SIDES {
        for _ in 0..4 {
            pair.end(side).send(1, Message::binary(vec![1; 20_000]));
        }
    }
    assert_eq!(sizes(&mut pair.server), [3, 20_000, 20_000, 20_000, 20_000], "RAW 1, then the payloads");
    // A client packs the first, since the next may be another channel's: two lengths, its header, RAW for the others, its content.
    assert_eq!(sizes(&mut pair.client), [2 + 4 + 1 + 20_000, 20_000, 20_000, 20_000]);
    // The header is there: what would travel in a batch without it does not have to be copied.
    pair.client.send(1, Message::binary(vec![1; 5000]));
    assert_eq!(sizes(&mut pair.client), [5000]);
}

#[test]
fn large_binaries_of_a_clients_channels_that_take_turns_need_no_headers() {
    let mut pair = open(3);
    for channel in [1, 2, 3, 1, 2, 3] {
        pair.client.send(channel, Message::binary(vec![1; 70_000]));
        // Each as soon as it is sent, as a page does with such messages.
        let sizes = sizes(&mut pair.client);
        assert!(matches!(sizes[..], [70_000..70_020]), "{sizes:?}");
    }
}

#[test]
fn binaries_below_16_kib_travel_in_batches() {
    let mut pair = open(2);
    for side in SIDES {
        for channel in [1, 2] {
            pair.end(side).send(channel, Message::binary(vec![1; 5000]));
        }
        assert_eq!(sizes(pair.end(side)), [2 + 2 * 3 + 2 * 5000]);
    }
}

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

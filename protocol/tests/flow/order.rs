//! Credit, fairness, and the order and batches of messages.

use manysocket_protocol::{Endpoint, MESSAGE_OVERHEAD, Message, Physical, Settings, Side};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::start::{arrived, open};
use crate::support::pair::SIDES;

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

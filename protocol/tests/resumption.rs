//! A link outlives its connections: counts, replay, acknowledgements and refusals (docs/protocol.md §8.1).

mod support;

use manysocket_protocol::{Endpoint, Event, Message, Physical, Resume, Settings, Side};
use support::resumable::{KEPT, Pair, settings, text, token};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

#[test]
fn what_either_side_sent_into_a_lost_connection_arrives_once() {
    let mut pair = Pair::new();
    for side in [Side::Client, Side::Server] {
        pair.end(side).send(1, text("arrives"));
    }
    pair.settle();
    for side in [Side::Client, Side::Server] {
        assert_eq!(pair.messages(side), [text("arrives")]);
        pair.end(side).send(1, text("is lost"));
        assert_eq!(pair.sent(side).len(), 1);
        pair.end(side).send(1, text("waits"));
    }
    let resume = pair.redial();
    pair.client.send(1, text("is sent meanwhile"));
    pair.take(&resume);
    pair.settle();
    assert_eq!(pair.messages(Side::Client), [text("is lost"), text("waits")]);
    assert_eq!(pair.messages(Side::Server), [text("is lost"), text("waits"), text("is sent meanwhile")]);
}

#[test]
fn an_idle_link_sends_no_more_than_without_resumption() {
    let mut pair = Pair::new();
    assert_eq!(pair.settle(), 0, "no ACK for an ACK");
    pair.client.send(1, text("hello"));
    assert_eq!(pair.settle(), 1, "no ACK for a small message");
    pair.now = 25_000;
    pair.server.handle_timeout(pair.now).expect("a living client");
    assert_eq!(pair.settle(), 2, "PING and PONG, and both ACKs in them");
    assert_eq!((pair.client.held_bytes(), pair.server.held_bytes()), held_by_nothing());
}

/// The bytes of empty queues.
fn held_by_nothing() -> (usize, usize) {
    let mut pair = Pair::new();
    pair.client.send(1, text("hello"));
    pair.settle();
    let held = pair.client.held_bytes() - "1:hello".len();
    (held, pair.server.held_bytes())
}

#[test]
fn a_stream_is_acknowledged_and_the_acks_are_few() {
    let mut pair = Pair::new();
    let (mut held, mut messages) = (0, 0);
    for _ in 0..400 {
        pair.server.send(1, Message::binary(vec![7; 10_000]));
        messages += pair.settle();
        let read = pair.messages(Side::Client).len() as u32;
        pair.client.consumed(1, read, read * 10_000);
        held = held.max(pair.server.held_bytes());
    }
    messages += pair.settle();
    assert!(held < 200_000, "{held} bytes were held");
    // 4 MB: each 128 KiB cost a GRANT or an ACK, and each message itself.
    assert!(messages < 400 + 80, "{messages} messages for 400");
}

#[test]
fn raw_mode_outlives_a_connection() {
    let mut pair = Pair::new();
    let large = |n: u8| Message::binary(vec![n; 50_000]);
    for n in [0, 1] {
        pair.client.send(1, large(n));
        pair.settle();
        assert_eq!(pair.messages(Side::Server), [large(n)]);
    }
    pair.client.send(1, large(2));
    // Its header is in force: only the payload goes out.
    assert_eq!(pair.sent(Side::Client).len(), 1);
    let resume = pair.redial();
    pair.take(&resume);
    pair.client.send(1, large(3));
    pair.settle();
    assert_eq!(pair.messages(Side::Server), [large(2), large(3)]);
}

#[test]
fn pings_and_pongs_are_not_sent_again() {
    let mut pair = Pair::new();
    pair.now = 25_000;
    pair.server.handle_timeout(pair.now).expect("a living client");
    pair.server.send(1, text("with a ping"));
    assert_eq!(pair.sent(Side::Server).len(), 2, "they share no batch");
    let resume = pair.redial();
    pair.take(&resume);
    // RESUMED, and the message.
    assert_eq!(pair.sent(Side::Server).len(), 2);
}

#[test]
fn a_lost_answer_is_asked_for_again_with_the_token_before() {
    let mut pair = Pair::new();
    let first = pair.redial();
    pair.take(&first);
    assert!(!pair.server.accepts(&first), "a connection resumes once");
    // The server's answer is lost.
    pair.sent(Side::Server);
    let second = pair.redial();
    assert_eq!(second.token, first.token);
    pair.take(&second);
    pair.settle();
    let third = pair.redial();
    assert_ne!(third.token, second.token);
    assert!(!pair.server.accepts(&Resume { token: second.token, ..third }), "the client has the next token");
    pair.take(&third);
    pair.settle();
    pair.client.send(1, text("hello"));
    pair.settle();
    assert_eq!(pair.messages(Side::Server), [text("hello")]);
}

#[test]
fn a_connection_that_is_lost_while_messages_are_sent_again_confuses_nobody() {
    let mut pair = Pair::new();
    for n in 0..3 {
        pair.client.send(1, text(&n.to_string()));
        assert_eq!(pair.sent(Side::Client).len(), 1);
    }
    let resume = pair.redial();
    pair.take(&resume);
    for message in pair.sent(Side::Server) {
        pair.client.receive(0, message).expect("a correct server");
    }
    // The ACK, and one message.
    assert!(pair.client.poll_transmit().is_some() && pair.client.poll_transmit().is_some());
    // Panics if the next connection does not begin with RESUME and nothing else.
    let resume = pair.redial();
    pair.take(&resume);
    pair.settle();
    assert_eq!(pair.messages(Side::Server), [text("0"), text("1"), text("2")]);
}

#[test]
fn of_two_connections_that_race_the_later_wins() {
    let mut pair = Pair::new();
    let slow = pair.redial();
    let fast = pair.redial();
    pair.take(&fast);
    assert!(!pair.server.accepts(&slow));
    pair.settle();
    let resume = pair.redial();
    assert!(pair.server.accepts(&resume), "the slow one did no harm");
}

#[test]
fn a_resumption_that_is_not_the_clients_changes_nothing() {
    let mut pair = Pair::new();
    let resume = pair.redial();
    for wrong in [
        Resume { token: token(99), ..resume },
        Resume { received: resume.received.wrapping_sub(1), ..resume },
        Resume { received: resume.received + 1, ..resume },
        Resume { carrier: 0, ..resume },
    ] {
        assert!(!pair.server.accepts(&wrong), "{wrong:?}");
    }
    pair.take(&resume);
}

#[test]
fn a_client_without_a_token_does_not_wait() {
    let mut client = Endpoint::new(Side::Client, settings(Side::Client), 0);
    let mut server = Endpoint::new(Side::Server, settings(Side::Server), 0);
    server.allow_resumption(token(1));
    client.open("/", "");
    server.receive_handshake(0, &client.handshake()).expect("a correct first batch");
    assert!(!client.carrier_lost(0), "the server's first message is lost");
    assert!(!server.carrier_lost(0), "the client has never had a token");
}

#[test]
fn only_two_sides_that_want_it_resume() {
    for (client, server) in [(0, KEPT), (1, 0), (0, 0)] {
        let of = |side, resume_timeout| settings(side).resume_timeout(resume_timeout);
        let mut pair = Pair::with(of(Side::Client, client), of(Side::Server, server));
        assert_eq!(pair.client.held_bytes() + pair.server.held_bytes(), 0);
        assert!(!pair.client.carrier_lost(0) && !pair.server.carrier_lost(0));
    }
}

/// Both ends of a link whose client has dialled, and has had no answer. The server expects a second handshake.
fn dialled(server: Settings) -> Pair {
    let mut client = Endpoint::new(Side::Client, settings(Side::Client), 0);
    let mut server = Endpoint::new(Side::Server, server, 0);
    server.allow_resumption(token(1));
    client.open("/", "");
    server.receive_handshake(0, &client.handshake()).expect("a correct first batch");
    server.expect_second_handshake();
    assert!(matches!(server.poll_event(), Some(Event::Open { .. })));
    Pair { client, server, now: 0, tokens: 1 }
}

#[test]
fn a_second_handshake_gets_all_that_the_first_one_lost() {
    let content = [text("one"), Message::binary(vec![7; 100_000]), text("two"), text(&"three".repeat(9_000))];
    for lost in 0.. {
        let mut pair = dialled(settings(Side::Server));
        pair.server.accept(1, "");
        for message in content.clone() {
            pair.server.send(1, message);
        }
        let mut sent = 0;
        while sent < lost && pair.server.poll_transmit().is_some() {
            sent += 1;
        }
        // The server may have noticed.
        if lost % 2 == 1 {
            assert!(pair.server.carrier_lost(0), "{lost}");
        }
        assert!(pair.server.accepts_second_handshake(), "{lost}");
        pair.server.begin_again(0);
        pair.server.send(1, text("four"));
        pair.settle();
        let accepted = pair.client.poll_event();
        assert!(matches!(accepted, Some(Event::Accepted { channel: 1, .. })), "{lost}: {accepted:?}");
        let expected = [&content[..], &[text("four")]].concat();
        assert!(pair.messages(Side::Client) == expected, "{lost}");
        // It is a link as any other.
        assert!(!pair.server.accepts_second_handshake(), "{lost}");
        pair.client.send(1, text("lost"));
        drop(pair.sent(Side::Client));
        let resume = pair.redial();
        pair.take(&resume);
        pair.settle();
        assert_eq!(pair.messages(Side::Server), [text("lost")]);
        if sent < lost {
            assert!(lost > 3, "there is more than one place to cut");
            return;
        }
    }
}

#[test]
fn a_second_handshake_takes_over_a_link_without_answers_only_and_not_for_long() {
    let mut pair = dialled(settings(Side::Server));
    pair.settle();
    assert!(!pair.server.accepts_second_handshake(), "the client has its token");
    let mut pair = dialled(settings(Side::Server));
    assert!(pair.server.carrier_lost(5));
    for (now, waits) in [(10_004, true), (10_005, false)] {
        pair.server.handle_timeout(now).expect("a link without a peer");
        assert_eq!((pair.server.can_resume(), pair.server.accepts_second_handshake()), (waits, waits));
    }
    let mut pair = dialled(settings(Side::Server).resume_timeout(0));
    assert!(!pair.server.accepts_second_handshake() && !pair.server.carrier_lost(0));
    let mut pair = dialled(settings(Side::Server));
    pair.server.forbid_resumption();
    assert!(!pair.server.accepts_second_handshake() && !pair.server.carrier_lost(0));
}

#[test]
fn a_side_that_leaves_says_so() {
    for side in [Side::Client, Side::Server] {
        let mut pair = Pair::new();
        pair.end(side).forbid_resumption();
        assert_eq!(pair.settle(), 1);
        assert!(!pair.client.can_resume() && !pair.server.can_resume());
    }
}

#[test]
fn a_lost_link_ends_in_time() {
    let mut pair = Pair::new();
    pair.now = 1_000;
    assert!(pair.server.carrier_lost(pair.now) && pair.client.carrier_lost(pair.now));
    for end in [&mut pair.client, &mut pair.server] {
        assert_eq!(end.poll_timeout(), Some(1_000 + KEPT), "silence ends nothing meanwhile");
        end.handle_timeout(1_000 + KEPT - 1).expect("no violation");
        assert!(end.can_resume());
        end.handle_timeout(1_000 + KEPT).expect("no violation");
        assert!(!end.can_resume());
    }
}

#[test]
fn a_connection_that_is_lost_before_the_answer_buys_no_time() {
    let mut pair = Pair::new();
    pair.redial();
    pair.now = KEPT - 1;
    pair.redial();
    assert_eq!(pair.client.poll_timeout(), Some(KEPT));
}

#[test]
fn what_a_peer_does_not_acknowledge_is_bounded() {
    let mut pair = Pair::new();
    // It reads and grants, but its ACKs never arrive.
    let mut sent = 0;
    for _ in 0..3_000 {
        pair.server.send(1, Message::binary(vec![7; 10_000]));
        for message in pair.sent(Side::Server) {
            sent += 1;
            pair.client.receive(0, message).expect("a correct server");
        }
        let read = pair.messages(Side::Client).len() as u32;
        pair.client.consumed(1, read, read * 10_000);
        for message in pair.sent(Side::Client) {
            if !is_ack(&message) {
                pair.server.receive(0, without_ack(message)).expect("a correct client");
            }
        }
        assert!(pair.server.held_bytes() < 17 << 20);
    }
    assert!(sent > 2_999, "the link goes on, without resumption: {sent}");
    assert!(!pair.server.can_resume() && !pair.client.can_resume());
}

/// A batch without text and binary, as its headers.
fn headers(message: &Physical) -> Vec<u8> {
    match message {
        Physical::Binary(bytes)
            if bytes.len() > 2 && bytes[0] as usize == bytes.len() - 2 && bytes[1] == 0 =>
        {
            bytes[2..].to_vec()
        }
        _ => Vec::new(),
    }
}

/// Whether a message is an ACK and nothing else: LINK type 8, with its length.
fn is_ack(message: &Physical) -> bool {
    matches!(&headers(message)[..], [0x8b, 1, length, ..] if headers(message).len() == 3 + *length as usize)
}

/// The message without an ACK at its beginning or end.
fn without_ack(message: Physical) -> Physical {
    let mut headers = headers(&message);
    let Some(at) = headers.windows(2).position(|tag| tag == [0x8b, 1]) else { return message };
    let length = headers[at + 2] as usize;
    headers.drain(at..at + 3 + length);
    let mut bytes = vec![headers.len() as u8, 0];
    bytes.append(&mut headers);
    Physical::Binary(bytes.into())
}

#[test]
fn a_message_that_never_passes_is_not_sent_for_ever() {
    let mut pair = Pair::new();
    pair.client.send(1, text("a proxy refuses this"));
    pair.sent(Side::Client);
    let mut attempts = 0;
    while pair.client.carrier_lost(0) {
        attempts += 1;
        assert!(attempts < 40);
        let resume = pair.redial();
        pair.take(&resume);
        for message in pair.sent(Side::Server) {
            pair.client.receive(0, message).expect("a correct server");
        }
        assert_eq!(pair.sent(Side::Client).len(), 2, "the ACK and the message, which is lost");
    }
    assert!(attempts > 3, "a network may fail a few times in a row: {attempts}");
}

#[test]
fn a_message_may_fail_more_often_while_others_arrive() {
    let mut pair = Pair::new();
    pair.client.send(1, text("too large for so short a connection"));
    pair.sent(Side::Client);
    let mut attempts = 0;
    while pair.client.carrier_lost(0) {
        attempts += 1;
        assert!(attempts < 100, "a proxy may refuse it");
        let resume = pair.redial();
        pair.take(&resume);
        pair.server.send(1, text("news"));
        for message in pair.sent(Side::Server) {
            pair.client.receive(0, message).expect("a correct server");
        }
        assert_eq!(pair.messages(Side::Client), [text("news")]);
        pair.client.consumed(1, 1, 4);
        pair.sent(Side::Client);
    }
    assert!(attempts > 50, "{attempts}");
}

#[test]
fn connections_that_carry_something_may_be_lost_for_ever() {
    let mut pair = Pair::new();
    for n in 0..100 {
        pair.client.send(1, text(&n.to_string()));
        pair.sent(Side::Client);
        let resume = pair.redial();
        pair.take(&resume);
        pair.settle();
        assert_eq!(pair.messages(Side::Server), [text(&n.to_string())]);
        pair.server.consumed(1, 1, 2);
    }
}

/// Resumes the link over a connection that carries nothing but its beginning. Returns how long the server has it wait.
fn resume_in_vain(pair: &mut Pair) -> u64 {
    let resume = pair.redial();
    let waits = pair.server.resumption_due(pair.now, &resume) - pair.now;
    pair.now += waits;
    assert_eq!(pair.server.resumption_due(pair.now, &resume), pair.now);
    pair.take(&resume);
    // RESUMED arrives, the rest does not.
    let sent = pair.sent(Side::Server);
    pair.client.receive(pair.now, sent.into_iter().next().expect("RESUMED")).expect("a correct server");
    pair.sent(Side::Client);
    waits
}

/// A link whose server has sent a message that has not arrived.
fn with_a_lost_message() -> Pair {
    let mut pair = Pair::new();
    pair.server.send(1, text("does not arrive"));
    assert_eq!(pair.sent(Side::Server).len(), 1);
    pair
}

#[test]
fn from_the_tenth_resumption_without_progress_there_is_one_each_six_seconds() {
    let mut pair = with_a_lost_message();
    let waits: Vec<_> = (0..15).map(|_| resume_in_vain(&mut pair)).collect();
    assert_eq!(waits[..10], [0; 10], "a network may fail often within a moment");
    assert_eq!(waits[10..], [6_000; 5]);
    // A minute restores all.
    pair.now += 60_000;
    let waits: Vec<_> = (0..11).map(|_| resume_in_vain(&mut pair)).collect();
    assert_eq!((&waits[..10], waits[10]), (&[0; 10][..], 6_000));
}

#[test]
fn progress_of_either_side_has_the_next_resumption_at_once() {
    for side in [Side::Client, Side::Server] {
        let mut pair = with_a_lost_message();
        while resume_in_vain(&mut pair) == 0 {}
        if side == Side::Client {
            pair.client.send(1, text("arrives"));
            for message in pair.sent(Side::Client) {
                pair.server.receive(pair.now, message).expect("a correct client");
            }
        } else {
            let resume = pair.redial();
            pair.take(&resume);
            pair.server.send(1, text("does not arrive either"));
            for message in pair.sent(Side::Server).into_iter().take(2) {
                pair.client.receive(pair.now, message).expect("a correct server");
            }
            assert_eq!(pair.messages(Side::Client), [text("does not arrive")]);
        }
        let waits: Vec<_> = (0..12).map(|_| resume_in_vain(&mut pair)).collect();
        assert_eq!((&waits[..11], waits[11]), (&[0; 11][..], 6_000), "{side:?}");
    }
}

#[test]
fn a_small_message_for_large_ones_that_are_sent_again_is_no_progress() {
    let mut pair = Pair::new();
    for _ in 0..16 {
        pair.server.send(1, Message::binary(vec![7; 10_000]));
    }
    pair.sent(Side::Server);
    // A hostile client sends a small message over each connection. It takes in what it does not acknowledge.
    let waits: Vec<_> = (0..15)
        .map(|_| {
            let waits = resume_in_vain(&mut pair);
            pair.client.send(1, text("hello"));
            for message in pair.sent(Side::Client) {
                pair.server.receive(pair.now, message).expect("a correct client");
            }
            assert_eq!(pair.messages(Side::Server), [text("hello")]);
            waits
        })
        .collect();
    assert_eq!((&waits[..10], &waits[12..]), (&[0; 10][..], &[6_000; 3][..]), "{waits:?}");
}

#[test]
fn a_link_with_nothing_to_send_again_is_resumed_as_often_as_its_client_likes() {
    let mut pair = Pair::new();
    for _ in 0..100 {
        assert_eq!(resume_in_vain(&mut pair), 0);
    }
}

#[test]
fn a_resumption_waits_no_longer_than_its_link_is_kept() {
    let mut pair = Pair::with(settings(Side::Client), settings(Side::Server).resume_timeout(1_000));
    pair.server.send(1, text("does not arrive"));
    pair.sent(Side::Server);
    for _ in 0..10 {
        assert_eq!(resume_in_vain(&mut pair), 0);
    }
    assert!(pair.server.carrier_lost(pair.now));
    assert_eq!(resume_in_vain(&mut pair), 1_000);
}

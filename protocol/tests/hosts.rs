//! Mistakes of a host, and memory that a peer makes it hold, that do not harm its link.

mod support;

use manysocket_protocol::{Close, Endpoint, Event, FAILED, Message, Physical, Settings, Side};
use support::pair::Pair;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

fn open() -> Pair {
    let mut client = Endpoint::new(Side::Client, Settings::default(), 0);
    client.open("/", "");
    let mut pair = Pair::new(client, Settings::default());
    pair.connect();
    pair.server.accept(1, "");
    pair.settle();
    while pair.client.poll_event().is_some() {}
    while pair.server.poll_event().is_some() {}
    pair
}

/// Returns the client's event for a close by the server.
fn closed(code: Option<u16>, reason: &str) -> Close {
    let mut pair = open();
    pair.server.close(1, code, reason);
    // Panics if the client takes it for a violation.
    pair.settle();
    match pair.client.poll_event() {
        Some(Event::Closed { close, .. }) => close,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_close_that_no_websocket_could_send_does_not_end_the_link() {
    let none = |code| Close { code, reason: String::new() };
    for code in [0, 1, 999, 1004, 1005, 1015, 2999, 5000, u16::MAX] {
        assert_eq!(
            closed(Some(code), "why"),
            none(Some(FAILED)),
            "{code}: as where the browser gets such a frame"
        );
    }
    assert_eq!(closed(Some(1006), "why"), none(Some(1006)), "dropped");
    assert_eq!(closed(None, "a reason needs a code"), none(None));
    assert_eq!(closed(Some(1000), &"x".repeat(124)).reason, "x".repeat(123));
    assert_eq!(closed(Some(1000), &"€".repeat(42)).reason, "€".repeat(41), "cut between characters");
}

#[test]
fn a_refusal_is_not_taken_back() {
    let mut client = Endpoint::new(Side::Client, Settings::default(), 0);
    client.open("/", "");
    let mut pair = Pair::new(client, Settings::default());
    pair.connect();
    pair.server.refuse(1, 404, "nothing here");
    pair.server.abort(1);
    pair.settle();
    assert!(matches!(pair.client.poll_event(), Some(Event::Refused { channel: 1, status: 404, .. })));
}

#[test]
fn messages_of_a_batch_do_not_keep_the_batch_in_memory() {
    // LINK frames of an unknown type are passed over: a batch can be far larger than the message in it.
    let mut headers = vec![];
    for _ in 0..1000 {
        headers.extend([7 << 4 | 11, 100]);
        headers.extend([0; 100]);
    }
    headers.extend([1 << 4 | 2, 0x88, 0x27]);
    let length = headers.len();
    let mut bytes = vec![length as u8 | 0x80, (length >> 7) as u8 | 0x80, (length >> 14) as u8, 0];
    bytes.extend(headers);
    bytes.resize(bytes.len() + 5000, 7);
    let batch = bytes::Bytes::from(bytes);

    let mut pair = open();
    pair.server.receive(0, Physical::Binary(batch.clone())).expect("a correct batch");
    let message = std::iter::from_fn(|| pair.server.poll_event()).last();
    let Some(Event::Message { message: Message::Binary(binary), .. }) = &message else {
        panic!("{message:?}")
    };
    assert_eq!(binary.len(), 5000);
    assert!(batch.is_unique(), "a reader that is slow to take 5 kB would hold 100 kB");
}

#[test]
fn a_client_cannot_talk_a_server_out_of_noticing_its_death() {
    let mut server = Endpoint::new(Side::Server, Settings::new().ping_interval(1000), 0);
    // HELLO with a ping_interval of 2³² - 1 ms: 49 days.
    server
        .receive(0, Physical::Binary(vec![8, 0, 0x0b, 6, 5, 0xff, 0xff, 0xff, 0xff, 0x0f].into()))
        .expect("a HELLO");
    let died = loop {
        let at = server.poll_timeout().expect("a timer");
        if server.handle_timeout(at).is_err() {
            break at;
        }
        while server.poll_transmit().is_some() {}
    };
    assert!(died <= 12_000, "{died}: two of the server's own intervals and ten seconds");
}

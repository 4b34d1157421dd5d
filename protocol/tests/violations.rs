//! Each rule of the protocol, broken once: the link ends with the right code, and nothing panics.

use manysocket_protocol::{Endpoint, Event, Message, Physical, Settings, Side, Violation};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

/// A HELLO without parameters.
const HELLO: [u8; 2] = [0x0b, 0];
const TEXT: u8 = 0;
const BINARY: u8 = 2;
const BINARY_PART: u8 = 3;
const RAW: u8 = 4;
const OPEN: u8 = 6;
const ACCEPT: u8 = 7;
const REFUSE: u8 = 8;
const CLOSE: u8 = 9;
const GRANT: u8 = 10;

/// A batch of these headers, text and binary.
fn batch(headers: &[u8], text: &str, binary: &[u8]) -> Physical {
    let mut bytes = vec![headers.len() as u8, text.len() as u8];
    bytes.extend(headers);
    bytes.extend(text.as_bytes());
    bytes.extend(binary);
    assert!(headers.len() < 128 && text.len() < 128);
    Physical::Binary(bytes.into())
}

fn tag(channel: u8, kind: u8) -> u8 {
    channel << 4 | kind
}

/// An endpoint whose peer has said HELLO.
fn greeted(side: Side) -> Endpoint {
    let mut endpoint = Endpoint::new(side, Settings::default(), 0);
    endpoint.receive(0, batch(&HELLO, "", &[])).expect("a HELLO");
    while endpoint.poll_transmit().is_some() {}
    endpoint
}

/// A server with channel 1 accepted.
fn server() -> Endpoint {
    let mut server = greeted(Side::Server);
    server.receive(0, batch(&[tag(1, OPEN), 1, 0], "/", &[])).expect("an OPEN");
    assert!(matches!(server.poll_event(), Some(Event::Open { channel: 1, .. })));
    server.accept(1, "");
    while server.poll_transmit().is_some() {}
    server
}

/// A client with channel 1 accepted, and channel 2 waiting for its answer.
fn client() -> Endpoint {
    let mut client = greeted(Side::Client);
    assert_eq!((client.open("/", ""), client.open("/", "")), (Some(1), Some(2)));
    while client.poll_transmit().is_some() {}
    client.receive(0, batch(&[tag(1, ACCEPT), 0], "", &[])).expect("an ACCEPT");
    assert!(matches!(client.poll_event(), Some(Event::Accepted { channel: 1, .. })));
    client
}

#[track_caller]
fn assert_violation(mut endpoint: Endpoint, message: Physical, code: u16, what: &str) {
    let shown = format!("{message:?}");
    let violation: Violation = endpoint.receive(0, message).expect_err(&shown);
    assert_eq!((violation.code(), violation.reason().contains(what)), (code, true), "{shown}: {violation}");
    assert!(violation.reason().len() <= 123, "fits a Close frame");
}

#[test]
fn the_first_frame_is_hello() {
    for side in [Side::Client, Side::Server] {
        let fresh = || Endpoint::new(side, Settings::default(), 0);
        assert_violation(fresh(), batch(&[tag(1, OPEN), 1, 0], "/", &[]), 1002, "not HELLO");
        assert_violation(fresh(), Physical::Text("1:x".into()), 1002, "not open");
        assert_violation(greeted(side), batch(&HELLO, "", &[]), 1002, "second HELLO");
        assert_violation(fresh(), batch(&[0x0b, 2, 2, 1], "", &[]), 1002, "window");
        assert_violation(fresh(), batch(&[0x0b, 1, 2], "", &[]), 1002, "cut short");
    }
}

#[test]
fn batches_hold_exactly_what_their_headers_tell() {
    for bytes in [&b""[..], b"\x05", b"\x80", b"\x05\x00ab", b"\x00\x05ab", b"\xff\xff\xff\xff\x0f\x00"] {
        assert_violation(server(), Physical::Binary(bytes.into()), 1002, "shorter");
    }
    assert_violation(server(), batch(&[tag(1, TEXT), 2], "a", &[]), 1002, "more content than the batch");
    assert_violation(server(), batch(&[tag(1, TEXT), 1], "ab", &[]), 1002, "more content than its headers");
    assert_violation(server(), batch(&[tag(1, BINARY), 1], "", b"ab"), 1002, "more content than its headers");
    assert_violation(server(), batch(&[tag(1, TEXT)], "", &[]), 1002, "cut short");
    assert_violation(server(), batch(&[tag(1, 13)], "", &[]), 1002, "unknown frame kind");
    assert_violation(server(), batch(&[tag(0, 11), 9], "", &[]), 1002, "cut short");
}

#[test]
fn text_is_utf8_and_not_cut_inside_a_pair() {
    assert_violation(server(), Physical::Binary(b"\x02\x01\x10\x01\xff".as_slice().into()), 1007, "UTF-8");
    assert_violation(server(), Physical::Text(b"1:\xff".as_slice().into()), 1007, "UTF-8");
    assert_violation(server(), batch(&[tag(1, TEXT), 1, tag(1, TEXT), 1], "😀", &[]), 1007, "surrogate");
}

#[test]
fn physical_texts_begin_with_a_channel() {
    for text in ["", "x", ":", "+x", "1", "1x", "-1:x", "1 :x", "12345678901:x", "99999999999999999999:x"] {
        assert_violation(server(), Physical::Text(text.into()), 1002, "begin with a channel number");
    }
}

#[test]
fn frames_belong_to_open_channels() {
    for endpoint in [server, client] {
        for headers in
            [&[tag(5, GRANT), 1][..], &[tag(5, CLOSE), 0, 0], &[tag(5, TEXT), 0], &[tag(0, TEXT), 0]]
        {
            assert_violation(endpoint(), batch(headers, "", &[]), 1002, "not open");
        }
        assert_violation(endpoint(), Physical::Text("5:x".into()), 1002, "not open");
    }
}

#[test]
fn only_clients_open_and_only_servers_answer() {
    assert_violation(client(), batch(&[tag(3, OPEN), 1, 0], "/", &[]), 1002, "server does not open");
    assert_violation(server(), batch(&[tag(1, ACCEPT), 0], "", &[]), 1002, "client does not accept");
    assert_violation(server(), batch(&[tag(1, REFUSE), 0, 0], "", &[]), 1002, "client does not refuse");
}

#[test]
fn opens_follow_the_numbers() {
    assert_violation(server(), batch(&[tag(0, OPEN), 1, 0], "/", &[]), 1002, "skips");
    assert_violation(server(), batch(&[tag(3, OPEN), 1, 0], "/", &[]), 1002, "skips");
    assert_violation(server(), batch(&[tag(1, OPEN), 1, 0], "/", &[]), 1002, "not ended");
}

#[test]
fn opens_far_beyond_the_limit_are_no_mistake() {
    let settings = Settings::new().max_channels(10);
    let mut server = Endpoint::new(Side::Server, settings, 0);
    server.receive(0, batch(&HELLO, "", &[])).expect("a HELLO");
    let open = |channel: u32| {
        let tag = channel << 4 | u32::from(OPEN);
        let tag = [tag as u8 | 0x80, (tag >> 7) as u8 | 0x80, (tag >> 14) as u8];
        batch(&[tag.as_slice(), &[1, 0]].concat(), "/", &[])
    };
    // A client may open 1,024 before it knows the limit. Those beyond it are refused.
    for channel in 1..=10 + 1024 {
        server.receive(0, open(channel)).expect("within the slack");
    }
    assert_eq!(std::iter::from_fn(|| server.poll_event()).count(), 10);
    assert_violation(server, open(10 + 1025), 1008, "max_channels");
}

#[test]
fn answers_come_once() {
    assert_violation(client(), batch(&[tag(1, ACCEPT), 0], "", &[]), 1002, "not opening");
    assert_violation(client(), batch(&[tag(1, REFUSE), 0, 0], "", &[]), 1002, "not opening");
    assert_violation(
        client(),
        batch(&[tag(2, REFUSE), 0, 0, tag(2, REFUSE), 0, 0], "", &[]),
        1002,
        "not opening",
    );
}

#[test]
fn nothing_comes_before_the_answer() {
    assert_violation(client(), Physical::Text("2:x".into()), 1002, "not been accepted");
    assert_violation(client(), batch(&[tag(2, GRANT), 1], "", &[]), 1002, "not been accepted");
    assert_violation(client(), batch(&[tag(2, CLOSE), 0, 0], "", &[]), 1002, "not been accepted");
    let mut server = server();
    server.receive(0, batch(&[tag(2, OPEN), 1, 0], "/", &[])).expect("an OPEN");
    assert_violation(server, Physical::Text("2:x".into()), 1002, "not been accepted");
}

#[test]
fn nothing_comes_after_close() {
    for endpoint in [server, client] {
        for after in [&[tag(1, TEXT), 0][..], &[tag(1, CLOSE), 0, 0], &[tag(1, GRANT), 1]] {
            let mut endpoint = endpoint();
            endpoint.receive(0, batch(&[tag(1, CLOSE), 0, 0], "", &[])).expect("a CLOSE");
            assert_violation(endpoint, batch(after, "", &[]), 1002, "after CLOSE");
        }
    }
}

#[test]
fn close_codes_are_those_of_rfc_6455() {
    for code in [2u32, 999, 1004, 1005, 1015, 2999, 5000, 70_000] {
        let mut headers = vec![tag(1, CLOSE)];
        let mut rest = code;
        while rest > 127 {
            headers.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        headers.extend([rest as u8, 0]);
        assert_violation(server(), batch(&headers, "", &[]), 1002, "code");
    }
    assert_violation(server(), batch(&[tag(1, CLOSE), 0, 1], "x", &[]), 1002, "reason");
    for endpoint in [server, client] {
        let long = "x".repeat(124);
        assert_violation(endpoint(), batch(&[tag(1, CLOSE), 0xe8, 0x07, 124], &long, &[]), 1002, "reason");
        // The limit is in bytes: this is 42 code units.
        let long = "€".repeat(42);
        assert_violation(endpoint(), batch(&[tag(1, CLOSE), 0xe8, 0x07, 42], &long, &[]), 1002, "reason");
    }
}

#[test]
fn credit_is_kept() {
    for endpoint in [server, client] {
        let mut full = endpoint();
        let piece = Physical::Text(format!("1:{}", "x".repeat(65_000)).into());
        for _ in 0..4 {
            full.receive(0, piece.clone()).expect("within the window");
        }
        assert_violation(full, piece, 1008, "beyond the credit");
        assert_violation(
            endpoint(),
            batch(&[tag(1, GRANT), 0xff, 0xff, 0xff, 0xff, 0x0f], "", &[]),
            1002,
            "largest credit",
        );
    }
}

#[test]
fn pieces_of_a_message_are_of_one_kind() {
    assert_violation(
        server(),
        batch(&[tag(1, BINARY_PART), 1, tag(1, TEXT), 1], "a", b"b"),
        1002,
        "text and binary",
    );
}

#[test]
fn raw_payloads_belong_to_a_channel_that_takes_them() {
    let mut raw = server();
    raw.receive(0, batch(&[tag(7, RAW)], "", &[])).expect("a header alone does nothing");
    assert_violation(raw, Physical::Binary(vec![0; 4096].into()), 1002, "not open");
    // Raw mode ends with its channel: the next long message is read as a batch, and is none.
    let mut ended = server();
    ended.receive(0, batch(&[tag(1, RAW), tag(1, CLOSE), 0, 0], "", &[])).expect("RAW and CLOSE");
    assert_violation(ended, Physical::Binary(vec![0xff; 4096].into()), 1002, "shorter");
}

#[test]
fn the_handshake_is_base64url() {
    for bad in ["+", "AA==", "A", "ä", "/w"] {
        let violation =
            Endpoint::new(Side::Server, Settings::default(), 0).receive_handshake(0, bad).expect_err(bad);
        assert_eq!(violation.code(), 1002);
    }
}

#[test]
fn unknown_link_frames_and_parameters_are_passed_over() {
    let mut server = Endpoint::new(Side::Server, Settings::default(), 0);
    server.receive(0, batch(&[0x0b, 2, 99, 1, tag(7, 11), 3, 1, 2, 3], "", &[])).expect("passed over");
    assert!(server.poll_event().is_none());
    assert!(!server.send(1, Message::text("nobody")), "commands on channels that do not exist do nothing");
}

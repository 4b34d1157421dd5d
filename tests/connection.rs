//! The wasm client's interface of numbers, driven as JavaScript drives it, against a server endpoint.
#![cfg(target_arch = "wasm32")]

use js_sys::{Uint8Array, Uint32Array, WebAssembly};
use manysocket as wasm;
use manysocket_protocol::{Endpoint, Event, MESSAGE_OVERHEAD, Message, Physical, Settings, Side};
use wasm_bindgen::prelude::*;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

fn memory() -> JsValue {
    wasm_bindgen::memory().unchecked_into::<WebAssembly::Memory>().buffer()
}

fn words(connection: u32, count: u32) -> Vec<u32> {
    Uint32Array::new_with_byte_offset_and_length(&memory(), wasm::words_pointer(connection), count).to_vec()
}

fn headers(connection: u32) -> Vec<u8> {
    Uint8Array::new_with_byte_offset_and_length(
        &memory(),
        wasm::headers_pointer(connection),
        wasm::headers_length(connection),
    )
    .to_vec()
}

/// Gives the connection a batch as `js/link.js` does: headers into memory, then the runs' lengths.
fn receive(connection: u32, message: &Physical) -> bool {
    let Physical::Binary(bytes) = message else { panic!("not a batch: {message:?}") };
    let (header_bytes, text_bytes) = (bytes[0] as usize, bytes[1] as usize);
    assert!(header_bytes < 0x80 && text_bytes < 0x80, "short enough for one-byte lengths");
    let at = wasm::headers_buffer(connection, header_bytes as u32);
    Uint8Array::new(&memory()).set(&Uint8Array::from(&bytes[2..2 + header_bytes]), at);
    let text = str::from_utf8(&bytes[2 + header_bytes..2 + header_bytes + text_bytes]).expect("UTF-8");
    let binary = bytes.len() - 2 - header_bytes - text_bytes;
    wasm::receive_batch(connection, 0.0, text.encode_utf16().count() as u32, binary as u32)
}

/// A connection with one accepted channel, and the server's end.
fn connected() -> (u32, Endpoint) {
    let client = wasm::create(0.0);
    assert_eq!(wasm::open(client, 1, 4, 0, 0), 1);
    wasm::handshake(client, 3000);
    assert_eq!(words(client, 6), [1, 1, 0, 4, 1, 0], "one text, which is the target, and no binary");
    let mut batch = vec![headers(client).len() as u8, 4];
    batch.extend(headers(client));
    batch.extend(b"/ws1");
    let mut server = Endpoint::new(Side::Server, Settings::default(), 0);
    server.receive(0, Physical::Binary(batch.into())).expect("a good first batch");
    assert!(matches!(server.poll_event(), Some(Event::Open { target, .. }) if target == "/ws1"));
    server.accept(1, "chat");
    while let Some(message) = server.poll_transmit() {
        assert!(receive(client, &message));
    }
    assert_eq!(wasm::events(client), 5);
    assert_eq!(words(client, 5), [2, 1, 0, 4, 0], "accepted, with the protocol's place");
    (client, server)
}

#[wasm_bindgen_test]
fn opens_in_the_handshake_and_is_accepted() {
    let (client, _) = connected();
    assert_eq!(wasm::channels(client), 1);
}

#[wasm_bindgen_test]
fn a_lone_text_goes_out_alone_and_two_as_a_batch() {
    let (client, _) = connected();
    assert!(wasm::send_text(client, 1, 2, 5));
    assert_eq!(wasm::transmit(client), wasm::TEXT);
    assert_eq!(words(client, 6), [1, 1, 2, 0, 5, 1], "channel, final, and the payload to its end");
    assert_eq!(wasm::transmit(client), wasm::NOTHING);

    assert!(wasm::send_text(client, 1, 2, 5) && wasm::send_binary(client, 1, 3, 7));
    assert_eq!(wasm::transmit(client), wasm::BATCH);
    assert_eq!(words(client, 10), [1, 2, 0, 5, 1, 1, 3, 0, 7, 1]);
    assert_eq!(headers(client), [1 << 4, 5, 1 << 4 | 2, 7]);
}

#[wasm_bindgen_test]
fn a_piece_of_a_text_leaves_room_for_half_a_surrogate_pair() {
    let (client, _) = connected();
    let credit = Settings::default().window - MESSAGE_OVERHEAD;
    assert!(wasm::send_text(client, 1, 9, 2 * credit));
    assert_eq!(wasm::transmit(client), wasm::TEXT);
    assert_eq!(words(client, 6), [1, 0, 9, 0, credit - 1, 0], "one fewer, and the message goes on");
    assert_eq!(wasm::transmit(client), wasm::NOTHING, "no credit left");
}

#[wasm_bindgen_test]
fn messages_and_closes_arrive_as_words() {
    let (client, mut server) = connected();
    server.send(1, Message::text("né"));
    server.send(1, Message::binary(&b"123"[..]));
    server.close(1, Some(4001), "bye");
    while let Some(message) = server.poll_transmit() {
        assert!(receive(client, &message));
    }
    assert_eq!(wasm::events(client), 15);
    assert_eq!(
        words(client, 15),
        [256, 1, 0, 2, 0, /* binary */ 257, 1, 0, 3, 0, /* closed */ 4, 1, 2, 3, 4001]
    );
    wasm::close(client, 1, 4001, 0, 0);
    assert_eq!(wasm::transmit(client), wasm::BATCH);
    assert_eq!(wasm::channels(client), 0);
}

#[wasm_bindgen_test]
fn a_violation_is_told_by_its_number() {
    let (client, mut server) = connected();
    server.send(1, Message::text("good"));
    assert!(server.poll_transmit().is_some());
    assert_eq!(wasm::violation(client), 0);
    assert!(!wasm::receive_text(client, 0.0, 7, true, 3));
    assert_eq!(wasm::violation(client), 13, "docs/protocol.md: a frame for a channel that is not open");
}

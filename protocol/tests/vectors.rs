//! Replays the test vectors that every implementation of the protocol can replay (docs/protocol.md §12).

use manysocket_protocol::{Endpoint, Event, Message, Physical, Settings, Side, Violation};
use serde_json::{Value, json};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

const SESSIONS: &str = include_str!("../../tests/vectors/sessions.json");

/// A string, or one that is put together of parts.
fn string(value: &Value) -> String {
    if let Some(parts) = value["concat"].as_array() {
        return parts.iter().map(string).collect();
    }
    match value["repeat"].as_str() {
        Some(part) => part.repeat(number(&value["times"]) as usize),
        None => value.as_str().expect("a string").to_owned(),
    }
}

fn number(value: &Value) -> u32 {
    value.as_u64().expect("a number") as u32
}

fn unhex(hex: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal")
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn physical(value: &Value) -> Physical {
    match value.get("text") {
        Some(text) => Physical::Text(string(text).into()),
        None => Physical::Binary(unhex(&string(&value["binary"])).into()),
    }
}

/// The event in the form that the vectors have; `Drained` is this host's own affair.
fn event(event: Event) -> Option<Value> {
    Some(match event {
        Event::Open { channel, target, protocols } => {
            json!({"open": channel, "target": target, "protocols": protocols})
        }
        Event::Accepted { channel, protocol } => json!({"accepted": channel, "protocol": protocol}),
        Event::Refused { channel, status, reason } => {
            json!({"refused": channel, "status": status, "reason": reason})
        }
        Event::Message { channel, message: Message::Text(bytes) } => {
            json!({"message": channel, "text": str::from_utf8(&bytes).expect("UTF-8")})
        }
        Event::Message { channel, message: Message::Binary(bytes) } => {
            json!({"message": channel, "binary": hex(&bytes)})
        }
        Event::Closed { channel, close } => {
            json!({"closed": channel, "code": close.code, "reason": close.reason})
        }
        Event::Oversize { channel } => json!({"oversize": channel}),
        Event::Drained { .. } => return None,
    })
}

/// The expected event with its strings put together.
fn expected(value: &Value) -> Value {
    let fields = value.as_object().expect("an event").iter();
    let whole = |field: &Value| if field.is_object() { string(field).into() } else { field.clone() };
    fields.map(|(name, field)| (name.clone(), whole(field))).collect()
}

fn command(endpoint: &mut Endpoint, words: &[Value]) {
    let channel = || number(&words[1]);
    let code = |value: &Value| value.as_u64().map(|code| code as u16);
    match words[0].as_str().expect("a command") {
        "open" => assert!(endpoint.open(&string(&words[1]), &string(&words[2])).is_some()),
        "accept" => endpoint.accept(channel(), &string(&words[2])),
        "refuse" => endpoint.refuse(channel(), code(&words[2]).expect("a status"), &string(&words[3])),
        "text" => assert!(endpoint.send(channel(), Message::text(string(&words[2])))),
        "binary" => assert!(endpoint.send(channel(), Message::binary(unhex(&string(&words[2]))))),
        "close" => endpoint.close(channel(), code(&words[2]), &string(&words[3])),
        "abort" => endpoint.abort(channel()),
        "consumed" => endpoint.consumed(channel(), number(&words[2]), number(&words[3])),
        other => panic!("no command {other}"),
    }
}

#[test]
fn every_session_goes_as_written() {
    let vectors: Value = serde_json::from_str(SESSIONS).expect("JSON");
    let sessions = vectors["sessions"].as_array().expect("sessions");
    assert!(sessions.len() > 20);
    for session in sessions {
        let side = if session["side"] == "client" { Side::Client } else { Side::Server };
        let mut endpoint = Endpoint::new(side, Settings::default(), 0);
        let mut received: Result<(), Violation> = Ok(());
        for step in session["steps"].as_array().expect("steps") {
            let at =
                format!("{}: {}", session["name"], step.to_string().chars().take(200).collect::<String>());
            let (kind, value) = step.as_object().and_then(|step| step.iter().next()).expect("one entry");
            if kind == "violation" {
                let violation = std::mem::replace(&mut received, Ok(())).expect_err(&at);
                assert_eq!(u64::from(violation.code()), value.as_u64().expect("a code"), "{at}");
                continue;
            }
            received.expect(&at);
            received = Ok(());
            match (kind.as_str(), value.as_array()) {
                ("handshake", _) => received = endpoint.receive_handshake(0, &string(value)),
                ("first_batch", _) => assert_eq!(endpoint.handshake(), string(value), "{at}"),
                ("receive", Some(messages)) => {
                    for message in messages {
                        received = received.and_then(|()| endpoint.receive(0, physical(message)));
                    }
                }
                ("command", Some(words)) => command(&mut endpoint, words),
                ("sends", Some(messages)) => {
                    let sent: Vec<Physical> = std::iter::from_fn(|| endpoint.poll_transmit()).collect();
                    assert!(sent == messages.iter().map(physical).collect::<Vec<_>>(), "{at}: {sent:?}");
                }
                ("events", Some(events)) => {
                    let seen: Vec<Value> =
                        std::iter::from_fn(|| endpoint.poll_event()).filter_map(event).collect();
                    assert!(seen == events.iter().map(expected).collect::<Vec<_>>(), "{at}: {seen:?}");
                }
                other => panic!("{at}: no step {other:?}"),
            }
        }
        received.expect("no violation that is not expected");
    }
}

//! Replays the sessions that every implementation of the protocol can replay (docs/protocol.md §12).

use std::collections::HashMap;

use manysocket_protocol::client::{self, Client, Timeout};
use manysocket_protocol::{
    Channel, Endpoint, Event, Message, Millis, Physical, Resume, Settings, Side, Token, Violation,
};
use serde_json::{Value, json};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

const SESSIONS: &str = include_str!("../../tests/vectors/sessions.json");
const SOCKETS: &str = include_str!("../../tests/vectors/sockets.json");

/// A string, one repeated, or one that is put together of parts.
fn string(value: &Value) -> String {
    match value {
        Value::String(string) => string.clone(),
        Value::Array(parts) => parts.iter().map(string).collect(),
        _ => string(&value["repeat"]).repeat(number(&value["times"]) as usize),
    }
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a number")) as u32
}

fn unhex(value: &Value) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(string(value).as_bytes()).expect("hexadecimal")
}

fn physical(value: &Value) -> Physical {
    let (form, content) = value.as_object().and_then(|form| form.iter().next()).expect("a physical message");
    match form.as_str() {
        "text" => Physical::Text(string(content).into()),
        "text_bytes" => Physical::Text(unhex(content).into()),
        "binary" => Physical::Binary(unhex(content).into()),
        other => panic!("a physical message is text or binary, not {other}"),
    }
}

fn settings(value: &Value) -> Settings {
    let defaults = Settings::new();
    let or = |name: &str, default| value.get(name).map_or(default, number);
    defaults
        .max_channels(or("max_channels", defaults.max_channels))
        .window(or("window", defaults.window))
        // Measuring the path is up to the host; a session has no clock.
        .window_growth(0)
        .max_message(or("max_message", defaults.max_message))
        .max_fragment(or("max_fragment", defaults.max_fragment))
        .ping_interval(or("ping_interval", defaults.ping_interval as u32).into())
        .resume_timeout(or("resume_timeout", 0).into())
        .node(or("node", 0))
}

/// The event in the form that the vectors have; `Drained` is this host's own affair.
fn event(event: Event) -> Option<Value> {
    Some(match event {
        Event::Open { channel, target, protocols, headers } => {
            let mut open = json!({"channel": channel, "target": target, "protocols": protocols});
            if !headers.is_empty() {
                open["headers"] = headers.into();
            }
            json!({"open": open})
        }
        Event::Cookies { channel, ticket } => {
            json!({"cookies": {"channel": channel, "ticket": data_encoding::HEXLOWER.encode(ticket.bytes())}})
        }
        Event::Accepted { channel, protocol } => {
            json!({"accepted": {"channel": channel, "protocol": protocol}})
        }
        Event::Refused { channel, status, reason } => {
            json!({"refused": {"channel": channel, "status": status, "reason": reason}})
        }
        Event::Message { channel, message: Message::Text(bytes) } => {
            json!({"message": {"channel": channel, "text": str::from_utf8(&bytes).expect("UTF-8")}})
        }
        Event::Message { channel, message: Message::Binary(bytes) } => {
            json!({"message": {"channel": channel, "binary": data_encoding::HEXLOWER.encode(&bytes)}})
        }
        Event::Closed { channel, close } => {
            json!({"closed": {"channel": channel, "code": close.code, "reason": close.reason}})
        }
        Event::Oversize { channel } => json!({"oversize": {"channel": channel}}),
        Event::Drained { .. } => return None,
    })
}

/// The expected event with its contents put together.
fn expected(value: &Value) -> Value {
    let mut value = value.clone();
    for content in ["text", "binary"] {
        if let Some(content) = value.pointer_mut(&format!("/message/{content}")) {
            *content = string(content).into();
        }
    }
    value
}

fn token(value: &Value) -> Token {
    Token::new(unhex(value).try_into().expect("16 bytes"))
}

/// One end, as a session goes.
struct Replay {
    endpoint: Endpoint,
    now: Millis,
}

impl Replay {
    fn step(&mut self, at: &str, step: &Value) {
        let violation = self.act(at, step).err().map(|violation| violation.code());
        assert_eq!(violation.map(u64::from), step["violation"].as_u64(), "{at}: violation");
        if violation.is_some() {
            return;
        }
        if let Some(sends) = step["sends"].as_array() {
            let sent: Vec<Physical> = std::iter::from_fn(|| self.endpoint.poll_transmit()).collect();
            assert_eq!(sent, sends.iter().map(physical).collect::<Vec<_>>(), "{at}: sends");
        }
        let events: Vec<Value> =
            std::iter::from_fn(|| self.endpoint.poll_event()).filter_map(event).collect();
        let wanted: Vec<Value> = step["events"].as_array().into_iter().flatten().map(expected).collect();
        assert_eq!(events, wanted, "{at}: events");
        if let Some(dialled) = step.get("dialled") {
            assert_eq!(self.endpoint.dialled_path(), dialled.as_str(), "{at}: dialled");
        }
        if let Some(channels) = step["channels"].as_u64() {
            assert_eq!(u64::from(self.endpoint.channels()), channels, "{at}: channels");
        }
    }

    /// Does the step's thing.
    fn act(&mut self, at: &str, step: &Value) -> Result<(), Violation> {
        const OUTCOMES: [&str; 5] = ["dialled", "events", "sends", "channels", "violation"];
        let mut things = step.as_object().expect("a step").iter();
        let (thing, what) =
            things.find(|(name, _)| !OUTCOMES.contains(&name.as_str())).expect("a thing to do");
        let endpoint = &mut self.endpoint;
        let channel = || number(&what["channel"]);
        let code = || what["code"].as_u64().map(|code| code as u16);
        match thing.as_str() {
            "open" => {
                let headers = what.get("headers").map(string).unwrap_or_default();
                let opened =
                    endpoint.open_with(&string(&what["target"]), &string(&what["protocols"]), &headers);
                assert_eq!(json!(opened), what["channel"], "{at}: channel");
            }
            "announce_cookies" => endpoint.announce_cookies(channel(), token(&what["ticket"])),
            "accept" => endpoint.accept(channel(), &string(&what["protocol"])),
            "refuse" => endpoint.refuse(channel(), number(&what["status"]) as u16, &string(&what["reason"])),
            "send" => {
                let message = match what.get("text") {
                    Some(text) => Message::text(string(text)),
                    None => Message::binary(unhex(&what["binary"])),
                };
                endpoint.send(channel(), message);
            }
            "close" => endpoint.close(channel(), code(), &string(&what["reason"])),
            "abort" => endpoint.abort(channel()),
            "consumed" => endpoint.consumed(channel(), number(&what["messages"]), number(&what["units"])),
            "handshake" => assert_eq!(endpoint.handshake(), string(what), "{at}: handshake"),
            "receive_handshake" => return endpoint.receive_handshake(self.now, &string(what)),
            "allow_resumption" => endpoint.allow_resumption(token(what)),
            "forbid_resumption" => assert!(endpoint.forbid_resumption(), "{at}"),
            "carrier_lost" => {
                let waits = endpoint.carrier_lost(self.now);
                assert_eq!(json!(waits), *what, "{at}: can be resumed");
            }
            "redialled" => endpoint.redialled(self.now),
            "resume" => {
                let resume = Resume::read(&unhex(&what["first"]));
                let accepted = resume.ok().filter(|resume| endpoint.accepts(resume));
                assert_eq!(json!(accepted.is_some()), what["accepted"], "{at}: accepted");
                if let Some(resume) = accepted {
                    endpoint.resume(self.now, &resume, token(&what["token"]));
                }
            }
            "receive" => return endpoint.receive(self.now, physical(what)),
            "time" => {
                self.now = number(what).into();
                return endpoint.handle_timeout(self.now);
            }
            other => panic!("{at}: nothing is called {other}"),
        }
        Ok(())
    }
}

#[test]
fn every_session_goes_as_written() {
    let vectors: Value = serde_json::from_str(SESSIONS).expect("JSON");
    let sessions = vectors["sessions"].as_array().expect("sessions");
    assert!(sessions.len() > 100);
    let mut known: HashMap<&str, &Value> = HashMap::new();
    for session in sessions {
        let name = session["name"].as_str().expect("a name");
        let before = session["after"].as_str().map(|name| known[name]);
        let first = before.unwrap_or(session);
        let side = match first["side"].as_str() {
            Some("client") => Side::Client,
            Some("server") => Side::Server,
            other => panic!("{name}: no side is called {other:?}"),
        };
        let mut endpoint = Endpoint::new(side, settings(&first["settings"]), 0);
        if side == Side::Client {
            endpoint.set_dialled_path("/multiplexer");
        }
        let mut replay = Replay { endpoint, now: 0 };
        for session in before.into_iter().chain([session]) {
            for (at, step) in session["steps"].as_array().expect("steps").iter().enumerate() {
                replay.step(&format!("{name}, step {at}"), step);
            }
        }
        assert!(known.insert(name, session).is_none(), "two sessions are called {name}");
    }
}

/// A client's sockets, as a session goes.
struct Sockets {
    client: Client<String>,
    now: Millis,
    channels: HashMap<String, Channel>,
}

impl Sockets {
    fn step(&mut self, at: &str, step: &Value) {
        let (result, is_idle) = match self.act(at, step) {
            Ok(is_idle) => (None, is_idle),
            Err(violation) => (Some(u64::from(violation.code())), false),
        };
        assert_eq!(result, step["violation"].as_u64(), "{at}: violation");
        if result.is_some() {
            return;
        }
        assert_eq!(is_idle, step["is_idle"].as_bool().unwrap_or_default(), "{at}: is_idle");
        if let Some(sends) = step["sends"].as_array() {
            let sent: Vec<Physical> = std::iter::from_fn(|| self.client.poll_transmit(self.now, 0)).collect();
            assert_eq!(sent, sends.iter().map(physical).collect::<Vec<_>>(), "{at}: sends");
        }
        let events: Vec<Value> = std::iter::from_fn(|| self.client.poll_event()).map(seen).collect();
        let wanted: Vec<Value> = step["events"].as_array().into_iter().flatten().map(wanted).collect();
        assert_eq!(events, wanted, "{at}: events");
    }

    /// Does the step's thing. Returns whether the link is idle.
    fn act(&mut self, at: &str, step: &Value) -> Result<bool, Violation> {
        const OUTCOMES: [&str; 4] = ["events", "sends", "is_idle", "violation"];
        let mut things = step.as_object().expect("a step").iter();
        let (thing, what) =
            things.find(|(name, _)| !OUTCOMES.contains(&name.as_str())).expect("a thing to do");
        let name = || what["socket"].as_str().expect("a socket").to_owned();
        let client = &mut self.client;
        match thing.as_str() {
            "open" => {
                let (target, protocols) = (string(&what["target"]), string(&what["protocols"]));
                let channel = client.open(self.now, name(), &target, &protocols).expect("a channel");
                self.channels.insert(name(), channel);
            }
            "send" => {
                let message = match what.get("text") {
                    Some(text) => Message::text(string(text)),
                    None => Message::binary(unhex(&what["binary"])),
                };
                client.send(self.channels[&name()], message).expect("an open socket");
            }
            "close" => {
                let code = what["code"].as_u64().map(|code| code as u16);
                client.close(self.now, self.channels[&name()], code, &string(&what["reason"]));
            }
            "fail" => client.fail(self.now, self.channels[&string(what)]),
            "handshake" => drop(client.handshake()),
            "receive" => client.receive(self.now, physical(what))?,
            "time" => {
                self.now = number(what).into();
                return Ok(client.handle_timeout(self.now)? == Timeout::Idle);
            }
            "lost" => client.lost(what.as_bool().expect("whether it failed")),
            other => panic!("{at}: nothing is called {other}"),
        }
        Ok(false)
    }
}

/// The events of a socket, in the form of the vectors.
fn seen(event: client::SocketEvent<String, Message>) -> Value {
    match event {
        client::SocketEvent::Cookies { key, ticket } => {
            json!({"cookies": key, "ticket": data_encoding::HEXLOWER.encode(ticket.bytes())})
        }
        client::SocketEvent::Open { key, protocol } => json!({"open": key, "protocol": protocol}),
        client::SocketEvent::Message { key, message: Message::Text(bytes) } => {
            json!({"message": key, "text": str::from_utf8(&bytes).expect("UTF-8")})
        }
        client::SocketEvent::Message { key, message: Message::Binary(bytes) } => {
            json!({"message": key, "binary": data_encoding::HEXLOWER.encode(&bytes)})
        }
        client::SocketEvent::Error { key, .. } => json!({"error": key}),
        client::SocketEvent::Close { key, close, unsent } => json!({
            "close": key, "code": close.code, "reason": close.reason, "clean": close.was_clean,
            "unsent": unsent.bytes(u64::MAX),
        }),
    }
}

/// The expected events of a socket, with their contents put together.
fn wanted(event: &Value) -> Value {
    let mut event = event.clone();
    if event.get("close").is_some() && event.get("unsent").is_none() {
        event["unsent"] = 0.into();
    }
    for content in ["text", "binary"] {
        if let Some(content) = event.get_mut(content) {
            *content = string(content).into();
        }
    }
    event
}

#[test]
fn every_socket_sees_what_is_written() {
    let vectors: Value = serde_json::from_str(SOCKETS).expect("JSON");
    let sessions = vectors["sessions"].as_array().expect("sessions");
    assert!(sessions.len() > 20);
    for session in sessions {
        let name = session["name"].as_str().expect("a name");
        let mut settings = settings(&session["settings"]);
        // As a page's: the server sends the PINGs.
        settings.ping_interval = 0;
        let client = Client::new(settings, session["idle"].as_u64(), 0);
        let mut sockets = Sockets { client, now: 0, channels: HashMap::new() };
        for (at, step) in session["steps"].as_array().expect("steps").iter().enumerate() {
            sockets.step(&format!("{name}, step {at}"), step);
        }
    }
}

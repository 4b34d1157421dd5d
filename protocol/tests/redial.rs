//! A client that has lost its connection: when it dials another, and the events of its sockets meanwhile.

mod support;

use manysocket_protocol::client::{Client, SocketEvent, Timeout};
use manysocket_protocol::{Endpoint, Event, Message, Millis, Physical, Resume, Side};
use support::resumable::{KEPT, settings, text, token};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

/// A client of which the server has accepted a socket.
fn socket() -> (Client<u8>, Endpoint) {
    let mut client = Client::new(settings(Side::Client), Some(10_000), 0);
    let mut server = Endpoint::new(Side::Server, settings(Side::Server), 0);
    server.allow_resumption(token(1));
    client.open(0, 1, "/", "");
    server.receive_handshake(0, &client.handshake().value()).expect("a correct first batch");
    server.accept(1, "");
    exchange(&mut client, &mut server, 0);
    assert!(matches!(client.poll_event(), Some(SocketEvent::Open { .. })));
    (client, server)
}

fn exchange(client: &mut Client<u8>, server: &mut Endpoint, now: Millis) {
    loop {
        let (up, down) = (client.poll_transmit(now, 0), server.poll_transmit());
        if up.is_none() && down.is_none() {
            return;
        }
        if let Some(message) = up {
            server.receive(now, message).expect("a correct client");
        }
        if let Some(message) = down {
            client.receive(now, message).expect("a correct server");
        }
    }
}

/// The times of a client's attempts to connect again, none of which succeeds within its 10 ms.
fn attempts(random: u32) -> Vec<Millis> {
    let (mut client, _) = socket();
    assert!(client.carrier_lost(1_000, random) && client.is_interrupted());
    let mut dials = vec![];
    let end = loop {
        let at = client.poll_timeout().expect("a timer");
        match client.handle_timeout(at).expect("no violation") {
            Timeout::Dial => {
                dials.push(at - 1_000);
                assert!(client.carrier_lost(at + 10, random));
            }
            Timeout::Lost => break at,
            Timeout::Drain => {}
            Timeout::Idle | Timeout::Silent => panic!("a socket is open, and no open waits"),
        }
    };
    assert_eq!(end, 1_000 + KEPT);
    client.lost(false);
    assert!(matches!(client.poll_event(), Some(SocketEvent::Close { .. })));
    dials
}

#[test]
fn a_client_dials_at_once_then_less_and_less_often() {
    let earliest = attempts(0);
    assert_eq!(earliest[..4], [0, 135, 395, 905], "half of 250, 500, 1,000 ms, and the time of each attempt");
    // A multiple of half of each delay, less one.
    let latest = attempts(4_294_966_999);
    for dials in [earliest, latest] {
        assert!((25..65).contains(&dials.len()), "{dials:?}");
        let gaps = || dials.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps().all(|gap| gap <= 1_010), "a network that is back is found within a second: {dials:?}");
        assert!(gaps().skip(2).all(|gap| gap >= 500), "a server that is down gets few attempts: {dials:?}");
    }
}

#[test]
fn an_attempt_without_an_answer_is_given_up() {
    let (mut client, mut server) = socket();
    assert!(client.carrier_lost(0, 0));
    assert_eq!(client.handle_timeout(0), Ok(Timeout::Dial));
    client.redialled(5);
    assert!(client.poll_transmit(5, 0).is_some(), "RESUME");
    assert_eq!(client.poll_timeout(), Some(10_000));
    assert_eq!(client.handle_timeout(10_000), Ok(Timeout::Dial));
    client.redialled(10_005);
    let Some(Physical::Binary(resume)) = client.poll_transmit(10_005, 0) else { panic!("RESUME") };
    let resume = Resume::read(&resume).expect("RESUME");
    assert!(server.accepts(&resume));
    server.resume(10_005, &resume, token(2));
    assert!(client.send(1, Message::text("hello")).is_ok());
    assert_eq!(client.poll_transmit(10_005, 0), None, "nothing goes before the answer");
    exchange(&mut client, &mut server, 10_005);
    assert!(!client.is_interrupted());
    let mut heard = std::iter::from_fn(|| server.poll_event());
    assert!(heard.any(|event| matches!(event, Event::Message { message, .. } if message == text("hello"))));
}

#[test]
fn a_server_that_shows_no_sign_of_life_is_dialled_again() {
    let (mut client, _) = socket();
    let first = client.poll_timeout().expect("the server has promised to ping");
    let mut at = first;
    while client.handle_timeout(at) != Ok(Timeout::Dial) {
        assert!(!client.is_interrupted());
        at = client.poll_timeout().expect("a timer");
    }
    assert!(client.is_interrupted() && at > first, "it was suspected first");
    assert_eq!(client.poll_event(), None, "no socket has noticed");
}

#[test]
fn an_open_that_a_silent_server_does_not_answer_has_the_link_dial_another_connection() {
    let (mut client, mut server) = socket();
    client.open(1_000, 2, "/second", "").expect("below the limit");
    let (mut now, mut dialled) = (1_000, None);
    while dialled.is_none() {
        assert!(client.poll_transmit(now, 0).is_some() || now > 1_000, "the open, or PING, into nothing");
        now = client.poll_timeout().expect("a timer");
        dialled = (client.handle_timeout(now).expect("no violation") == Timeout::Dial).then_some(now);
    }
    assert_eq!(dialled, Some(1_000 + 2_000 + 3_000));
    client.redialled(now);
    let Some(Physical::Binary(resume)) = client.poll_transmit(now, 0) else { panic!("RESUME") };
    let resume = Resume::read(&resume).expect("RESUME");
    server.resume(now, &resume, token(2));
    exchange(&mut client, &mut server, now);
    let opens =
        std::iter::from_fn(|| server.poll_event()).filter(|event| matches!(event, Event::Open { .. }));
    assert_eq!(opens.count(), 2, "the first one, and the second once");
}

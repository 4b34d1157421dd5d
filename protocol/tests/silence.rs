//! Opens over a link that says nothing.

use manysocket_protocol::client::{Client, SocketEvent, Timeout};
use manysocket_protocol::{Endpoint, Settings, Side};

/// A client without a ping interval, as a page's, and its server, with one open socket.
fn established() -> (Client<u8>, Endpoint) {
    let settings = Settings::default();
    let mut client = Client::new(settings, None, 0);
    let mut server = Endpoint::new(Side::Server, settings, 0);
    client.open(0, 1, "/first", "");
    server.receive_handshake(0, &client.handshake().value()).expect("a correct first batch");
    server.accept(1, "");
    while let Some(message) = server.poll_transmit() {
        client.receive(0, message).expect("a correct message");
    }
    assert!(matches!(client.poll_event(), Some(SocketEvent::Open { key: 1, .. })));
    (client, server)
}

fn transmits(client: &mut Client<u8>, now: u64) -> usize {
    std::iter::from_fn(|| client.poll_transmit(now, 0)).count()
}

#[test]
fn an_unanswered_open_asks_for_a_sign_of_life_and_then_goes_elsewhere() {
    let (mut client, _) = established();
    client.open(100, 2, "/second", "");
    assert_eq!(transmits(&mut client, 100), 1, "the open");
    assert_eq!(client.handle_timeout(2_099), Ok(Timeout::Drain));
    assert_eq!(transmits(&mut client, 2_099), 0);
    assert_eq!(client.handle_timeout(2_100), Ok(Timeout::Drain));
    assert_eq!(transmits(&mut client, 2_100), 1, "a PING");
    assert_eq!(client.handle_timeout(5_099), Ok(Timeout::Drain));
    assert_eq!(client.handle_timeout(5_100), Ok(Timeout::Silent));
    assert_eq!(client.handle_timeout(5_101), Ok(Timeout::Drain), "once");
}

#[test]
fn any_message_is_a_sign_of_life() {
    for at in [200, 3_000] {
        let (mut client, mut server) = established();
        client.open(100, 2, "/second", "");
        if at > 2_100 {
            assert_eq!(client.handle_timeout(2_100), Ok(Timeout::Drain));
        }
        server.send(1, manysocket_protocol::Message::text("alive"));
        client.receive(at, server.poll_transmit().expect("a message")).expect("a correct message");
        assert_eq!(client.handle_timeout(5_200), Ok(Timeout::Drain), "a message at {at}");
    }
}

#[test]
fn a_socket_that_opens_leaves_no_deadline_behind() {
    let (client, _) = established();
    // That of keep-alive only, and not the 240 s of the open.
    assert!(client.poll_timeout().is_none_or(|at| at < 240_000));
    let without = Settings::new().ping_interval(0);
    let mut client = Client::<u8>::new(without, None, 0);
    let mut server = Endpoint::new(Side::Server, without, 0);
    let channel = client.open(0, 1, "/", "").expect("a channel");
    assert_eq!(client.poll_timeout(), Some(240_000));
    server.receive_handshake(0, &client.handshake().value()).expect("a correct first batch");
    server.accept(channel, "");
    while let Some(message) = server.poll_transmit() {
        client.receive(0, message).expect("a correct message");
    }
    assert_eq!(client.poll_timeout(), None);
    client.close(5, channel, Some(1000), "");
    assert_eq!(client.poll_timeout(), Some(60_005));
}

//! Calls that are cancelled, or whose page is gone: the server drops their futures.

mod common;

use std::time::Duration;

use common::nats::{Backend, backends};
use common::{KINDS, Kind, PATIENCE, Received, Server, Socket};
use manysocket_protocol::Message;
use manysocket_server::Site;
use manysocket_server::rpc::{Registration, Rpc, remote, rpc};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

/// The steps of a function, in order.
#[derive(Debug, PartialEq)]
enum Event {
    Begun(u64),
    Returned(u64),
    Dropped(u64),
}

/// Reports that a call's future is dropped, unless it has returned.
struct Guard {
    number: u64,
    events: UnboundedSender<Event>,
    has_returned: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (number, has_returned) = (self.number, self.has_returned);
        let _ = self.events.send(if has_returned { Event::Returned(number) } else { Event::Dropped(number) });
    }
}

/// A server with `/wait`, which waits for the gate, and `/finish`, which runs to completion.
struct World {
    server: Server,
    events: UnboundedReceiver<Event>,
    gate: watch::Sender<bool>,
    _registrations: Vec<Registration>,
}

impl World {
    async fn start(backend: &Backend) -> Self {
        let (events, received) = unbounded_channel();
        let (gate, opened) = watch::channel(false);
        let wait = move |number: u64| {
            let (mut opened, events) = (opened.clone(), events.clone());
            async move {
                let _ = events.send(Event::Begun(number));
                let mut guard = Guard { number, events, has_returned: false };
                if number > 0 {
                    let _ = opened.wait_for(|is_open| *is_open).await;
                }
                guard.has_returned = true;
                number
            }
        };
        let (wait, finish) = (rpc(wait.clone()), rpc(wait).run_to_completion());
        let (mut registrations, mut site) = (Vec::new(), Site::new());
        for (path, function) in [("/wait", wait), ("/finish", finish)] {
            let function = match &backend.nats {
                None => function,
                Some(nats) => {
                    registrations.push(function.register(nats, path).await.expect("a registration"));
                    let far: Rpc = remote(nats, path).expect("a short path");
                    if path == "/finish" { far.run_to_completion() } else { far }
                }
            };
            site = site.endpoint(path, function.endpoint());
        }
        let server = Server::start(site.into_router()).await;
        Self { server, events: received, gate, _registrations: registrations }
    }

    async fn socket(&self, kind: Kind, path: &str) -> Socket {
        Socket::open(kind, &self.server, path, "", "").await.expect("open").0
    }

    async fn next(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("in time").expect("an event")
    }
}

async fn send(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).await;
}

async fn answer(socket: &mut Socket) -> Value {
    match socket.receive().await {
        Received::Message(Message::Text(bytes)) => serde_json::from_slice(&bytes).expect("JSON"),
        other => panic!("{other:?}"),
    }
}

fn cancelled() -> Value {
    json!({ "error": { "code": "cancelled", "message": "the call was cancelled" } })
}

#[tokio::test]
async fn a_cancelled_call_is_dropped_and_the_others_keep_their_answers() {
    for backend in &backends().await {
        let mut world = World::start(backend).await;
        for kind in KINDS {
            let mut socket = world.socket(kind, "/wait").await;
            for text in ["[1]", "[2]", "[0]"] {
                send(&mut socket, text).await;
            }
            assert_eq!(world.next().await, Event::Begun(1), "{kind:?}");
            // A call that waits never begins.
            send(&mut socket, r#"{"cancel":1}"#).await;
            send(&mut socket, r#" { "cancel" : 0 }"#).await;
            assert_eq!(answer(&mut socket).await, cancelled(), "{kind:?}");
            assert_eq!(answer(&mut socket).await, cancelled(), "{kind:?}");
            assert_eq!(answer(&mut socket).await, json!({ "result": 0 }), "{kind:?}");
            let mut events = [world.next().await, world.next().await, world.next().await];
            if backend.nats.is_some() {
                // The cancellation and the next call take different ways.
                events.sort_by_key(|event| *event != Event::Dropped(1));
            }
            assert_eq!(events, [Event::Dropped(1), Event::Begun(0), Event::Returned(0)], "{kind:?}");
            // Calls that are answered, and those that do not exist yet, are not affected.
            for text in [r#"{"cancel":2}"#, r#"{"cancel":3}"#, r#"{"cancel":18446744073709551615}"#, "[0]"] {
                send(&mut socket, text).await;
            }
            assert_eq!(answer(&mut socket).await, json!({ "result": 0 }), "{kind:?}");
            // The number of a call counts other messages, too.
            send(&mut socket, "{}").await;
            send(&mut socket, "[4]").await;
            for expected in [Event::Begun(0), Event::Returned(0), Event::Begun(4)] {
                assert_eq!(world.next().await, expected, "{kind:?}");
            }
            send(&mut socket, r#"{"cancel":5}"#).await;
            assert_eq!(answer(&mut socket).await["error"]["code"], "call", "{kind:?}");
            assert_eq!(answer(&mut socket).await, cancelled(), "{kind:?}");
            assert_eq!(world.next().await, Event::Dropped(4), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn calls_of_a_page_that_is_gone_are_dropped() {
    for backend in &backends().await {
        let mut world = World::start(backend).await;
        for kind in KINDS {
            for is_closed in [true, false] {
                let mut socket = world.socket(kind, "/wait").await;
                send(&mut socket, "[1]").await;
                send(&mut socket, "[2]").await;
                assert_eq!(world.next().await, Event::Begun(1), "{kind:?}");
                if is_closed {
                    socket.close(Some(1000), "").await;
                    assert!(matches!(socket.receive().await, Received::Close(Some(1000), _)), "{kind:?}");
                } else {
                    socket.vanish();
                }
                assert_eq!(world.next().await, Event::Dropped(1), "{kind:?}");
            }
        }
        // The calls that waited have not begun.
        let mut socket = world.socket(Kind::Virtual, "/wait").await;
        send(&mut socket, "[0]").await;
        assert_eq!(world.next().await, Event::Begun(0));
    }
}

#[tokio::test]
async fn a_function_that_must_finish_finishes() {
    for backend in &backends().await {
        for kind in KINDS {
            let mut world = World::start(backend).await;
            let mut socket = world.socket(kind, "/finish").await;
            for text in ["[1]", r#"{"cancel":0}"#, "[2]", "[3]", r#"{"cancel":2}"#] {
                send(&mut socket, text).await;
            }
            assert_eq!(world.next().await, Event::Begun(1), "{kind:?}");
            socket.close(Some(1000), "").await;
            assert!(matches!(socket.receive().await, Received::Close(Some(1000), _)), "{kind:?}");
            world.gate.send_replace(true);
            // The second had arrived; the third was cancelled before it began.
            for expected in [Event::Returned(1), Event::Begun(2), Event::Returned(2)] {
                assert_eq!(world.next().await, expected, "{kind:?}");
            }
            let mut socket = world.socket(kind, "/finish").await;
            send(&mut socket, "[4]").await;
            assert_eq!(answer(&mut socket).await, json!({ "result": 4 }), "{kind:?}");
            assert_eq!((world.next().await, world.next().await), (Event::Begun(4), Event::Returned(4)));
        }
    }
}

/// Messages are read while a call is under way, up to a bound; the rest waits at the page.
#[tokio::test]
async fn calls_that_wait_are_bounded_and_counted() {
    const CALLS: usize = 4_000;
    let mut world = World::start(&Backend::here()).await;
    let mut socket = world.socket(Kind::Virtual, "/wait").await;
    send(&mut socket, "[1]").await;
    assert_eq!(world.next().await, Event::Begun(1));
    let long = format!("[0{}]", " ".repeat(98));
    for _ in 0..CALLS {
        send(&mut socket, &long).await;
    }
    let counted = async {
        while world.server.stats.memory() < 60_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("what waits is counted");
    world.gate.send_replace(true);
    assert_eq!(answer(&mut socket).await, json!({ "result": 1 }));
    for _ in 0..CALLS {
        assert_eq!(answer(&mut socket).await, json!({ "result": 0 }));
    }
    let given_back = async {
        while world.server.stats.memory() > 30_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, given_back).await.expect("all is given back");
}

#[tokio::test]
async fn calls_of_a_socket_run_at_once_where_the_function_allows_it() {
    let (begun, mut order) = unbounded_channel();
    let (gate, _) = watch::channel(0);
    let opening = gate.clone();
    // Each returns once the gate has its number, and the last one opens it for those before.
    let function = move |number: u64| {
        let (begun, gate, mut opened) = (begun.clone(), opening.clone(), opening.subscribe());
        async move {
            let mut guard = Guard { number, events: begun.clone(), has_returned: false };
            let _ = begun.send(Event::Begun(number));
            if number == 3 {
                gate.send_replace(3);
            }
            let _ = opened.wait_for(|open| *open >= number).await;
            guard.has_returned = true;
            number
        }
    };
    let app = Site::new().endpoint("/meet", rpc(function).max_concurrent(3).endpoint());
    let server = Server::start(app.into_router()).await;
    for kind in KINDS {
        gate.send_replace(0);
        let mut socket = Socket::open(kind, &server, "/meet", "", "").await.expect("open").0;
        for text in ["[1]", "[9]", "[2]", "[8]", "[3]", "true"] {
            send(&mut socket, text).await;
        }
        // The fourth waits for one of the others.
        for number in [1, 9, 2] {
            assert_eq!(order.recv().await, Some(Event::Begun(number)), "{kind:?}");
        }
        assert!(order.try_recv().is_err(), "{kind:?}");
        // The answers keep their order, so a cancelled call frees no room before the answers ahead of it are ready.
        send(&mut socket, r#"{"cancel":1}"#).await;
        assert_eq!(order.recv().await, Some(Event::Dropped(9)), "{kind:?}");
        gate.send_replace(1);
        assert_eq!(answer(&mut socket).await, json!({ "result": 1 }), "{kind:?}");
        assert_eq!(answer(&mut socket).await, cancelled(), "{kind:?}");
        send(&mut socket, r#"{"cancel":3}"#).await;
        assert_eq!(answer(&mut socket).await, json!({ "result": 2 }), "{kind:?}");
        assert_eq!(answer(&mut socket).await, cancelled(), "{kind:?}");
        assert_eq!(answer(&mut socket).await, json!({ "result": 3 }), "{kind:?}");
        assert_eq!(answer(&mut socket).await["error"]["code"], "call", "{kind:?}");
        let mut events: Vec<_> = std::iter::from_fn(|| order.try_recv().ok()).collect();
        events.retain(|event| *event != Event::Begun(8) && *event != Event::Dropped(8));
        let expected = [Event::Returned(1), Event::Begun(3), Event::Returned(2), Event::Returned(3)];
        assert!(expected.iter().all(|event| events.contains(event)) && events.len() == 4, "{events:?}");
        // A page that leaves drops all that are under way.
        gate.send_replace(0);
        for text in ["[5]", "[6]", "[7]"] {
            send(&mut socket, text).await;
        }
        for number in [5, 6, 7] {
            assert_eq!(order.recv().await, Some(Event::Begun(number)), "{kind:?}");
        }
        socket.vanish();
        let mut dropped = Vec::new();
        for _ in 0..3 {
            dropped.push(order.recv().await.expect("an event"));
        }
        dropped.sort_by_key(|event| format!("{event:?}"));
        assert_eq!(dropped, [5, 6, 7].map(Event::Dropped), "{kind:?}");
    }
}

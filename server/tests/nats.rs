//! Several servers on one NATS: messages between them, and the effects of an outage of NATS.

mod common;

use std::time::Duration;

use axum::Router;
use common::binary::Binary;
use common::nats::NatsServer;
use common::{KINDS, Kind, Received, Server, Socket};
use manysocket_protocol::Message;
use manysocket_server::Nats;
use manysocket_server::rpc::{Error, Registration, remote, rpc};
use manysocket_server::topic::{SlowSubscriber, Topics};
use serde_json::{Value, json};
use tokio::time::sleep;

/// One process' part: a topic, and a function that it has or calls.
struct Node {
    server: Server,
    topics: Topics,
    nats: Nats,
    _registration: Option<Registration>,
}

impl Node {
    async fn start(nats: Nats, has_function: bool, slow: SlowSubscriber) -> Self {
        // Room for the messages that come at once after an outage.
        let topics = Topics::new().nats(&nats).slow(slow).backlog(4096);
        let double = rpc(async |n: u32| match n {
            0 => Err(Error::new("zero", "nothing to double")),
            n => Ok(2 * n),
        });
        let registration = match has_function {
            true => Some(double.register(&nats, "/double").await.expect("a registration")),
            false => None,
        };
        let app = Router::new()
            .route_service("/rooms/{room}", topics.clone())
            .route_service("/double", remote(&nats, "/double").expect("a short path"));
        Self { server: Server::start(app).await, topics, nats, _registration: registration }
    }

    async fn socket(&self, kind: Kind, path: &str) -> Socket {
        Socket::open(kind, &self.server, path, "", "").await.expect("open").0
    }
}

async fn send(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).await;
}

async fn text(socket: &mut Socket) -> String {
    match socket.receive().await {
        Received::Message(Message::Text(bytes)) => String::from_utf8(bytes.to_vec()).expect("UTF-8"),
        other => panic!("{other:?}"),
    }
}

async fn call(socket: &mut Socket, arguments: &str) -> Value {
    send(socket, arguments).await;
    serde_json::from_str(&text(socket).await).expect("JSON")
}

/// Waits until a message of one reaches the other, past all earlier ones: a subscription takes its time to be known on NATS.
async fn meet(from: &mut Socket, to: &mut Socket) {
    for n in 0.. {
        let hello = format!("hello {n}");
        send(from, &hello).await;
        until(from, &hello).await;
        if tokio::time::timeout(Duration::from_millis(20), until(to, &hello)).await.is_ok() {
            return;
        }
    }
}

async fn until(socket: &mut Socket, expected: &str) {
    while text(socket).await != expected {}
}

#[tokio::test]
async fn topics_and_calls_cross_and_again_after_nats_was_killed() {
    let Some(mut nats) = NatsServer::start().await else { return };
    for kind in KINDS {
        let here = Node::start(nats.connect().await, false, SlowSubscriber::Drop).await;
        let there = Node::start(nats.connect().await, true, SlowSubscriber::Drop).await;
        let (mut a, mut b) = (here.socket(kind, "/rooms/a").await, there.socket(kind, "/rooms/a").await);
        let mut elsewhere = there.socket(kind, "/rooms/*").await;
        let mut double = here.socket(kind, "/double").await;
        meet(&mut a, &mut b).await;
        for round in 0..2 {
            // In the order of each sender, text as text and binary as binary, each exactly once.
            for n in 0..100 {
                let (text, binary) = (format!("{round} {n}"), vec![n; n.into()]);
                a.send(Message::text(text.as_str())).await;
                a.send(Message::Binary(binary.into())).await;
            }
            for socket in [&mut a, &mut b] {
                for n in 0..100 {
                    assert_eq!(text(socket).await, format!("{round} {n}"), "{kind:?}");
                    let binary = Received::Message(Message::Binary(vec![n; n.into()].into()));
                    assert_eq!(socket.receive().await, binary, "{kind:?}");
                }
            }
            there.topics.publish("/rooms/a", "from the server");
            assert_eq!(text(&mut a).await, "from the server");
            assert_eq!(text(&mut b).await, "from the server");
            assert_eq!(call(&mut double, "[21]").await, json!({ "result": 42 }), "{kind:?}");
            let refused = call(&mut double, "[0]").await;
            assert_eq!(refused["error"]["code"], "zero", "{kind:?}: {refused}");
            let wrong = call(&mut double, "[\"x\"]").await;
            assert_eq!(wrong["error"]["code"], "argument", "{kind:?}: {wrong}");
            if round == 1 {
                break;
            }

            nats.kill().await;
            until_away(&mut double).await;
            // Sent while NATS is away: kept, and passed on when it is back.
            send(&mut a, "into the dark").await;
            nats.restart().await;
            let mut heard = Vec::new();
            while heard.len() < 2 {
                heard.push(text(&mut a).await);
            }
            heard.sort();
            assert_eq!(heard, ["into the dark", "{\"dropped\":null}"], "{kind:?}: the server reports a gap");
            until(&mut b, "{\"dropped\":null}").await;
            meet(&mut a, &mut b).await;
            until_back(&mut double).await;
        }
        // A path with a wildcard in it is a path like any other.
        send(&mut elsewhere, "only here").await;
        let mut heard = text(&mut elsewhere).await;
        if heard == "{\"dropped\":null}" {
            heard = text(&mut elsewhere).await;
        }
        assert_eq!(heard, "only here", "{kind:?}");
    }
}

async fn until_away(double: &mut Socket) {
    loop {
        let answer = call(double, "[1]").await;
        if answer["error"]["message"] == "the call was not sent: NATS is away" {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

async fn until_back(double: &mut Socket) {
    while call(double, "[1]").await != json!({ "result": 2 }) {
        sleep(Duration::from_millis(5)).await;
    }
}

/// Messages that are sent while NATS is away reach the other servers, too, however many outages there are: nobody sends before the others
/// can have subscribed again.
#[tokio::test]
async fn what_waits_for_nats_reaches_everybody_in_every_outage() {
    const MESSAGES: usize = 500;
    let Some(mut nats) = NatsServer::start().await else { return };
    // Each has a function, so that each can be asked whether it knows that NATS is away.
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::start(nats.connect().await, true, SlowSubscriber::Drop).await);
    }
    let (mut sockets, mut doubles) = (Vec::new(), Vec::new());
    for node in &nodes {
        sockets.push(node.socket(Kind::Virtual, "/rooms/a").await);
        doubles.push(node.socket(Kind::Native, "/double").await);
    }
    let [first, rest @ ..] = &mut sockets[..] else { unreachable!() };
    for socket in rest {
        meet(first, socket).await;
    }
    for round in 0..5 {
        nats.kill().await;
        for double in &mut doubles {
            until_away(double).await;
        }
        for (from, socket) in sockets.iter_mut().enumerate() {
            for n in 0..MESSAGES {
                send(socket, &format!("{round} {from} {n}")).await;
            }
        }
        nats.restart().await;
        for (to, socket) in sockets.iter_mut().enumerate() {
            let mut heard = vec![0; nodes.len()];
            while heard.iter().any(|count| *count < MESSAGES) {
                let message = text(socket).await;
                if message.starts_with(&format!("{round} ")) {
                    let mut words = message.split(' ').skip(1).map(str::parse::<usize>);
                    let (Some(Ok(from)), Some(Ok(n))) = (words.next(), words.next()) else {
                        panic!("{message}")
                    };
                    assert_eq!(n, heard[from], "round {round}, from {from} to {to}: in order, each once");
                    heard[from] += 1;
                } else {
                    let is_other = message == "{\"dropped\":null}" || message.starts_with("hello ");
                    assert!(is_other, "round {round}: {message}");
                }
            }
        }
    }
}

/// A publisher that waits, since as much waits for NATS as may, still reads: its close is answered at once.
#[tokio::test]
async fn a_publisher_that_waits_for_nats_reads_on() {
    let Some(mut nats) = NatsServer::start().await else { return };
    for kind in KINDS {
        let node = Node::start(nats.connect().await, true, SlowSubscriber::Drop).await;
        // Not the room of the kind before, whose messages have waited.
        let room = format!("/rooms/{kind:?}");
        let mut socket = node.socket(kind, &room).await;
        let mut double = node.socket(kind, "/double").await;
        send(&mut socket, "here").await;
        assert_eq!(text(&mut socket).await, "here");
        nats.kill().await;
        until_away(&mut double).await;
        // As many as may wait, and a few that are read all the same.
        for n in 0..2010 {
            send(&mut socket, &n.to_string()).await;
        }
        socket.close(Some(4000), "enough").await;
        // Not 1013, which it would get after waiting in vain.
        let Received::Close(code, _) = socket.receive().await else { panic!("{kind:?}: no close") };
        assert_eq!(code, Some(4000), "{kind:?}");
        nats.restart().await;
    }
}

#[tokio::test]
async fn credentials_of_the_url_let_the_server_in() {
    let password = ["--user", "ada", "--pass", "p@ss/w#rd,x"];
    let Some(nats) = NatsServer::start_with(&password).await else { return };
    for (credentials, expected) in
        [("ada:p%40ss%2Fw%23rd%2Cx", true), ("ada:wrong", false), ("ada", false), (":", false)]
    {
        let connected = Nats::connect(&nats.url_with(credentials)).await;
        assert_eq!(connected.is_ok(), expected, "{credentials}: {connected:?}");
    }
    assert!(Nats::connect(&nats.url()).await.is_err(), "no credentials");
    let nats = NatsServer::start_with(&["--auth", "t/ken"]).await.expect("it is installed");
    for (credentials, expected) in [("t%2Fken", true), ("token", false)] {
        let connected = Nats::connect(&nats.url_with(credentials)).await;
        assert_eq!(connected.is_ok(), expected, "{credentials}: {connected:?}");
    }
}

#[tokio::test]
async fn who_wants_no_gaps_is_closed_when_there_may_be_one() {
    let Some(mut nats) = NatsServer::start().await else { return };
    let node = Node::start(nats.connect().await, false, SlowSubscriber::Close).await;
    let mut socket = node.socket(Kind::Virtual, "/rooms/a").await;
    send(&mut socket, "here").await;
    assert_eq!(text(&mut socket).await, "here");
    nats.kill().await;
    nats.restart().await;
    let expected = Received::Close(Some(1013), "messages of other servers may be missing".into());
    assert_eq!(socket.receive().await, expected);
}

#[tokio::test]
async fn a_function_that_nobody_offers_is_unavailable_and_offers_take_turns() {
    let Some(nats) = NatsServer::start().await else { return };
    let front = Node::start(nats.connect().await, false, SlowSubscriber::Drop).await;
    let mut double = front.socket(Kind::Native, "/double").await;
    let nobody = call(&mut double, "[1]").await;
    assert_eq!(nobody["error"]["code"], "unavailable", "{nobody}");
    assert_eq!(nobody["error"]["message"], "no server answers this function now");

    let (who, path) = (Router::new(), "/who");
    let mut registrations = Vec::new();
    for n in 0..2 {
        let own = nats.connect().await;
        registrations.push(rpc(move || async move { n }).register(&own, path).await.expect("a registration"));
    }
    let app = who.route_service(path, remote(&front.nats, path).expect("a short path"));
    let server = Server::start(app).await;
    let mut socket = Socket::open(Kind::Virtual, &server, path, "", "").await.expect("open").0;
    let mut seen = [0, 0];
    while seen.contains(&0) {
        match call(&mut socket, "[]").await["result"].as_u64() {
            Some(n) => seen[usize::try_from(n).expect("0 or 1")] += 1,
            None => sleep(Duration::from_millis(5)).await,
        }
    }
    // A registration ends when it is dropped.
    drop(registrations.remove(0));
    let mut others = 0;
    while others < 20 {
        match call(&mut socket, "[]").await["result"].as_u64() {
            Some(1) => others += 1,
            _ => others = 0,
        }
    }
}

#[tokio::test]
async fn a_path_that_nats_cannot_take_is_refused_and_hurts_nobody() {
    let Some(nats) = NatsServer::start().await else { return };
    let node = Node::start(nats.connect().await, false, SlowSubscriber::Drop).await;
    let mut neighbour = node.socket(Kind::Native, "/rooms/a").await;
    for kind in KINDS {
        let long = format!("/rooms/{}", "~".repeat(2000));
        assert_eq!(Socket::open(kind, &node.server, &long, "", "").await.err(), Some(414), "{kind:?}");
        for strange in ["/rooms/%0d%0aPUB%20x%200", "/rooms/%3E", "/rooms/a.b", "/rooms/%20", "/rooms/$SYS"] {
            let mut socket = node.socket(kind, strange).await;
            send(&mut socket, strange).await;
            assert_eq!(text(&mut socket).await, strange, "{kind:?}");
        }
    }
    send(&mut neighbour, "well").await;
    assert_eq!(text(&mut neighbour).await, "well");
}

#[tokio::test]
async fn two_of_the_binary_share_their_topics_and_again_after_nats_was_killed() {
    let Some(mut nats) = NatsServer::start().await else { return };
    let url = nats.url();
    let (one, two) =
        (Binary::start(&["--nats", &url], &[]).await, Binary::start(&["--nats", &url], &[]).await);
    let open = async |binary: &Binary| {
        Socket::open(Kind::Virtual, &binary.server, "/demo/topics/a", "", "").await.expect("open").0
    };
    let (mut a, mut b) = (open(&one).await, open(&two).await);
    meet(&mut a, &mut b).await;
    send(&mut b, "and back").await;
    for socket in [&mut a, &mut b] {
        until(socket, "and back").await;
    }
    nats.kill().await;
    send(&mut b, "into the dark").await;
    nats.restart().await;
    send(&mut b, "and back again").await;
    // The topics are in JetStream: nothing is missing.
    for text_at_both in ["into the dark", "and back again"] {
        for socket in [&mut a, &mut b] {
            assert_eq!(text(socket).await, text_at_both);
        }
    }
}

//! Topics: the messages of subscribers, over native and virtual sockets alike.

mod common;

use std::time::Duration;

use axum::Router;
use axum::extract::ws::Message as WsMessage;
use axum::http::{StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use common::nats::{Backend, backends, cases};
use common::{KINDS, Kind, PATIENCE, Received, Server, Socket, dial};
use manysocket_protocol::Message;
use manysocket_server::Site;
use manysocket_server::topic::{SlowSubscriber, TopicPolicy, Topics, Verdict};

/// Topics where that backend has them.
fn on<R: TopicPolicy>(backend: &Backend, topics: Topics<R>) -> Topics<R> {
    match &backend.nats {
        Some(nats) => topics.nats(nats),
        None => topics,
    }
}

async fn serve<R: TopicPolicy>(topics: &Topics<R>) -> Server {
    Server::start(Router::new().route_service("/rooms/{room}", topics.clone())).await
}

async fn subscribe(kind: Kind, server: &Server, path: &str) -> Socket {
    Socket::open(kind, server, path, "", "").await.expect("open").0
}

/// A subscriber, once the topic knows of it.
async fn subscribed<R: TopicPolicy>(kind: Kind, server: &Server, topics: &Topics<R>, path: &str) -> Socket {
    let before = topics.subscribers(path);
    let socket = subscribe(kind, server, path).await;
    until(|| topics.subscribers(path) > before).await;
    socket
}

/// Waits for a condition that no socket reports.
async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("in time");
}

fn text(text: &str) -> Message {
    Message::text(text)
}

fn got(text: &str) -> Received {
    Received::Message(Message::text(text))
}

#[tokio::test]
async fn everybody_gets_it_the_sender_too() {
    for (backend, kind) in cases(&backends().await) {
        let topics = on(backend, Topics::new());
        let server = serve(&topics).await;
        let mut sender = subscribed(kind, &server, &topics, "/rooms/a").await;
        let mut others = Vec::new();
        for kind in KINDS {
            others.push(subscribed(kind, &server, &topics, "/rooms/a").await);
        }
        let mut elsewhere = subscribed(kind, &server, &topics, "/rooms/b").await;
        assert_eq!(topics.topics(), ["/rooms/a", "/rooms/b"]);

        let binary = Message::Binary(vec![0, 255, 1].into());
        sender.send(text("grüezi")).await;
        sender.send(binary.clone()).await;
        for socket in [&mut sender].into_iter().chain(&mut others) {
            assert_eq!(socket.receive().await, got("grüezi"), "{kind:?}");
            assert_eq!(socket.receive().await, Received::Message(binary.clone()), "{kind:?}");
        }
        assert_eq!(topics.publish("/rooms/a", "from the server"), 3);
        assert_eq!(others[0].receive().await, got("from the server"));
        assert_eq!(topics.publish("/rooms/b", "the first here"), 1);
        assert_eq!(elsewhere.receive().await, got("the first here"));
        assert_eq!(topics.publish("/rooms/nowhere", "nobody"), 0);
    }
}

#[tokio::test]
async fn a_topic_ends_with_its_last_subscriber_and_its_history_with_it() {
    for (backend, kind) in cases(&backends().await) {
        let topics = on(backend, Topics::new().history(3));
        let server = serve(&topics).await;
        let mut first = subscribed(kind, &server, &topics, "/rooms/a").await;
        for n in 1..=5 {
            first.send(text(&n.to_string())).await;
            assert_eq!(first.receive().await, got(&n.to_string()));
        }
        let mut second = subscribed(kind, &server, &topics, "/rooms/a").await;
        first.send(text("6")).await;
        for n in 3..=6 {
            assert_eq!(
                second.receive().await,
                got(&n.to_string()),
                "{kind:?}: the last three, then what comes"
            );
        }
        assert_eq!(first.receive().await, got("6"));
        first.close(Some(1000), "bye").await;
        let answer = first.receive().await;
        assert!(matches!(answer, Received::Close(Some(1000), _)), "{kind:?}: {answer:?}");
        until(|| topics.subscribers("/rooms/a") == 1).await;
        second.vanish();
        until(|| topics.topics().is_empty()).await;
        let mut third = subscribed(kind, &server, &topics, "/rooms/a").await;
        topics.publish("/rooms/a", "new");
        assert_eq!(third.receive().await, got("new"), "{kind:?}");
    }
}

/// The name is in a cookie; requests without one are refused.
struct Members;

impl TopicPolicy for Members {
    type Subscriber = String;

    async fn accept(&self, topic: &str, request: &Parts) -> Result<String, Response> {
        assert!(topic.starts_with("/rooms/"), "{topic}");
        let cookie = request.headers.get(header::COOKIE).and_then(|cookie| cookie.to_str().ok());
        let name = cookie.and_then(|cookie| cookie.strip_prefix("name="));
        name.map(str::to_owned).ok_or_else(|| StatusCode::FORBIDDEN.into_response())
    }

    fn publish(&self, from: &String, message: WsMessage) -> Verdict {
        match message {
            WsMessage::Text(text) if text == "spam" => Verdict::Ignore,
            WsMessage::Text(text) => Verdict::Publish(format!("{from}: {text}").into()),
            // Longer than a Close frame may be.
            _ => Verdict::Close("no binary messages, please ü".repeat(20)),
        }
    }

    fn deliver(&self, to: &String, message: &WsMessage) -> bool {
        !matches!(message, WsMessage::Text(text) if text.contains("secret") && to != "ada")
    }
}

#[tokio::test]
async fn rules_say_who_may_come_in_what_becomes_of_a_message_and_who_gets_it() {
    for (backend, kind) in cases(&backends().await) {
        let topics = on(backend, Topics::with_policy(Members).history(10));
        let server = serve(&topics).await;
        assert_eq!(Socket::open(kind, &server, "/rooms/a", "", "").await.err(), Some(403), "{kind:?}");
        let mut ada = Socket::open(kind, &server, "/rooms/a", "name=ada", "").await.expect("open").0;
        let mut bob = Socket::open(kind, &server, "/rooms/a", "name=bob", "").await.expect("open").0;
        until(|| topics.subscribers("/rooms/a") == 2).await;
        for message in ["spam", "the secret", "hello"] {
            bob.send(text(message)).await;
        }
        assert_eq!(ada.receive().await, got("bob: the secret"));
        assert_eq!(ada.receive().await, got("bob: hello"));
        assert_eq!(bob.receive().await, got("bob: hello"), "{kind:?}: neither the spam nor the secret");
        let mut late = Socket::open(kind, &server, "/rooms/a", "name=eve", "").await.expect("open").0;
        assert_eq!(late.receive().await, got("bob: hello"), "{kind:?}: nor does the history tell it");
        bob.send(Message::Binary(vec![1].into())).await;
        let Received::Close(Some(1008), reason) = bob.receive().await else { panic!("{kind:?}: not closed") };
        assert!(reason.starts_with("no binary messages, please ü") && reason.len() <= 123, "{reason}");
        ada.send(text("still here")).await;
        assert_eq!(ada.receive().await, got("ada: still here"));
    }
}

#[tokio::test]
async fn a_read_only_topic_is_the_servers() {
    for (backend, kind) in cases(&backends().await) {
        let topics = on(backend, Topics::new());
        let readers = topics.clone().read_only();
        let app =
            Router::new().route_service("/rooms/{room}", readers).nest_service("/editors", topics.clone());
        let server = Server::start(app).await;
        let mut reader = subscribed(kind, &server, &topics, "/rooms/a").await;
        topics.publish("/rooms/a", "news");
        assert_eq!(reader.receive().await, got("news"));
        reader.send(text("mine")).await;
        let expected = Received::Close(Some(1008), "only the server publishes here".into());
        assert_eq!(reader.receive().await, expected, "{kind:?}");
        // A topic's name is the whole path, however its service is mounted.
        let mut editor = subscribed(kind, &server, &topics, "/editors/a").await;
        editor.send(text("mine")).await;
        assert_eq!(editor.receive().await, got("mine"));
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_its_senders_socket_only() {
    for (backend, kind) in cases(&backends().await) {
        let topics = on(backend, Topics::new().max_message_size(10));
        let server = serve(&topics).await;
        let mut other = subscribed(kind, &server, &topics, "/rooms/a").await;
        let mut sender = subscribed(kind, &server, &topics, "/rooms/a").await;
        sender.send(text("1234567890")).await;
        assert_eq!(sender.receive().await, got("1234567890"));
        sender.send(text("12345678901")).await;
        let expected = Received::Close(Some(1009), "the message is too large".into());
        assert_eq!(sender.receive().await, expected, "{kind:?}");
        until(|| topics.subscribers("/rooms/a") == 1).await;
        other.send(text("ok")).await;
        assert_eq!(other.receive().await, got("1234567890"));
        assert_eq!(other.receive().await, got("ok"), "{kind:?}");
    }
}

/// Each costs memory that is no link's.
#[tokio::test]
async fn there_are_only_so_many_topics() {
    for kind in KINDS {
        let topics = Topics::new().max_topics(2);
        let server = serve(&topics).await;
        let open =
            async |path: &str| Socket::open(kind, &server, path, "", "").await.map(|(socket, _)| socket);
        let (one, _two) = (
            subscribed(kind, &server, &topics, "/rooms/1").await,
            subscribed(kind, &server, &topics, "/rooms/2").await,
        );
        assert_eq!(open("/rooms/3").await.err(), Some(503), "{kind:?}");
        assert_eq!(open(&format!("/rooms/{}", "x".repeat(1000))).await.err(), Some(414), "{kind:?}");
        let _three = open("/rooms/2").await.expect("one that is there");
        one.vanish();
        until(|| topics.topics() == ["/rooms/2"]).await;
        let _four = open("/rooms/3").await.expect("there is room again");
    }
}

#[tokio::test]
async fn topics_hold_only_so_much() {
    let full = Received::Close(Some(1013), "the message cannot be kept now: too many here are slow".into());
    let said = "x".repeat(100);
    for (backend, kind) in cases(&backends().await) {
        let topics = on(backend, Topics::new().history(1000).max_message_size(100).max_memory(40_000));
        let server = serve(&topics).await;
        let mut loud = subscribed(kind, &server, &topics, "/rooms/loud").await;
        let mut quiet = subscribed(kind, &server, &topics, "/rooms/quiet").await;
        let mut other = subscribed(kind, &server, &topics, "/rooms/loud").await;
        let mut count = 0;
        let end = loop {
            loud.send(text(&said)).await;
            match loud.receive().await {
                message if message == got(&said) => assert_eq!(other.receive().await, message),
                end => break end,
            }
            count += 1;
        };
        assert_eq!(end, full, "{kind:?}");
        // Each costs its content, its slot, and the allocator's overhead.
        assert!((40..200).contains(&count), "{kind:?}: {count}");
        quiet.send(text("z")).await;
        assert_eq!(quiet.receive().await, got("z"), "{kind:?}: others go on");
        // The oldest has made room for it, and the subscribers get the number.
        assert_eq!(other.receive().await, got("{\"dropped\":null}"), "{kind:?}");
        until(|| topics.subscribers("/rooms/loud") == 1).await;
        other.send(text("y")).await;
        assert_eq!(other.receive().await, got("y"), "{kind:?}: there is room again");
        let crossed = server.stats.totals().limits_crossed;
        assert!(crossed["topics_memory"] > 0, "{kind:?}: {crossed:?}");
        assert!(server.stats.topic_memory() <= 40_000, "{kind:?}");
        drop((loud, quiet, other));
        until(|| server.stats.topic_memory() == 0).await;
    }
}

/// A topic without messages has room for one, however much the others hold.
#[tokio::test]
async fn those_that_hold_most_make_room_for_those_that_hold_little() {
    for kind in KINDS {
        let topics = Topics::new().history(100).max_memory(1 << 20);
        let server = serve(&topics).await;
        let mut large = subscribed(kind, &server, &topics, "/rooms/large").await;
        for _ in 0..100 {
            topics.publish("/rooms/large", "x".repeat(10_000));
        }
        for n in 0..30 {
            let path = format!("/rooms/{n}");
            let mut small = subscribed(kind, &server, &topics, &path).await;
            small.send(text(&"y".repeat(10_000))).await;
            assert_eq!(small.receive().await, got(&"y".repeat(10_000)), "{kind:?} {path}");
            assert!(server.stats.topic_memory() <= 1 << 20, "{kind:?}");
        }
        // Subscribers that had read it all have missed nothing.
        for _ in 0..100 {
            assert_eq!(large.receive().await, got(&"x".repeat(10_000)), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn all_spellings_of_a_name_are_one_topic() {
    for (backend, kind) in cases(&backends().await) {
        let topics = on(backend, Topics::new());
        let site = Site::new()
            .endpoint("/rooms/{room}", topics.endpoint())
            .endpoint("/halls/{hall}", topics.endpoint());
        let server = Server::start(site.into_router()).await;
        let mut index = subscribe(Kind::Virtual, &server, "/rooms/").await;
        assert_eq!(index.receive().await, got("[]"));
        for (one, other, plain, entry) in [
            ("ada@example.org", "ada%40example.org", "ada@example.org", "ada%40example.org"),
            ("Z%C3%BCrich", "Z%c3%bcrich", "Zürich", "Z%C3%BCrich"),
            ("tilde~", "tilde%7E", "tilde~", "tilde~"),
            ("a$b", "a%24b", "a$b", "a%24b"),
            ("a%20b", "%61%20b", "a b", "a%20b"),
            ("100%25", "10%30%25", "100%25", "100%25"),
        ] {
            let mut first = subscribe(kind, &server, &format!("/rooms/{one}")).await;
            assert_eq!(index.receive().await, got(&format!(r#"{{"added":["{entry}"],"removed":[]}}"#)));
            let mut second = subscribe(kind, &server, &format!("/rooms/{other}")).await;
            assert_eq!(topics.topics(), [format!("/rooms/{plain}")], "{kind:?}");
            for spelling in [one, other, plain] {
                assert_eq!(topics.publish(&format!("/rooms/{spelling}"), spelling), 2, "{kind:?} {spelling}");
                assert_eq!(first.receive().await, got(spelling), "{kind:?}");
                assert_eq!(second.receive().await, got(spelling), "{kind:?}");
            }
            second.vanish();
            until(|| topics.subscribers(&format!("/rooms/{one}")) == 1).await;
            assert_eq!(topics.topics(), [format!("/rooms/{plain}")], "{kind:?}: one of two has left");
            // Another topic with the same last segment does not take the name away.
            let elsewhere = subscribe(kind, &server, &format!("/halls/{other}")).await;
            elsewhere.vanish();
            until(|| topics.topics().len() == 1).await;
            assert_eq!(topics.listing().snapshot().len(), 1, "{kind:?}: {other}");
            first.vanish();
            assert_eq!(index.receive().await, got(&format!(r#"{{"added":[],"removed":["{entry}"]}}"#)));
        }
        assert_eq!(Socket::open(kind, &server, "/rooms/%ff", "", "").await.err(), Some(400), "{kind:?}");
        let mut slash = subscribe(Kind::Native, &server, "/rooms/a%2fb").await;
        assert_eq!(topics.publish("/rooms/a/b", "not here"), 0);
        assert_eq!(topics.publish("/rooms/a%2Fb", "here"), 1);
        assert_eq!(slash.receive().await, got("here"));
    }
}

/// Publications reach a socket from the moment that it is open.
#[tokio::test]
async fn a_socket_that_is_open_is_subscribed() {
    for (backend, kind) in cases(&backends().await) {
        let topics = on(backend, Topics::new());
        let server = serve(&topics).await;
        for n in 0..50 {
            let path = format!("/rooms/{n}");
            let mut socket = subscribe(kind, &server, &path).await;
            assert_eq!(topics.publish(&path, "after open"), 1, "{kind:?}");
            assert_eq!(socket.receive().await, got("after open"), "{kind:?}");
        }
    }
}

/// More than all buffers on the way hold, so that a subscriber that does not read falls behind.
const MANY: usize = 300;

/// Publishes while one subscriber reads and one does not; the slow one.
async fn leave_behind(kind: Kind, topics: &Topics, server: &Server) -> Socket {
    let slow = subscribed(kind, server, topics, "/rooms/a").await;
    let mut fast = subscribed(kind, server, topics, "/rooms/a").await;
    for n in 0..MANY {
        let content = format!("{n:>5}{}", "x".repeat(60_000));
        topics.publish("/rooms/a", content.as_str());
        assert_eq!(fast.receive().await, got(&content), "{kind:?}: the fast one waits for nobody");
    }
    slow
}

#[tokio::test]
async fn a_slow_subscriber_misses_the_oldest_and_is_told_how_many() {
    for (backend, kind) in cases(&backends().await) {
        let topics = on(backend, Topics::new().backlog(4));
        let server = serve(&topics).await;
        let mut slow = leave_behind(kind, &topics, &server).await;
        let (mut received, mut dropped) = (Vec::new(), 0);
        while received.last() != Some(&(MANY - 1)) {
            let Received::Message(Message::Text(bytes)) = slow.receive().await else { panic!("{kind:?}") };
            let text = std::str::from_utf8(&bytes).expect("UTF-8");
            match text.strip_prefix("{\"dropped\":") {
                Some(count) => dropped += count.trim_end_matches('}').parse::<usize>().expect("a number"),
                None => received.push(text[..5].trim().parse().expect("a number")),
            }
        }
        assert!(dropped > 0, "{kind:?}");
        assert!(received.is_sorted(), "{kind:?}: {received:?}");
        assert_eq!(received.len() + dropped, MANY, "{kind:?}");
        assert!(
            received.ends_with(&[MANY - 4, MANY - 3, MANY - 2, MANY - 1]),
            "{kind:?}: the newest are kept"
        );
    }
}

#[tokio::test]
async fn or_is_closed() {
    for (backend, kind) in cases(&backends().await) {
        let topics = on(backend, Topics::new().backlog(4).slow(SlowSubscriber::Close));
        let server = serve(&topics).await;
        let mut slow = leave_behind(kind, &topics, &server).await;
        let (code, reason) = loop {
            match slow.receive().await {
                Received::Message(_) => {}
                Received::Close(code, reason) => break (code, reason),
                Received::Lost | Received::Failed => panic!("{kind:?}: lost"),
            }
        };
        assert_eq!(code, Some(1013), "{kind:?}");
        assert!(reason.starts_with("too slow: missed "), "{kind:?}: {reason}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_may_not_subscribe_unless_they_are_listed() {
    let site = Site::new().endpoint("/rooms/{room}", Topics::new().endpoint());
    let server =
        Server::start(site.allow_origin("https://friend.example".parse().expect("an origin")).into_router())
            .await;
    let open = async |origin: Option<&str>| {
        let headers: Vec<_> = origin.map(|origin| ("origin", origin)).into_iter().collect();
        dial(&server, "/rooms/a", &headers).await.err()
    };
    assert_eq!(open(Some("https://evil.example")).await, Some(403));
    assert_eq!(open(Some("null")).await, Some(403));
    assert_eq!(open(Some("https://friend.example")).await, None);
    // Not a browser: it has nobody's cookies.
    assert_eq!(open(None).await, None);
}

#[tokio::test]
async fn a_site_lists_the_topics_that_there_are() {
    let topics = Topics::new();
    let server = Server::start(Site::new().endpoint("/rooms/{room}", topics.endpoint()).into_router()).await;
    let mut index = subscribe(Kind::Virtual, &server, "/rooms/").await;
    assert_eq!(index.receive().await, got("[]"));
    let mut room = subscribe(Kind::Virtual, &server, "/rooms/caf%C3%A9").await;
    assert_eq!(index.receive().await, got(r#"{"added":["caf%C3%A9"],"removed":[]}"#));
    assert_eq!(topics.publish("/rooms/caf%C3%A9", "bonjour"), 1);
    assert_eq!(room.receive().await, got("bonjour"));
    room.vanish();
    assert_eq!(index.receive().await, got(r#"{"added":[],"removed":["caf%C3%A9"]}"#));
}

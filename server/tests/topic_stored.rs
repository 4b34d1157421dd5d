//! Topics whose messages are on disk: a server that restarts, or is killed, loses and repeats none that it has acknowledged.

mod common;

use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::Message as WsMessage;
use axum::http::request::Parts;
use axum::response::Response;
use common::binary::Binary;
use common::positions::{publish, subscribe};
use common::{KINDS, Kind, PATIENCE, Received, Server, Socket, events, next, open};
use manysocket_protocol::Message;
use manysocket_server::topic::{AllowAll, Positions, TopicPolicy, TopicStore, Topics, Verdict};
use serde_json::{Value, json};
use tokio::time::timeout;

struct Room {
    server: Server,
    topics: Topics,
    store: TopicStore,
}

impl Room {
    async fn start(folder: &Path, with: impl FnOnce(Topics) -> Topics) -> Self {
        let store = TopicStore::open(folder.join("topics.redb")).expect("a store");
        let topics = with(Topics::new().stored(&store));
        let server = serve(&topics).await;
        Self { server, topics, store }
    }

    /// The server has gone, and all that it had in memory.
    async fn stop(self) {
        self.store.close().await;
    }
}

async fn serve<P: TopicPolicy>(topics: &Topics<P>) -> Server {
    Server::start(Router::new().route_service("/rooms/{room}", topics.clone())).await
}

#[tokio::test]
async fn positions_go_on_after_a_restart() {
    for kind in KINDS {
        let folder = tempfile::tempdir().expect("a folder");
        let room = Room::start(folder.path(), |topics| topics).await;
        let (mut page, epoch, greeting) = subscribe(kind, &room.server, "/rooms/a?since=").await;
        assert_eq!(greeting["position"], 0, "{kind:?}");
        assert_eq!(publish(&mut page, "one").await, 1);
        page.send(Message::Binary(vec![0, 255].into())).await;
        assert_eq!(next(&mut page).await, json!({"position": 2, "binary": "AP8="}), "{kind:?}");
        assert_eq!(room.topics.publish("/rooms/a", "three"), 1);
        assert_eq!(next(&mut page).await, json!({"published": 2}), "{kind:?}");
        assert_eq!(next(&mut page).await, json!({"position": 3, "data": "three"}), "{kind:?}");
        room.stop().await;

        let room = Room::start(folder.path(), |topics| topics).await;
        let (mut page, again, greeting) =
            subscribe(kind, &room.server, &format!("/rooms/a?since=1.{epoch}")).await;
        assert_eq!((again, greeting), (epoch.clone(), json!({"epoch": epoch, "position": 1})), "{kind:?}");
        assert_eq!(next(&mut page).await, json!({"position": 2, "binary": "AP8="}), "{kind:?}");
        assert_eq!(next(&mut page).await, json!({"position": 3, "data": "three"}), "{kind:?}");
        assert_eq!(publish(&mut page, "four").await, 4);
        let (_, _, greeting) = subscribe(kind, &room.server, "/rooms/a?since=9.other").await;
        assert_eq!(greeting, json!({"epoch": epoch, "position": 0, "missed": null}), "{kind:?}");
        room.stop().await;
    }
}

#[tokio::test]
async fn a_server_publishes_before_it_has_subscribers_and_event_sources_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let serve = async || {
        let room = Room::start(folder.path(), |topics| topics).await;
        let site = manysocket_server::Site::new().endpoint("/rooms/{room}", room.topics.endpoint());
        (Server::start(site.into_router()).await, room)
    };
    let (_, room) = serve().await;
    for text in ["one", "two"] {
        assert_eq!(room.topics.publish("/rooms/a", text), 0);
    }
    // The store writes the waiting messages before it closes.
    room.stop().await;
    let (server, room) = serve().await;
    let (page, epoch, _) = subscribe(Kind::Native, &room.server, "/rooms/a?since=").await;
    drop(page);
    let text = events(&server, "/rooms/a", &format!("last-event-id: 1.{epoch}\r\n"), "data: two").await;
    assert!(text.contains(&format!("id: 2.{epoch}")) && !text.contains("one"), "{text}");
}

/// Answers come in the order of the messages, those that are not published too.
#[tokio::test]
async fn a_message_that_the_policy_ignores_is_answered_in_its_turn() {
    struct NoNoise;
    impl TopicPolicy for NoNoise {
        type Subscriber = ();
        async fn accept(&self, _: &str, _: &Parts) -> Result<(), Response> {
            Ok(())
        }
        fn publish(&self, (): &(), message: WsMessage) -> Verdict {
            if message.to_text().is_ok_and(|text| text == "noise") {
                Verdict::Ignore
            } else {
                Verdict::Publish(message)
            }
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let store = TopicStore::open(folder.path().join("topics.redb")).expect("a store");
    let server = serve(&Topics::with_policy(NoNoise).stored(&store).skip_sender()).await;
    let mut page = open(Kind::Virtual, &server, "/rooms/a?since=").await;
    next(&mut page).await;
    for text in ["one", "noise", "noise", "two", "noise"] {
        page.send(Message::text(text)).await;
    }
    for number in [json!(1), json!(null), json!(null), json!(2), json!(null)] {
        assert_eq!(next(&mut page).await, json!({ "published": number }));
    }
}

#[tokio::test]
async fn a_topic_that_gave_its_place_to_another_is_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let room = Room::start(folder.path(), |topics| topics.max_topics(1)).await;
    let mut epochs = Vec::new();
    for path in ["/rooms/a", "/rooms/b"] {
        let (mut page, epoch, _) = subscribe(Kind::Native, &room.server, &format!("{path}?since=")).await;
        assert_eq!(publish(&mut page, path).await, 1);
        epochs.push(epoch);
        // While it has a subscriber, there is no room for another topic.
        let refused = Socket::open(Kind::Native, &room.server, "/rooms/c", "", "").await;
        assert_eq!(refused.err(), Some(503));
        page.vanish();
        let gone = async {
            while room.topics.subscribers(path) > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, gone).await.expect("it leaves");
    }
    let (mut page, _, greeting) =
        subscribe(Kind::Native, &room.server, &format!("/rooms/a?since=0.{}", epochs[0])).await;
    assert_eq!(greeting, json!({"epoch": epochs[0], "position": 0}));
    assert_eq!(next(&mut page).await, json!({"position": 1, "data": "/rooms/a"}));
}

#[tokio::test]
async fn older_messages_go_and_who_wants_them_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let few = |topics: Topics| topics.positions(Positions::new().messages(2));
    let room = Room::start(folder.path(), few).await;
    let (mut page, epoch, _) = subscribe(Kind::Native, &room.server, "/rooms/a?since=").await;
    for number in 1..=5 {
        assert_eq!(publish(&mut page, "text").await, number);
    }
    room.stop().await;
    let room = Room::start(folder.path(), few).await;
    let (mut page, _, _) = subscribe(Kind::Native, &room.server, &format!("/rooms/a?since=1.{epoch}")).await;
    assert_eq!(next(&mut page).await, json!({"position": 3, "missed": 2}));
    assert_eq!(next(&mut page).await, json!({"position": 4, "data": "text"}));
    assert_eq!(next(&mut page).await, json!({"position": 5, "data": "text"}));
}

#[tokio::test]
async fn nothing_is_published_that_is_not_stored() {
    let folder = tempfile::tempdir().expect("a folder");
    let room = Room::start(folder.path(), |topics| topics).await;
    let (mut other, _, _) = subscribe(Kind::Native, &room.server, "/rooms/a?since=").await;
    let (mut page, _, _) = subscribe(Kind::Virtual, &room.server, "/rooms/a?since=").await;
    assert_eq!(publish(&mut page, "one").await, 1);
    assert_eq!(next(&mut other).await, json!({"position": 1, "data": "one"}));
    room.store.close().await;
    page.send(Message::text("two")).await;
    match page.receive().await {
        Received::Close(code, reason) => {
            assert_eq!((code, &*reason), (Some(1013), "the message cannot be stored now"));
        }
        received => panic!("{received:?}"),
    }
    let refused = Socket::open(Kind::Native, &room.server, "/rooms/b", "", "").await;
    assert_eq!(refused.err(), Some(503), "a topic that cannot be read");
    let quiet = timeout(Duration::from_millis(50), other.receive()).await;
    quiet.expect_err("nobody gets it");
    let _: Topics<AllowAll> = room.topics;
}

/// One server is killed again and again while pages publish and read. MANYSOCKET_KILLS is the number; the goal is 50.
#[tokio::test]
async fn a_server_that_is_killed_keeps_what_it_has_acknowledged() {
    const PAGES: usize = 10;
    let kills: usize = std::env::var("MANYSOCKET_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_str().expect("a path").to_owned();
    let mut acknowledged = Vec::new();
    let mut seen: Vec<Vec<(u64, String)>> = vec![Vec::new(); PAGES];
    let mut epoch = String::new();
    for round in 0..=kills {
        let mut binary = Binary::start(&["--data", &data], &[]).await;
        let mut pages = Vec::new();
        for (number, seen) in seen.iter().enumerate() {
            let since = seen.last().map_or(String::new(), |(position, _)| format!("{position}.{epoch}"));
            let kind = KINDS[number % KINDS.len()];
            let mut page = open(kind, &binary.server, &format!("/demo/topics/a?since={since}")).await;
            let greeting = next(&mut page).await;
            assert_eq!(greeting.get("missed"), None, "round {round}: {greeting}");
            epoch = greeting["epoch"].as_str().expect("an epoch").to_owned();
            pages.push(page);
        }
        let last = round == kills;
        let tasks = pages.into_iter().zip(std::mem::take(&mut seen)).enumerate().map(
            |(number, (mut page, mut seen))| {
                tokio::spawn(async move {
                    let (mut mine, mut sent) = (Vec::new(), 0);
                    let goal = if last { 20 } else { usize::MAX };
                    for _ in 0..4.min(goal) {
                        page.send(Message::text(format!("{round}/{number}/{sent}"))).await;
                        sent += 1;
                    }
                    while mine.len() < goal {
                        let Received::Message(Message::Text(text)) = page.receive().await else { break };
                        let message: Value = serde_json::from_slice(&text).expect("JSON");
                        if let Some(position) = message["published"].as_u64() {
                            mine.push((position, format!("{round}/{number}/{}", mine.len())));
                            if sent < goal {
                                page.send(Message::text(format!("{round}/{number}/{sent}"))).await;
                                sent += 1;
                            }
                        } else {
                            let position = message["position"].as_u64().expect("a position");
                            seen.push((position, message["data"].as_str().expect("a text").to_owned()));
                        }
                    }
                    (page, mine, seen)
                })
            },
        );
        let tasks: Vec<_> = tasks.collect();
        if !last {
            // In the middle of their traffic.
            tokio::time::sleep(Duration::from_millis(150)).await;
            binary.signal("KILL").await;
            assert!(!binary.ended().await, "it is killed");
        }
        let mut pages = Vec::new();
        for task in tasks {
            let (page, mine, read) = timeout(PATIENCE, task).await.expect("in time").expect("a page");
            acknowledged.extend(mine);
            seen.push(read);
            pages.push(page);
        }
        if last {
            // Until each has had the last message of all.
            let end = acknowledged.iter().map(|(position, _)| *position).max().expect("some");
            for (page, seen) in pages.iter_mut().zip(&mut seen) {
                while seen.last().is_none_or(|(position, _)| *position < end) {
                    let message = next(page).await;
                    if let Some(position) = message["position"].as_u64() {
                        seen.push((position, message["data"].as_str().expect("a text").to_owned()));
                    }
                }
            }
        }
    }
    assert!(acknowledged.len() > PAGES * kills, "{} messages", acknowledged.len());
    let (first, others) = seen.split_first().expect("pages");
    let numbers: Vec<u64> = first.iter().map(|(position, _)| *position).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "each once, in one order");
    for other in others {
        assert_eq!(other, first);
    }
    for (position, text) in acknowledged {
        assert_eq!(first[position as usize - 1], (position, text), "acknowledged messages are there");
    }
}

//! Topics with positions: a subscriber comes back, and gets the messages that it has missed.

mod common;

use std::time::Duration;

use axum::Router;
use axum::extract::ws::Message as WsMessage;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use common::{KINDS, Kind, PATIENCE, Received, Server, Socket, events, get, next, open};
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::Message;
use manysocket_server::Site;
use manysocket_server::topic::{Member, Positions, TopicPolicy, Topics, Verdict};
use serde_json::{Value, json};

async fn serve<R: TopicPolicy>(topics: &Topics<R>) -> Server {
    Server::start(Router::new().route_service("/rooms/{room}", topics.clone())).await
}

async fn send(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).await;
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

/// The epoch in a greeting.
fn epoch(greeting: &Value) -> String {
    greeting["epoch"].as_str().expect("an epoch").to_owned()
}

#[tokio::test]
async fn a_subscriber_comes_back_and_gets_each_message_once() {
    for kind in KINDS {
        let topics = Topics::new().positions(Positions::new());
        let server = serve(&topics).await;
        let mut plain = open(kind, &server, "/rooms/a").await;
        let mut page = open(kind, &server, "/rooms/a?x=1&since=").await;
        let greeting = next(&mut page).await;
        let epoch = epoch(&greeting);
        assert_eq!(greeting, json!({"epoch": epoch, "position": 0}), "{kind:?}");

        send(&mut plain, "one \"1\"").await;
        plain.send(Message::Binary(vec![0, 255].into())).await;
        assert_eq!(next(&mut page).await, json!({"position": 1, "data": "one \"1\""}), "{kind:?}");
        assert_eq!(next(&mut page).await, json!({"position": 2, "binary": "AP8="}), "{kind:?}");
        // A subscriber without `since` sees the same frames as on a topic without positions.
        assert_eq!(plain.receive().await, Received::Message(Message::text("one \"1\"")));
        assert!(matches!(plain.receive().await, Received::Message(Message::Binary(_))));
        page.vanish();
        plain.vanish();
        until(|| topics.subscribers("/rooms/a") == 0).await;

        // The topic lives on, and gets the server's messages.
        assert_eq!(topics.publish("/rooms/a", "three"), 0);
        let mut page = open(kind, &server, &format!("/rooms/a?since=1.{epoch}")).await;
        assert_eq!(next(&mut page).await, json!({"epoch": epoch, "position": 1}), "{kind:?}");
        assert_eq!(next(&mut page).await, json!({"position": 2, "binary": "AP8="}), "{kind:?}");
        assert_eq!(next(&mut page).await, json!({"position": 3, "data": "three"}), "{kind:?}");
        send(&mut page, "four").await;
        assert_eq!(next(&mut page).await, json!({"position": 4, "data": "four"}), "{kind:?}");
        assert_eq!(next(&mut page).await, json!({"published": 4}), "{kind:?}");
        let mut last = open(kind, &server, &format!("/rooms/a?since=4.{epoch}")).await;
        assert_eq!(next(&mut last).await, json!({"epoch": epoch, "position": 4}), "{kind:?}");
        send(&mut last, "five").await;
        assert_eq!(next(&mut last).await, json!({"position": 5, "data": "five"}), "{kind:?}");
    }
}

#[tokio::test]
async fn who_comes_too_late_is_told_what_is_gone() {
    for kind in KINDS {
        let topics = Topics::new().positions(Positions::new().messages(3));
        let server = serve(&topics).await;
        let mut page = open(kind, &server, "/rooms/a?since=").await;
        let epoch = epoch(&next(&mut page).await);
        page.vanish();
        until(|| topics.subscribers("/rooms/a") == 0).await;
        for n in 1..=10 {
            topics.publish("/rooms/a", n.to_string());
        }
        let mut late = open(kind, &server, &format!("/rooms/a?since=2.{epoch}")).await;
        assert_eq!(next(&mut late).await, json!({"epoch": epoch, "position": 2}), "{kind:?}");
        assert_eq!(next(&mut late).await, json!({"position": 7, "missed": 5}), "{kind:?}");
        for n in 8..=10 {
            assert_eq!(next(&mut late).await, json!({"position": n, "data": n.to_string()}), "{kind:?}");
        }
        // Another epoch, or no position: the gap is unknown, and all stored messages are new.
        for since in ["2.other".to_owned(), "7".to_owned(), format!("11.{epoch}"), "%00".to_owned()] {
            let mut other = open(kind, &server, &format!("/rooms/a?since={since}")).await;
            let greeting = json!({"epoch": epoch, "position": 7, "missed": null});
            assert_eq!(next(&mut other).await, greeting, "{kind:?} {since}");
            assert_eq!(next(&mut other).await, json!({"position": 8, "data": "8"}), "{kind:?} {since}");
        }
    }
}

#[tokio::test]
async fn what_is_kept_is_bounded_by_bytes_and_age_too() {
    for positions in [Positions::new().bytes(10_000), Positions::new().age(Duration::ZERO)] {
        let topics = Topics::new().positions(positions);
        let server = serve(&topics).await;
        // Somebody stays, so that the topic does.
        let mut stays = open(Kind::Virtual, &server, "/rooms/a?since=").await;
        let epoch = epoch(&next(&mut stays).await);
        for _ in 0..10 {
            topics.publish("/rooms/a", "x".repeat(3000));
        }
        for n in 1..=10 {
            assert_eq!(next(&mut stays).await["position"], n);
        }
        let mut late = open(Kind::Virtual, &server, &format!("/rooms/a?since=0.{epoch}")).await;
        next(&mut late).await;
        send(&mut stays, "last").await;
        let first = next(&mut late).await;
        // The last message has made place, or all that were read are too old.
        let expected = if positions == Positions::new().bytes(10_000) { 7 } else { 10 };
        assert_eq!(first, json!({"position": expected, "missed": expected}), "{positions:?}");
    }
    // Nothing is kept: the topic ends with its last subscriber, and the next has other positions.
    let topics = Topics::new().positions(Positions::new().age(Duration::ZERO));
    let server = serve(&topics).await;
    let mut page = open(Kind::Virtual, &server, "/rooms/a?since=").await;
    let before = epoch(&next(&mut page).await);
    send(&mut page, "x").await;
    next(&mut page).await;
    page.vanish();
    until(|| topics.topics().is_empty()).await;
    let mut page = open(Kind::Virtual, &server, &format!("/rooms/a?since=1.{before}")).await;
    let greeting = next(&mut page).await;
    assert_ne!(epoch(&greeting), before);
    assert_eq!((&greeting["position"], &greeting["missed"]), (&json!(0), &Value::Null));
}

#[tokio::test]
async fn topics_without_subscribers_give_room() {
    let topics = Topics::new().positions(Positions::new()).max_topics(2);
    let server = serve(&topics).await;
    for name in ["a", "b", "c"] {
        topics.publish(&format!("/rooms/{name}"), "kept");
    }
    assert_eq!(topics.topics(), ["/rooms/b", "/rooms/c"]);
    let _b = open(Kind::Virtual, &server, "/rooms/b").await;
    let _d = open(Kind::Virtual, &server, "/rooms/d").await;
    assert_eq!(topics.topics(), ["/rooms/b", "/rooms/d"]);
    assert!(Socket::open(Kind::Virtual, &server, "/rooms/e", "", "").await.is_err(), "none has left");
}

struct Picky;

impl TopicPolicy for Picky {
    type Subscriber = ();

    async fn accept(&self, _topic: &str, _request: &Parts) -> Result<(), Response> {
        Ok(())
    }

    fn publish(&self, (): &(), message: WsMessage) -> Verdict {
        if message.to_text().is_ok_and(|text| text == "ignored") {
            Verdict::Ignore
        } else {
            Verdict::Publish(message)
        }
    }

    fn deliver(&self, (): &(), message: &WsMessage) -> bool {
        message.to_text().is_ok_and(|text| text != "hidden")
    }
}

#[tokio::test]
async fn each_message_of_a_page_gets_one_answer_in_order_and_the_sender_may_be_left_out() {
    for kind in KINDS {
        for skips in [false, true] {
            let topics = Topics::with_policy(Picky).positions(Positions::new());
            let topics = if skips { topics.skip_sender() } else { topics };
            let server = serve(&topics).await;
            let mut other = open(kind, &server, "/rooms/a").await;
            let mut page = open(kind, &server, "/rooms/a?since=").await;
            let epoch = epoch(&next(&mut page).await);
            for text in ["one", "ignored", "hidden", "four"] {
                send(&mut page, text).await;
            }
            let mut heard = Vec::new();
            while heard.last() != Some(&json!({"published": 3})) {
                heard.push(next(&mut page).await);
            }
            let answers: Vec<_> = heard.iter().filter_map(|heard| heard.get("published")).collect();
            assert_eq!(answers, [&json!(1), &Value::Null, &json!(2), &json!(3)], "{kind:?}");
            let data: Vec<_> = heard.iter().filter_map(|heard| heard.get("data")).collect();
            let expected: &[Value] = if skips { &[] } else { &[json!("one"), json!("four")] };
            assert_eq!(data, expected.iter().collect::<Vec<_>>(), "{kind:?} {skips}");
            for text in ["one", "four"] {
                assert_eq!(other.receive().await, Received::Message(Message::text(text)), "{kind:?}");
            }
            // Answers are positions to go on from.
            drop(page);
            let mut page = open(kind, &server, &format!("/rooms/a?since=3.{epoch}")).await;
            next(&mut page).await;
            send(&mut other, "five").await;
            assert_eq!(next(&mut page).await, json!({"position": 4, "data": "five"}), "{kind:?}");
        }
    }
}

/// A page that never reads cannot have the server keep answers without end; all of them arrive once it does.
#[tokio::test]
async fn a_page_that_takes_no_answers_is_not_read_without_end() {
    let topics = Topics::new().positions(Positions::new()).skip_sender();
    let server = serve(&topics).await;
    let mut page = open(Kind::Native, &server, "/rooms/a?since=").await;
    next(&mut page).await;
    let count = 20_000;
    let Socket::Native(wire) = page else { unreachable!("it is native") };
    let (mut sender, mut receiver) = wire.split();
    let sending = tokio::spawn(async move {
        for n in 0..count {
            sender.feed(tokio_tungstenite::tungstenite::Message::text(format!("{n}"))).await.expect("sent");
        }
        sender.flush().await.expect("sent");
        sender
    });
    for n in 1..=count {
        let message = receiver.next().await.expect("a message").expect("an open socket");
        assert_eq!(message.to_text().expect("text"), json!({ "published": n }).to_string());
    }
    drop(sending.await.expect("sent"));
}

#[tokio::test]
async fn the_last_message_is_kept_for_later_subscribers() {
    let topics = Topics::new().retain_last();
    let server = serve(&topics).await;
    topics.publish("/rooms/a", "old");
    topics.publish("/rooms/a", "new");
    for kind in KINDS {
        let mut page = open(kind, &server, "/rooms/a").await;
        assert_eq!(page.receive().await, Received::Message(Message::text("new")));
        page.vanish();
        until(|| topics.subscribers("/rooms/a") == 0).await;
    }
    let mut page = open(Kind::Virtual, &server, "/rooms/a").await;
    assert_eq!(page.receive().await, Received::Message(Message::text("new")));
    send(&mut page, "newer").await;
    assert_eq!(page.receive().await, Received::Message(Message::text("newer")));
    let mut other = open(Kind::Virtual, &server, "/rooms/a").await;
    assert_eq!(other.receive().await, Received::Message(Message::text("newer")));
    assert!(!get(server.address, "/rooms/a").await.is_empty());
}

#[tokio::test]
async fn an_event_source_goes_on_where_it_was() {
    let topics = Topics::new().positions(Positions::new()).history(5);
    let site: Site = Site::new().endpoint("/rooms/{room}", topics.endpoint());
    let server = Server::start(site.into_router()).await;
    topics.publish("/rooms/a", "one");
    topics.publish("/rooms/a", "");
    topics.publish("/rooms/a", "three");
    let text = events(&server, "/rooms/a", "", "data: three\nid: 3.").await;
    let epoch =
        text.split("data: three\nid: 3.").nth(1).and_then(|rest| rest.split('\n').next()).expect("an id");
    for event in ["data: one\nid: 1.", "\nid: 2.", "data: three\nid: 3."] {
        assert!(text.contains(&format!("{event}{epoch}\n\n")), "{text}");
    }
    let text = events(&server, "/rooms/a", &format!("last-event-id: 2.{epoch}\r\n"), "data: three").await;
    assert!(!text.contains("data: one"), "{text}");
    let text = events(&server, "/rooms/a", "last-event-id: 2.other\r\n", "data: three").await;
    assert!(text.contains(r#"data: {"dropped":null}"#) && text.contains("data: one"), "{text}");
}

struct Named;

impl TopicPolicy for Named {
    type Subscriber = String;

    async fn accept(&self, _topic: &str, request: &Parts) -> Result<String, Response> {
        let name = request.uri.query().and_then(|query| query.strip_prefix("name="));
        name.map(str::to_owned).ok_or_else(|| StatusCode::FORBIDDEN.into_response())
    }

    fn member(&self, name: &String) -> Option<Member> {
        (name != "ghost").then(|| Member::new(name).about(json!({"of": "length", "length": name.len()})))
    }
}

#[tokio::test]
async fn a_place_lists_who_is_on_a_topic() {
    for kind in KINDS {
        let topics = Topics::with_policy(Named);
        let site: Site = Site::new()
            .endpoint("/rooms/{room}", topics.endpoint())
            .endpoint("/rooms/{room}/members", topics.members());
        let server = Server::start(site.into_router()).await;
        let ada = open(kind, &server, "/rooms/a?name=ada").await;
        let _ghost = open(kind, &server, "/rooms/a?name=ghost").await;
        let _elsewhere = open(kind, &server, "/rooms/b?name=eve").await;
        let mut watcher = open(kind, &server, "/rooms/a/members?name=ghost").await;
        let about = |name: &str| json!({"name": name, "about": {"of": "length", "length": name.len()}});
        assert_eq!(next(&mut watcher).await, json!({"members": [about("ada")]}), "{kind:?}");
        let again = open(kind, &server, "/rooms/a?name=ada").await;
        let _robert = open(kind, &server, "/rooms/a?name=robert").await;
        assert_eq!(next(&mut watcher).await, json!({"joined": about("robert")}), "{kind:?}");
        ada.vanish();
        until(|| topics.subscribers("/rooms/a") == 3).await;
        again.vanish();
        assert_eq!(next(&mut watcher).await, json!({"left": "ada"}), "{kind:?}");
        let list = get(server.address, "/rooms/a/members?name=ghost").await;
        assert!(list.ends_with(&json!({"members": [about("robert")]}).to_string()), "{list}");
        assert!(
            Socket::open(kind, &server, "/rooms/a/members", "", "").await.is_err(),
            "the policy holds here"
        );
        send(&mut watcher, "x").await;
        assert!(matches!(watcher.receive().await, Received::Close(Some(1008), _)), "{kind:?}");
    }
}

#[tokio::test]
async fn topics_without_positions_refuse_who_asks_for_them() {
    let server = serve(&Topics::new()).await;
    for (path, refused) in
        [("/rooms/a?since=", true), ("/rooms/a?since=1.a", true), ("/rooms/a?since=2024", false)]
    {
        let opened = Socket::open(Kind::Virtual, &server, path, "", "").await;
        assert_eq!(opened.is_err(), refused, "{path}");
    }
}

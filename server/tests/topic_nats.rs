//! Topics that several servers keep in JetStream: each acknowledged message reaches every subscriber once and in one order, whichever
//! server it comes back to, and while any server is killed.

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use common::binary::Binary;
use common::nats::NatsServer;
use common::positions::{publish, subscribe};
use common::{KINDS, Kind, PATIENCE, Received, Server, Socket, events, next, open};
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::Message;
use manysocket_server::Site;
use manysocket_server::topic::{Positions, TopicStore, Topics};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// One process' part.
struct Room {
    server: Server,
    topics: Topics,
    store: TopicStore,
}

impl Room {
    async fn start(nats: &NatsServer, with: impl FnOnce(Topics) -> Topics) -> Self {
        let nats = nats.connect().await;
        let store = TopicStore::nats(&nats, "rooms").await.expect("a store");
        let topics = with(Topics::new().stored(&store));
        let app = Router::new().route_service("/rooms/{room}", topics.clone());
        Self { server: Server::start(app).await, topics, store }
    }
}

#[tokio::test]
async fn a_subscriber_comes_back_to_another_server() {
    let Some(nats) = NatsServer::start().await else { return };
    let (here, there) =
        (Room::start(&nats, |topics| topics).await, Room::start(&nats, |topics| topics).await);
    for kind in KINDS {
        let path = format!("/rooms/{kind:?}");
        let (mut a, epoch, greeting) = subscribe(kind, &here.server, &format!("{path}?since=")).await;
        assert_eq!(greeting, json!({"epoch": epoch, "position": 0}), "{kind:?}");
        let (mut b, other, _) = subscribe(kind, &there.server, &format!("{path}?since=")).await;
        assert_eq!(epoch, other, "{kind:?}: one epoch for all");
        assert_eq!(publish(&mut a, "one").await, 1);
        assert_eq!(next(&mut b).await, json!({"position": 1, "data": "one"}), "{kind:?}");
        b.send(Message::Binary(vec![0, 255].into())).await;
        assert_eq!(next(&mut b).await, json!({"position": 2, "binary": "AP8="}), "{kind:?}");
        assert_eq!(next(&mut b).await, json!({"published": 2}), "{kind:?}");
        assert_eq!(next(&mut a).await, json!({"position": 2, "binary": "AP8="}), "{kind:?}");
        there.topics.publish(&path, "three");
        for socket in [&mut a, &mut b] {
            assert_eq!(next(socket).await, json!({"position": 3, "data": "three"}), "{kind:?}");
        }
        // From any position, at either of them, also when nobody is subscribed there.
        drop((a, b));
        let (mut b, _, greeting) = subscribe(kind, &there.server, &format!("{path}?since=1.{epoch}")).await;
        assert_eq!(greeting, json!({"epoch": epoch, "position": 1}), "{kind:?}");
        assert_eq!(next(&mut b).await, json!({"position": 2, "binary": "AP8="}), "{kind:?}");
        assert_eq!(next(&mut b).await, json!({"position": 3, "data": "three"}), "{kind:?}");
        let third = Room::start(&nats, |topics| topics.history(1)).await;
        let (mut c, _, greeting) = subscribe(kind, &third.server, &format!("{path}?since=3.{epoch}")).await;
        assert_eq!(greeting, json!({"epoch": epoch, "position": 3}), "{kind:?}");
        assert_eq!(publish(&mut c, "four").await, 4);
        // A plain socket sees no numbers.
        let mut plain = open(kind, &third.server, &path).await;
        assert_eq!(plain.receive().await, Received::Message(Message::text("four")), "{kind:?}");
        for (since, position, missed) in [("9.", 0, true), ("4.x", 0, true), ("4.", 4, false)] {
            let (_, _, greeting) =
                subscribe(kind, &here.server, &format!("{path}?since={since}{epoch}")).await;
            let found = (greeting["position"].as_u64(), greeting.get("missed").is_some());
            assert_eq!(found, (Some(position), missed), "{kind:?} {since}");
        }
    }
}

/// A server whose NATS client is behind still goes on where the subscriber was.
#[tokio::test]
async fn a_position_that_a_server_has_not_reached_is_waited_for() {
    let Some(nats) = NatsServer::start().await else { return };
    let (here, there) =
        (Room::start(&nats, |topics| topics).await, Room::start(&nats, |topics| topics).await);
    let (mut a, epoch, _) = subscribe(Kind::Native, &here.server, "/rooms/a?since=").await;
    let (mut b, _, _) = subscribe(Kind::Native, &there.server, "/rooms/a?since=").await;
    for number in 1..=200 {
        assert_eq!(publish(&mut a, "text").await, number);
        let (mut c, _, greeting) =
            subscribe(Kind::Virtual, &there.server, &format!("/rooms/a?since={number}.{epoch}")).await;
        assert_eq!(greeting, json!({"epoch": epoch, "position": number}));
        if number % 50 == 0 {
            there.topics.publish("/rooms/b", "another topic");
            c.send(Message::text("mine")).await;
            let own = next(&mut c).await;
            assert_eq!(own["position"], number + 1, "nothing twice: {own}");
            break;
        }
    }
    let mut expected = 1;
    while expected <= 51 {
        assert_eq!(next(&mut b).await["position"], expected);
        expected += 1;
    }
}

#[tokio::test]
async fn while_nats_is_away_publishers_wait_and_nothing_is_doubled() {
    let Some(mut nats) = NatsServer::start().await else { return };
    let (here, there) =
        (Room::start(&nats, |topics| topics).await, Room::start(&nats, |topics| topics).await);
    for kind in KINDS {
        let path = format!("/rooms/{kind:?}?since=");
        let (mut a, _, _) = subscribe(kind, &here.server, &path).await;
        let (mut b, _, _) = subscribe(kind, &there.server, &path).await;
        assert_eq!(publish(&mut a, "one").await, 1);
        nats.kill().await;
        for text in ["two", "three"] {
            a.send(Message::text(text)).await;
        }
        here.topics.publish(&path[..path.len() - 7], "from the server");
        nats.restart().await;
        let mut texts = Vec::new();
        while texts.len() < 4 {
            let message = next(&mut b).await;
            assert_eq!(message["position"], texts.len() + 1, "{kind:?}: {message}");
            texts.push(message["data"].as_str().expect("a text").to_owned());
        }
        let of_page: Vec<_> = texts.iter().filter(|text| *text != "from the server").collect();
        assert_eq!(of_page, ["one", "two", "three"], "{kind:?}: each once, in the page's order");
        a.send(Message::text("five")).await;
        let mut answers = Vec::new();
        while answers.last() != Some(&5) {
            answers.extend(next(&mut a).await["published"].as_u64());
        }
        assert_eq!(answers.len(), 3, "{kind:?}: one for each message");
        assert_eq!(next(&mut b).await, json!({"position": 5, "data": "five"}), "{kind:?}");
    }
}

#[tokio::test]
async fn a_topic_is_refused_while_nats_is_away() {
    let Some(mut nats) = NatsServer::start().await else { return };
    let room = Room::start(&nats, |topics| topics).await;
    nats.kill().await;
    let gone = async {
        while Socket::open(Kind::Native, &room.server, "/rooms/a", "", "").await.err() != Some(503) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("503");
    nats.restart().await;
    let back = async {
        while Socket::open(Kind::Native, &room.server, "/rooms/a", "", "").await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, back).await.expect("it is back");
}

/// A NATS that has lost its streams has other topics: no earlier position matches one of theirs.
#[tokio::test]
async fn a_lost_topic_ends_and_its_positions_match_no_later_one() {
    let Some(mut nats) = NatsServer::start().await else { return };
    let (here, there) =
        (Room::start(&nats, |topics| topics).await, Room::start(&nats, |topics| topics).await);
    for kind in KINDS {
        let (mut a, epoch, _) = subscribe(kind, &here.server, &format!("/rooms/{kind:?}?since=")).await;
        let (b, _, _) = subscribe(kind, &there.server, &format!("/rooms/{kind:?}?since=")).await;
        assert_eq!(publish(&mut a, "one").await, 1);
        nats.kill().await;
        nats.restart_empty().await;
        for mut page in [a, b] {
            loop {
                match page.receive().await {
                    Received::Message(_) => {}
                    Received::Close(code, reason) => {
                        let expected = "the topic's messages are lost: connect again";
                        assert_eq!((code, &*reason), (Some(1013), expected), "{kind:?}");
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        let (mut a, later, greeting) =
            subscribe(kind, &here.server, &format!("/rooms/{kind:?}?since=0.{epoch}")).await;
        assert_ne!(later, epoch, "{kind:?}");
        assert_eq!(greeting, json!({"epoch": later, "position": 0, "missed": null}), "{kind:?}");
        assert_eq!(publish(&mut a, "anew").await, 1, "{kind:?}");
        let (mut b, _, greeting) =
            subscribe(kind, &there.server, &format!("/rooms/{kind:?}?since=1.{epoch}")).await;
        assert_eq!(greeting, json!({"epoch": later, "position": 0, "missed": null}), "{kind:?}");
        assert_eq!(next(&mut b).await, json!({"position": 1, "data": "anew"}), "{kind:?}");
    }
}

/// The stream has the limits, and a server that is started with others changes them.
#[tokio::test]
async fn older_messages_go_and_who_wants_them_is_told() {
    let Some(nats) = NatsServer::start().await else { return };
    let limited = async |limits: Positions| Room::start(&nats, |topics| topics.positions(limits)).await;
    let room = limited(Positions::new().messages(2)).await;
    let (mut page, epoch, _) = subscribe(Kind::Native, &room.server, "/rooms/a?since=").await;
    for number in 1..=5 {
        assert_eq!(publish(&mut page, "text").await, number);
    }
    let other = limited(Positions::new().messages(2)).await;
    let (mut page, _, _) = subscribe(Kind::Native, &other.server, &format!("/rooms/a?since=1.{epoch}")).await;
    assert_eq!(next(&mut page).await, json!({"position": 3, "missed": 2}));
    assert_eq!(next(&mut page).await, json!({"position": 4, "data": "text"}));
    assert_eq!(next(&mut page).await, json!({"position": 5, "data": "text"}));
    // By age: all go, and the numbers go on.
    let gone = async {
        loop {
            let short = limited(Positions::new().age(Duration::from_millis(100))).await;
            let (mut page, _, greeting) =
                subscribe(Kind::Native, &short.server, &format!("/rooms/a?since=0.{epoch}")).await;
            assert_eq!(greeting, json!({"epoch": epoch, "position": 0}));
            if next(&mut page).await == json!({"position": 5, "missed": 5}) {
                return page;
            }
        }
    };
    let mut page = timeout(PATIENCE, gone).await.expect("they are too old");
    assert_eq!(publish(&mut page, "later").await, 6);
    // By bytes: a message that leaves no room is refused.
    let small = limited(Positions::new().bytes(4000)).await;
    let mut page = open(Kind::Native, &small.server, "/rooms/b").await;
    page.send(Message::text("x".repeat(3000))).await;
    assert!(matches!(page.receive().await, Received::Close(Some(1009), _)));
}

#[tokio::test]
async fn the_sender_is_skipped_and_event_sources_go_on() {
    let Some(nats) = NatsServer::start().await else { return };
    let here = Room::start(&nats, Topics::skip_sender).await;
    let there = Room::start(&nats, Topics::skip_sender).await;
    let (mut a, epoch, _) = subscribe(Kind::Native, &here.server, "/rooms/a?since=").await;
    let (mut b, _, _) = subscribe(Kind::Virtual, &there.server, "/rooms/a?since=").await;
    a.send(Message::text("of a")).await;
    assert_eq!(next(&mut a).await, json!({"published": 1}));
    assert_eq!(next(&mut b).await, json!({"position": 1, "data": "of a"}));
    b.send(Message::text("of b")).await;
    assert_eq!(next(&mut b).await, json!({"published": 2}));
    assert_eq!(next(&mut a).await, json!({"position": 2, "data": "of b"}));
    let site = Site::new().endpoint("/rooms/{room}", there.topics.endpoint());
    let server = Server::start(site.into_router()).await;
    let text = events(&server, "/rooms/a", &format!("last-event-id: 1.{epoch}\r\n"), "data: of b").await;
    assert!(text.contains(&format!("id: 2.{epoch}")) && !text.contains("of a"), "{text}");
}

/// The server's own messages are stored in their order before the store is closed, whether or not anybody is subscribed.
#[tokio::test]
async fn a_server_publishes_without_subscribers() {
    let Some(nats) = NatsServer::start().await else { return };
    let room = Room::start(&nats, |topics| topics).await;
    for text in ["one", "two", "three"] {
        room.topics.publish("/rooms/a", text);
    }
    room.store.close().await;
    let other = Room::start(&nats, |topics| topics.history(2)).await;
    let mut page = open(Kind::Native, &other.server, "/rooms/a").await;
    for text in ["two", "three"] {
        assert_eq!(page.receive().await, Received::Message(Message::text(text)));
    }
}

#[tokio::test]
async fn a_store_has_a_plain_name_and_a_jetstream() {
    let Some(nats) = NatsServer::start().await else { return };
    let connection = nats.connect().await;
    for name in ["", "a.b", "a b", "a*", &"x".repeat(65)] {
        let error = TopicStore::nats(&connection, name).await.expect_err("no name");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{name}");
    }
    let room = Room::start(&nats, |topics| topics).await;
    let long = format!("/rooms/{}", "x".repeat(200));
    assert_eq!(Socket::open(Kind::Native, &room.server, &long, "", "").await.err(), Some(414));
}

/// The pages of the chat, and how many messages of each are acknowledged from one kill to the next.
const PAGES: usize = 50;
const MESSAGES: usize = 4;

/// The messages that a page of the chat has received.
#[derive(Default)]
struct Chat {
    epoch: String,
    seen: Vec<(u64, String)>,
    acknowledged: Vec<(u64, String)>,
    sent: usize,
}

/// The acknowledged messages of each page, once it is subscribed.
type Counts = Vec<Option<usize>>;

/// The task of the pages.
#[derive(Clone)]
struct Plan {
    servers: [SocketAddr; 2],
    /// Acknowledged messages of each page.
    goal: usize,
    /// The number of the last message, once nobody publishes any more.
    last: Option<u64>,
}

impl Chat {
    /// Publishes and reads at either server until the end, and goes on where it was when a connection breaks.
    async fn run(
        mut self,
        number: usize,
        mut plan: watch::Receiver<Plan>,
        counts: watch::Sender<Counts>,
    ) -> Self {
        for attempt in number.. {
            let servers = plan.borrow().servers;
            let since = self.seen.last().map_or(0, |(position, _)| *position);
            let since = if self.epoch.is_empty() { String::new() } else { format!("{since}.{}", self.epoch) };
            let url = format!("ws://{}/demo/topics/chat?name={number}&since={since}", servers[attempt % 2]);
            let Ok((mut wire, _)) = tokio_tungstenite::connect_async(url).await else {
                // It has been killed, or NATS has.
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            if self.talk(&mut wire, number, &mut plan, &counts).await {
                return self;
            }
        }
        self
    }

    /// Returns whether it is the end.
    async fn talk(
        &mut self,
        wire: &mut common::Wire,
        number: usize,
        plan: &mut watch::Receiver<Plan>,
        counts: &watch::Sender<Counts>,
    ) -> bool {
        let mut waits: Option<String> = None;
        let mut is_greeted = false;
        loop {
            let Plan { goal, last, .. } = plan.borrow_and_update().clone();
            if last.is_some_and(|last| self.seen.last().is_some_and(|(position, _)| *position >= last)) {
                return true;
            }
            if is_greeted && waits.is_none() && self.acknowledged.len() < goal {
                let text = format!("{number}/{}", self.sent);
                self.sent += 1;
                if wire.send(text.as_str().into()).await.is_err() {
                    return false;
                }
                waits = Some(text);
            }
            let message = tokio::select! {
                message = wire.next() => message,
                _ = plan.changed() => continue,
            };
            let Some(Ok(message)) = message else { return false };
            let Ok(text) = message.to_text() else { return false };
            let Ok(message) = serde_json::from_str::<Value>(text) else { return false };
            if let Some(epoch) = message["epoch"].as_str() {
                assert!(self.epoch.is_empty() || self.epoch == epoch, "one epoch");
                assert_eq!(message.get("missed"), None, "{message}");
                self.epoch = epoch.to_owned();
                is_greeted = true;
                counts.send_modify(|counts| counts[number] = Some(self.acknowledged.len()));
            } else if let Some(position) = message["published"].as_u64() {
                self.acknowledged.push((position, waits.take().expect("a message of this page")));
                counts.send_modify(|counts| counts[number] = Some(self.acknowledged.len()));
            } else {
                let position = message["position"].as_u64().expect("a position");
                let data = message["data"].as_str().unwrap_or_else(|| panic!("{message}"));
                self.seen.push((position, data.to_owned()));
            }
        }
    }
}

/// The members of a topic, as a page at one server sees them.
struct Present {
    socket: Socket,
    names: BTreeSet<String>,
}

impl Present {
    async fn watch(server: &Server) -> Self {
        let socket = open(Kind::Native, server, "/demo/topics/chat/members").await;
        Self { socket, names: BTreeSet::new() }
    }

    /// Reads until exactly these are there.
    async fn until(&mut self, expected: &BTreeSet<String>) {
        while self.names != *expected {
            let message = next(&mut self.socket).await;
            if let Some(members) = message["members"].as_array() {
                let names = members.iter().filter_map(|member| member["name"].as_str());
                self.names = names.map(str::to_owned).collect();
            }
            self.names.extend(message["joined"]["name"].as_str().map(str::to_owned));
            if let Some(left) = message["left"].as_str() {
                self.names.remove(left);
            }
        }
    }
}

/// How long after a kill the members are right everywhere: the promise of the documentation.
const PRESENCE: Duration = Duration::from_secs(5);

/// Servers and NATS are killed again and again while pages publish and read. MANYSOCKET_KILLS is the number; the goal is 50.
#[tokio::test]
async fn servers_and_nats_that_are_killed_keep_what_they_have_acknowledged() {
    let kills: usize = std::env::var("MANYSOCKET_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let Some(mut nats) = NatsServer::start().await else { return };
    let url = nats.url();
    let arguments = ["--nats", url.as_str()];
    let mut servers = [Binary::start(&arguments, &[]).await, Binary::start(&arguments, &[]).await];
    let addresses = |servers: &[Binary; 2]| [servers[0].server.address, servers[1].server.address];
    let (plan, to_do) = watch::channel(Plan { servers: addresses(&servers), goal: 0, last: None });
    let (counts, mut done) = watch::channel(vec![None; PAGES]);
    let pages: Vec<_> = (0..PAGES)
        .map(|number| tokio::spawn(Chat::default().run(number, to_do.clone(), counts.clone())))
        .collect();
    let everybody: BTreeSet<String> = (0..PAGES).map(|number| number.to_string()).collect();
    let mut slowest = Duration::ZERO;
    // From the first message on.
    let all = done.wait_for(|counts| counts.iter().all(Option::is_some));
    timeout(PATIENCE, all).await.expect("in time").expect("pages");
    for kill in 0..=kills {
        let goal = (kill + 1) * MESSAGES;
        if kill < kills {
            let (server, kills_nats) =
                [(Some(0), false), (Some(1), false), (None, true), (Some(0), true)][kill % 4];
            let mut present = Present::watch(&servers[usize::from(server == Some(0))].server).await;
            // A page that does not come back.
            let (mut expected, mut guest) = (everybody.clone(), None);
            if let Some(server) = server {
                expected.insert("guest".into());
                let path = "/demo/topics/chat?name=guest";
                guest = Some(open(Kind::Native, &servers[server].server, path).await);
            }
            timeout(PATIENCE, present.until(&expected)).await.expect("all are there");
            plan.send_modify(|plan| plan.goal = goal);
            // In the middle of their traffic.
            let some = done
                .wait_for(|counts| counts.iter().flatten().sum::<usize>() > kill * MESSAGES * PAGES + PAGES);
            timeout(PATIENCE, some).await.expect("some in time").expect("pages");
            let killed = Instant::now();
            if kills_nats {
                nats.kill().await;
            }
            if let Some(server) = server {
                servers[server].signal("KILL").await;
                assert!(!servers[server].ended().await, "it is killed");
            }
            if kills_nats {
                nats.restart().await;
            }
            if let Some(server) = server {
                servers[server] = Binary::start(&arguments, &[]).await;
                plan.send_modify(|plan| plan.servers = addresses(&servers));
            }
            // Also at a server that was just started.
            let mut fresh = Present::watch(&servers[server.unwrap_or(0)].server).await;
            for present in [&mut present, &mut fresh] {
                let right = timeout_at(killed + PRESENCE, present.until(&everybody)).await;
                assert!(right.is_ok(), "kill {kill}: {:?} are there", present.names);
            }
            slowest = slowest.max(killed.elapsed());
            drop(guest);
        }
        plan.send_modify(|plan| plan.goal = goal);
        let all = done.wait_for(|counts| counts.iter().all(|count| *count >= Some(goal)));
        timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("kill {kill}: not in time")).expect("pages");
    }
    // All acknowledged messages have been published by now: one more message is the last.
    let mut last = open(Kind::Native, &servers[0].server, "/demo/topics/chat?since=").await;
    let last = publish(&mut last, "the last").await.as_u64().expect("a number");
    plan.send_modify(|plan| plan.last = Some(last));
    let mut chats = Vec::new();
    for page in pages {
        chats.push(timeout(PATIENCE, page).await.expect("in time").expect("a page"));
    }
    let numbers: Vec<u64> = chats[0].seen.iter().map(|(position, _)| *position).collect();
    assert_eq!(numbers, (1..=last).collect::<Vec<_>>(), "each once, in one order");
    for (number, chat) in chats.iter().enumerate() {
        assert!(chat.seen == chats[0].seen, "page {number} has had other messages than page 0");
        for (position, text) in &chat.acknowledged {
            let index = usize::try_from(*position - 1).expect("a position");
            assert_eq!(chats[0].seen[index], (*position, text.clone()), "acknowledged messages are there");
        }
    }
    let mut texts: Vec<_> = chats[0].seen.iter().map(|(_, text)| text).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), numbers.len(), "none is doubled");
    let acknowledged: usize = chats.iter().map(|chat| chat.acknowledged.len()).sum();
    println!(
        "{kills} kills: {PAGES} pages have had {last} messages each, {acknowledged} of them acknowledged"
    );
    println!("the members were right at most {slowest:.1?} after a kill");
}

//! Attempts to resume somebody else's link: the attacks of `docs/security.md` on tokens and parked links.

mod common;

use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message as WsMessage};
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::any;
use common::resuming::{self, arrive, connect, resume, resumed};
use common::{Kind, Link, PATIENCE, Server, get, next, open};
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::{Close, Event, Message, Physical, RESUME_PARAMETER, Resume};
use manysocket_server::topic::{Member, TopicPolicy, Topics};
use manysocket_server::{Limits, Multiplexer, Site, WebSocketUpgrade};
use serde_json::json;
use tokio_tungstenite::tungstenite as ts;

/// The close code of a connection that resumes no link.
const NOT_RESUMED: u16 = 4404;

fn app() -> Router {
    let echo = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| {
            while let Some(Ok(message)) = socket.recv().await {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
        })
    };
    Router::new().route("/echo", any(echo))
}

fn multiplexer() -> Multiplexer {
    Multiplexer::new("/multiplexer")
}

/// A link that can be resumed, with a socket to `/echo`.
async fn link(server: &Server, headers: &[(&'static str, &str)]) -> (Link, u32) {
    resuming::link(server, "/echo", headers).await
}

/// Loses the connection of a link. Another one, of no use, is in its place.
async fn lose(server: &Server, link: &mut Link) {
    let parked = server.stats.parked();
    let other = connect(server, "/multiplexer", &[]).await.expect("a connection");
    drop(std::mem::replace(&mut link.wire, other));
    until(|| server.stats.parked() == parked + 1).await;
}

#[track_caller]
fn assert_code(event: Option<Result<ts::Message, ts::Error>>, code: u16) {
    match event {
        Some(Ok(ts::Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), code),
        other => panic!("{other:?}"),
    }
}

async fn assert_refused(server: &Server, headers: &[(&'static str, &str)], first: Vec<u8>) {
    let mut wire = arrive(server, headers, first).await.expect("a connection");
    let answer = tokio::time::timeout(PATIENCE, wire.next()).await.expect("an answer");
    assert_code(answer, NOT_RESUMED);
}

async fn until(what: impl Fn() -> bool) {
    let looking = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("in time");
}

#[tokio::test]
async fn a_token_that_was_guessed_or_used_is_refused_and_does_no_harm() {
    let server = Server::with(multiplexer(), app()).await;
    let (mut link, channel) = link(&server, &[]).await;
    let used = resume(&mut link);
    let Resume { carrier, .. } = Resume::read(&used).expect("RESUME");
    link.wire = arrive(&server, &[], used.clone()).await.expect("a connection");
    link.assert_echo(channel, "resumed").await;
    // Used, by an eavesdropper.
    assert_refused(&server, &[], used.clone()).await;
    // With a later number.
    let mut later = used.clone();
    assert_eq!((carrier, later[4]), (1, 0x12), "the number of the carrier follows the length");
    later[5] = 9;
    assert_refused(&server, &[], later).await;
    // Guessed: one bit of the newest token is wrong.
    link.endpoint.carrier_lost(0);
    link.endpoint.redialled(0);
    let Some(Physical::Binary(right)) = link.endpoint.poll_transmit() else { panic!("RESUME") };
    for at in [right.len() - 1, right.len() - 16] {
        let mut guessed = right.to_vec();
        guessed[at] ^= 1;
        assert_refused(&server, &[], guessed).await;
    }
    link.wire = arrive(&server, &[], right.to_vec()).await.expect("a connection");
    link.assert_echo(channel, "still the owner's").await;
    assert_eq!((server.stats.links(), server.stats.totals().links_resumed), (1, 2));
}

#[tokio::test]
async fn what_is_no_resume_is_refused_in_the_same_way() {
    let server = Server::with(multiplexer(), app()).await;
    for first in [vec![], vec![0, 0], vec![2, 0, 0x0b, 0], b"garbage".to_vec(), vec![7; 2000]] {
        let mut wire = arrive(&server, &[], first.clone()).await.expect("a connection");
        let answer = tokio::time::timeout(PATIENCE, wire.next()).await.expect("an answer");
        assert_code(answer, NOT_RESUMED);
    }
    assert_eq!(server.stats.links(), 0);
}

#[tokio::test]
async fn another_origin_or_user_with_the_right_token_is_refused() {
    let identity = |handshake: &Parts| {
        handshake.headers.get("cookie").and_then(|cookie| cookie.to_str().ok()).map(str::to_owned)
    };
    let other = "https://other.example";
    let allowed = multiplexer().allow_origin(other.parse().expect("an origin")).resume_identity(identity);
    let server = Server::with(allowed, app()).await;
    let ada = ("cookie", "user=ada");
    let (mut link, channel) = link(&server, &[ada]).await;
    for headers in [&[ada, ("origin", other)][..], &[("cookie", "user=eve")], &[]] {
        let first = resume(&mut link);
        assert_refused(&server, headers, first).await;
    }
    resumed(&server, &mut link, &[ada]).await;
    link.assert_echo(channel, "ada's").await;
    // An origin that is not allowed at all does not get that far.
    let first = resume(&mut link);
    assert_eq!(arrive(&server, &[("origin", "https://evil.example")], first).await.err(), Some(403));
}

#[tokio::test]
async fn a_session_that_has_expired_resumes_nothing() {
    let check = async |handshake: std::sync::Arc<Parts>| match handshake.headers.get("x-expired") {
        None => Ok(()),
        Some(_) => Err(CloseFrame { code: 4401, reason: "expired".into() }),
    };
    let server = Server::with(multiplexer().revalidate(Duration::from_secs(3600), check), app()).await;
    let (mut link, channel) = link(&server, &[]).await;
    let first = resume(&mut link);
    assert_refused(&server, &[("x-expired", "1")], first).await;
    resumed(&server, &mut link, &[]).await;
    link.assert_echo(channel, "valid").await;
}

#[tokio::test]
async fn an_ack_of_what_was_never_sent_ends_the_link_and_no_other() {
    let server = Server::with(multiplexer(), app()).await;
    let (mut bad, _) = link(&server, &[]).await;
    let (mut good, channel) = link(&server, &[]).await;
    bad.wire.send(ts::Message::Binary(vec![5, 0, 0x8b, 1, 2, 0xff, 0x7f].into())).await.expect("a link");
    loop {
        match bad.wire.next().await {
            Some(Ok(ts::Message::Close(Some(frame)))) => {
                assert_eq!(u16::from(frame.code), 1002);
                break;
            }
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    good.assert_echo(channel, "unharmed").await;
    // Nobody resumes a link that has ended for a violation.
    let first = resume(&mut bad);
    assert_refused(&server, &[], first).await;
}

#[tokio::test]
async fn connections_that_say_nothing_keep_no_client_from_its_link() {
    /// More than the connections that may be about to resume a link.
    const SILENT: usize = 1_100;
    let server = Server::with(multiplexer(), app()).await;
    let (mut link, channel) = link(&server, &[]).await;
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        let wire = connect(&server, &format!("/multiplexer?{RESUME_PARAMETER}=0"), &[]).await;
        silent.push(wire.expect("a connection"));
    }
    resumed(&server, &mut link, &[]).await;
    link.assert_echo(channel, "resumed").await;
}

/// Resumes the link, and loses the connection when the answer to RESUME has arrived.
async fn resume_in_vain(server: &Server, link: &mut Link) {
    resumed(server, link, &[]).await;
    let answer = tokio::time::timeout(PATIENCE, link.wire.next()).await.expect("an answer");
    let Some(Ok(ts::Message::Binary(answer))) = answer else { panic!("{answer:?}") };
    link.endpoint.receive(0, Physical::Binary(answer)).expect("a correct server");
}

#[tokio::test]
async fn a_client_that_resumes_often_without_progress_has_to_wait_and_no_other_does() {
    const ATTEMPTS: usize = 20;
    let server = Server::with(multiplexer(), app()).await;
    let (mut link, channel) = link(&server, &[]).await;
    let (mut other, other_channel) = self::link(&server, &[]).await;
    let crossed = || server.stats.totals().limits_crossed.get("max_resumptions").copied().unwrap_or_default();
    // The client never reads the answer.
    let sent = server.stats.totals().sent.messages;
    link.endpoint.send(channel, Message::text("again"));
    link.flush().await;
    until(|| server.stats.totals().sent.messages > sent).await;
    for _ in 0..10 {
        resume_in_vain(&server, &mut link).await;
    }
    assert_eq!(crossed(), 0);
    for _ in 0..ATTEMPTS {
        let first = resume(&mut link);
        link.wire = arrive(&server, &[], first).await.expect("a place for the connection");
    }
    until(|| crossed() > 0).await;
    resumed(&server, &mut other, &[]).await;
    other.assert_echo(other_channel, "does not wait").await;
    // A delay, and no end.
    let event = link.news().await;
    assert_eq!(event, Event::Message { channel, message: Message::text("again") });
    link.assert_echo(channel, "goes on").await;
}

#[tokio::test]
async fn a_page_that_leaves_is_not_waited_for() {
    let server = Server::with(multiplexer(), app()).await;
    let (mut link, _) = link(&server, &[]).await;
    let frame = ts::protocol::CloseFrame { code: 1001.into(), reason: "".into() };
    link.wire.send(ts::Message::Close(Some(frame))).await.expect("a link");
    until(|| server.stats.links() == 0 && server.stats.channels() == 0).await;
    assert_eq!(server.stats.parked(), 0);
}

#[tokio::test]
async fn parked_links_are_limited_and_nobody_is_driven_out() {
    const PARKED: usize = 20;
    let limits = Limits::new().max_parked(PARKED);
    let server = Server::with(multiplexer().limits(limits), app()).await;
    let mut first = link(&server, &[]).await;
    lose(&server, &mut first.0).await;
    for _ in 0..2 * PARKED {
        let (link, _) = link(&server, &[]).await;
        drop(link);
    }
    until(|| server.stats.parked() == PARKED && server.stats.links() <= PARKED + 1).await;
    assert_eq!(server.stats.totals().limits_crossed.get("max_parked").copied(), Some(PARKED as u64 + 1));
    let (mut link, channel) = first;
    resumed(&server, &mut link, &[]).await;
    link.assert_echo(channel, "the first one's place was kept").await;
}

#[tokio::test]
async fn a_thousand_parked_links_hold_what_is_counted_and_give_it_back() {
    const LINKS: usize = 1_000;
    /// Too little for an ACK, so the server keeps its echo.
    const UNACKNOWLEDGED: usize = 20_000;
    let multiplexer = multiplexer().drain(Duration::ZERO);
    let links = multiplexer.links();
    let server = Server::with(multiplexer, app()).await;
    for _ in 0..LINKS {
        let (mut link, channel) = link(&server, &[]).await;
        link.assert_echo(channel, &"x".repeat(UNACKNOWLEDGED)).await;
    }
    until(|| server.stats.parked() == LINKS).await;
    let each = server.stats.memory() / LINKS;
    println!("{each} bytes for each parked link");
    assert!((UNACKNOWLEDGED..2 * UNACKNOWLEDGED).contains(&each), "{each} bytes each");
    links.close_where(|_| true, &CloseFrame { code: 4401, reason: "".into() });
    until(|| server.stats.links() == 0 && server.stats.parked() == 0 && server.stats.memory() == 0).await;
}

#[tokio::test]
async fn a_user_has_a_share_of_the_parked_links() {
    let user = |handshake: &Parts| {
        handshake.headers.get("x-user").and_then(|user| user.to_str().ok()).map(str::to_owned)
    };
    let limits = Limits::new().max_parked_per_user(3);
    let server = Server::with(multiplexer().limits(limits).resume_identity(user), app()).await;
    for _ in 0..10 {
        drop(link(&server, &[("x-user", "mallory")]).await);
    }
    until(|| server.stats.links() == 3 && server.stats.parked() == 3).await;
    let crossed = || server.stats.totals().limits_crossed.get("max_parked_per_user").copied();
    assert_eq!(crossed(), Some(7));
    for user in ["ada", "grace"] {
        let headers = [("x-user", user)];
        let (mut link, channel) = link(&server, &headers).await;
        // One place is enough for any number of connections.
        for _ in 0..5 {
            lose(&server, &mut link).await;
            resumed(&server, &mut link, &headers).await;
            link.assert_echo(channel, "goes on").await;
        }
    }
    assert_eq!(crossed(), Some(7));
}

#[tokio::test]
async fn a_page_that_does_not_come_back_from_the_browsers_cache_has_left() {
    let (told, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let watched = async move |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |mut socket| {
            loop {
                match socket.recv().await {
                    Some(Ok(message @ WsMessage::Text(_))) => drop(socket.send(message).await),
                    other => return drop(told.send(format!("{other:?}"))),
                }
            }
        })
    };
    let multiplexer = multiplexer().resume_timeout(Duration::from_millis(200));
    let server = Server::with(multiplexer, Router::new().route("/echo", any(watched))).await;
    for (code, end) in [(4003, "1001"), (1006, "without a closing handshake")] {
        let (mut link, _) = link(&server, &[]).await;
        if code == 4003 {
            let frame = ts::protocol::CloseFrame { code: 4003.into(), reason: "".into() };
            link.wire.send(ts::Message::Close(Some(frame))).await.expect("a link");
        }
        drop(link);
        let seen = tokio::time::timeout(PATIENCE, ends.recv()).await.expect("an end").expect("an end");
        assert!(seen.contains(end), "{code}: {seen}");
    }
}

#[tokio::test]
async fn a_link_that_the_application_ends_learns_it_when_it_is_resumed() {
    let multiplexer = multiplexer();
    let links = multiplexer.links();
    let server = Server::with(multiplexer, app()).await;
    let (mut link, channel) = link(&server, &[]).await;
    lose(&server, &mut link).await;
    let close = CloseFrame { code: 4401, reason: "logged out".into() };
    assert_eq!(links.close_where(|_| true, &close), 2, "the parked link, and the connection that became one");
    resumed(&server, &mut link, &[]).await;
    let event = link.news().await;
    let Event::Closed { channel: of, close: Close { code, reason } } = event else { panic!("{event:?}") };
    assert_eq!((of, code, reason.as_str()), (channel, Some(4401), "logged out"));
}

struct Named;

impl TopicPolicy for Named {
    type Subscriber = String;

    async fn accept(&self, _: &str, request: &Parts) -> Result<String, Response> {
        Ok(request.uri.query().unwrap_or_default().to_owned())
    }

    fn member(&self, name: &String) -> Option<Member> {
        (!name.is_empty()).then(|| Member::new(name))
    }
}

#[tokio::test]
async fn a_member_whose_link_waits_is_away_and_comes_back_once() {
    let topics = Topics::with_policy(Named);
    let site: Site = Site::new()
        .endpoint("/rooms/{room}", topics.endpoint())
        .endpoint("/rooms/{room}/members", topics.members());
    let server = Server::with(multiplexer(), app().merge(site.into_router())).await;
    let (mut link, _) = link(&server, &[]).await;
    link.open("/rooms/a?ada").await;
    let mut watcher = open(Kind::Native, &server, "/rooms/a/members").await;
    assert_eq!(next(&mut watcher).await, json!({"members": [{"name": "ada"}]}));
    lose(&server, &mut link).await;
    assert_eq!(next(&mut watcher).await, json!({"away": "ada"}));
    let list = get(server.address, "/rooms/a/members").await;
    assert!(list.ends_with(&json!({"members": [{"name": "ada", "away": true}]}).to_string()), "{list}");
    // Another tab is there.
    let tab = open(Kind::Native, &server, "/rooms/a?ada").await;
    assert_eq!(next(&mut watcher).await, json!({"back": "ada"}));
    tab.vanish();
    assert_eq!(next(&mut watcher).await, json!({"away": "ada"}));
    resumed(&server, &mut link, &[]).await;
    assert_eq!(next(&mut watcher).await, json!({"back": "ada"}));
    drop(link);
    assert_eq!(next(&mut watcher).await, json!({"away": "ada"}));
}

#[tokio::test]
async fn opens_over_a_resumed_link_carry_its_newest_handshake() {
    let cookie = async |headers: axum::http::HeaderMap, upgrade: WebSocketUpgrade| {
        let cookie =
            headers.get("cookie").and_then(|cookie| cookie.to_str().ok()).unwrap_or_default().to_owned();
        upgrade.on_upgrade(async move |mut socket| {
            let _ = socket.send(axum::extract::ws::Message::Text(cookie.into())).await;
            while let Some(Ok(_)) = socket.recv().await {}
        })
    };
    let server = Server::with(multiplexer(), app().route("/cookie", any(cookie))).await;
    let (mut link, _) = link(&server, &[("cookie", "session=old")]).await;
    resumed(&server, &mut link, &[("cookie", "session=new")]).await;
    let channel = link.open("/cookie").await;
    assert_eq!(link.news().await, Event::Message { channel, message: Message::text("session=new") });
}

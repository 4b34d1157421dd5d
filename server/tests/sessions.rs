//! Links that end because what their handshake said does not hold any more.

mod common;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message as WsMessage};
use axum::routing::any;
use common::{Link, Server, told};
use manysocket_protocol::{Event, Message};
use manysocket_server::{Multiplexer, WebSocketUpgrade};
use tokio::sync::mpsc;

/// Endpoints that report their input: each text, and `lost` or `closed`.
fn app(tell: &mpsc::UnboundedSender<String>) -> Router {
    let tell = tell.clone();
    let handler = async move |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |mut socket| {
            while let Some(next) = socket.recv().await {
                let _ = tell.send(match next {
                    Ok(WsMessage::Text(text)) => text.to_string(),
                    Ok(_) => "closed".into(),
                    Err(_) => "lost".into(),
                });
            }
        })
    };
    Router::new().route("/tell", any(handler))
}

async fn logged_in(server: &Server, session: &str) -> Link {
    Link::dial_with(server, &[("cookie", session)], |_| {}).await.expect("a link")
}

/// The page sees the code on each channel, and then on the link.
async fn sees_the_end(link: &mut Link, channels: usize) {
    for _ in 0..channels {
        let news = link.news().await;
        let Event::Closed { channel, close } = news else { panic!("{news:?}") };
        assert_eq!((close.code, close.reason.as_str()), (Some(4401), "the session has expired"));
        link.endpoint.close(channel, close.code, "");
    }
    assert_eq!(link.event().await, Err(4401));
}

fn expired() -> CloseFrame {
    CloseFrame { code: 4401, reason: "the session has expired".into() }
}

#[tokio::test]
async fn a_session_that_expires_ends_its_link_and_no_other() {
    let valid = Arc::new(Mutex::new(HashSet::from(["ada", "bob"])));
    let (checked, sessions) = (tokio::sync::watch::channel(0).0, Arc::clone(&valid));
    let mut checks = checked.subscribe();
    let multiplexer =
        Multiplexer::new("/multiplexer").revalidate(Duration::from_millis(10), move |handshake| {
            checked.send_modify(|count| *count += 1);
            let cookie = handshake.headers["cookie"].to_str().expect("ASCII").to_owned();
            let is_valid = sessions.lock().expect("a lock").contains(cookie.as_str());
            async move { if is_valid { Ok(()) } else { Err(expired()) } }
        });
    let (tell, mut heard) = mpsc::unbounded_channel();
    let server = Server::with(multiplexer, app(&tell)).await;
    let (mut ada, mut bob) = (logged_in(&server, "ada").await, logged_in(&server, "bob").await);
    let channels = [ada.open("/tell").await, ada.open("/tell").await];
    let other = bob.open("/tell").await;
    ada.endpoint.send(channels[0], Message::text("valid"));
    ada.flush().await;
    assert_eq!(told(&mut heard).await, "valid");
    checks.wait_for(|&count| count >= 10).await.expect("checks that pass");

    valid.lock().expect("a lock").remove("ada");
    for _ in channels {
        assert_eq!(told(&mut heard).await, "lost");
    }
    // It does not know yet, and its messages have no receiver.
    ada.endpoint.send(channels[1], Message::text("too late"));
    sees_the_end(&mut ada, 2).await;
    bob.endpoint.send(other, Message::text("still here"));
    bob.flush().await;
    assert_eq!(told(&mut heard).await, "still here");
}

#[tokio::test]
async fn links_can_be_ended_at_once() {
    let multiplexer = Multiplexer::new("/multiplexer");
    let links = multiplexer.links();
    let (tell, mut heard) = mpsc::unbounded_channel();
    let server = Server::with(multiplexer, app(&tell)).await;
    let (mut ada, mut bob) = (logged_in(&server, "ada").await, logged_in(&server, "bob").await);
    ada.open("/tell").await;
    let other = bob.open("/tell").await;

    assert_eq!(links.close_where(|handshake| handshake.headers["cookie"] == "nobody", &expired()), 0);
    assert_eq!(links.close_where(|handshake| handshake.headers["cookie"] == "ada", &expired()), 1);
    assert_eq!(told(&mut heard).await, "lost");
    // A page that opens another before it reads of the end.
    ada.endpoint.open("/tell", "");
    let (mut refused, mut closed) = (false, None);
    while !refused || closed.is_none() {
        match ada.news().await {
            Event::Refused { status, .. } => refused = status == 401,
            Event::Closed { channel, .. } => closed = Some(channel),
            other => panic!("{other:?}"),
        }
    }
    ada.endpoint.close(closed.expect("a channel"), None, "");
    assert_eq!(ada.event().await, Err(4401));
    assert_eq!(
        links.close_where(|handshake| handshake.headers["cookie"] == "ada", &expired()),
        0,
        "it has gone"
    );

    bob.endpoint.send(other, Message::text("still here"));
    bob.flush().await;
    assert_eq!(told(&mut heard).await, "still here");
}

/// A page that never answers the close is not waited for longer than others.
#[tokio::test]
async fn a_page_that_does_not_answer_is_cut() {
    let multiplexer = Multiplexer::new("/multiplexer").drain(Duration::from_millis(50));
    let links = multiplexer.links();
    let (tell, _heard) = mpsc::unbounded_channel();
    let server = Server::with(multiplexer, app(&tell)).await;
    let mut link = logged_in(&server, "ada").await;
    link.open("/tell").await;
    assert_eq!(links.close_where(|_| true, &expired()), 1);
    assert!(matches!(link.news().await, Event::Closed { .. }));
    assert_eq!(link.event().await, Err(4401));
}

//! A link that has the server do much gets turns, and others theirs between them: counted in what the link got meanwhile, since
//! times say how busy the machine is.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::any;
use common::{Link, Server};
use manysocket_protocol::{Event, Message};
use manysocket_server::WebSocketUpgrade;

/// The messages of one link that may be handled while another waits for an echo: an echo takes a few turns, and a turn wakes
/// 256 handlers.
const MOST: usize = 256 * 8;

/// A server with an echo at `/echo`, and a handler at `/counted` that counts messages.
async fn server() -> (Server, Arc<AtomicUsize>) {
    let messages = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&messages);
    let counted = async move |upgrade: WebSocketUpgrade| {
        let count = Arc::clone(&count);
        upgrade.on_upgrade(async move |mut socket| {
            while let Some(Ok(_)) = socket.recv().await {
                count.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let echo = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| {
            while let Some(Ok(message)) = socket.recv().await {
                let _ = socket.send(message).await;
            }
        })
    };
    let app = Router::new().route("/counted", any(counted)).route("/echo", any(echo));
    (Server::start(app).await, messages)
}

#[tokio::test]
async fn messages_of_a_link_do_not_stand_before_those_of_another() {
    const CHANNELS: usize = 1_000;
    const EACH: usize = 20;
    let (server, messages) = server().await;
    let (mut neighbour, mut link) = (Link::dial(&server).await, Link::dial(&server).await);
    let echo = neighbour.open("/echo").await;
    let channels: Vec<_> =
        (0..CHANNELS).map(|_| link.endpoint.open("/counted", "").expect("below the limit")).collect();
    let mut accepted = 0;
    while accepted < CHANNELS {
        accepted += usize::from(matches!(link.news().await, Event::Accepted { .. }));
    }
    for _ in 0..EACH {
        for &channel in &channels {
            assert!(link.endpoint.send(channel, Message::binary(vec![0; 8])));
        }
    }
    link.flush().await;
    let mut echoes = 0;
    while messages.load(Ordering::Relaxed) < CHANNELS * EACH {
        let before = messages.load(Ordering::Relaxed);
        neighbour.assert_echo(echo, "are you there").await;
        neighbour.endpoint.consumed(echo, 1, 13);
        let meanwhile = messages.load(Ordering::Relaxed) - before;
        assert!(meanwhile <= MOST, "{meanwhile} messages while another link waited for an echo");
        echoes += 1;
    }
    assert!(echoes >= CHANNELS * EACH / MOST, "only {echoes} echoes meanwhile");
}

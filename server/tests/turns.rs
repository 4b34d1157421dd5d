//! A link that makes much work gets turns, and other links theirs between them. The tests count the link's messages meanwhile, since
//! times depend on the load of the machine.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::ws::Message as WsMessage;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::any;
use common::{Link, Server};
use manysocket_protocol::{Event, Message};
use manysocket_server::WebSocketUpgrade;
use manysocket_server::topic::{Positions, TopicPolicy, Topics};

/// The messages of one link that may be handled while another waits for an echo: an echo takes a turn to be read, to be handled, to
/// be answered and to be written, and a turn has at most 2,048 messages. A slow machine has fewer, since time ends a turn, too.
const MOST: usize = 2048 * 4;

async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            let _ = socket.send(message).await;
        }
    })
}

/// Exchanges messages over another link until the count is reached. Asserts that the count grows by a few turns meanwhile.
async fn assert_turns(neighbour: &mut Link, channel: u32, count: &AtomicUsize, end: usize, most: usize) {
    let mut echoes = 0;
    while count.load(Ordering::Relaxed) < end {
        let before = count.load(Ordering::Relaxed);
        neighbour.assert_echo(channel, "are you there").await;
        neighbour.endpoint.consumed(channel, 1, 13);
        let meanwhile = count.load(Ordering::Relaxed) - before;
        assert!(meanwhile <= most, "{meanwhile} messages while another link waited for an echo");
        echoes += 1;
    }
    assert!(echoes >= end / most, "only {echoes} echoes meanwhile");
}

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
    assert_turns(&mut neighbour, echo, &messages, CHANNELS * EACH, MOST).await;
}

/// Counts the messages that it is asked about, and delivers none.
struct Nothing(Arc<AtomicUsize>);

impl TopicPolicy for Nothing {
    type Subscriber = ();

    async fn accept(&self, _topic: &str, _request: &Parts) -> Result<(), Response> {
        Ok(())
    }

    fn deliver(&self, (): &(), _message: &WsMessage) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        false
    }
}

#[tokio::test]
async fn messages_that_a_topic_has_kept_for_a_link_do_not_stand_before_those_of_another() {
    const KEPT: usize = 50_000;
    /// A turn of a handler receives 128.
    const MOST: usize = 128 * 8;
    let count = Arc::new(AtomicUsize::new(0));
    let topics = Topics::with_policy(Nothing(Arc::clone(&count)))
        .positions(Positions::new().messages(KEPT).bytes(16 << 20));
    let app = Router::new().route_service("/rooms/{room}", topics.clone()).route("/echo", any(echo));
    let server = Server::start(app).await;
    let (mut neighbour, mut link) = (Link::dial(&server).await, Link::dial(&server).await);
    let echo = neighbour.open("/echo").await;
    // It makes the topic.
    let first = link.open("/rooms/a").await;
    link.endpoint.close(first, None, "");
    link.flush().await;
    while topics.subscribers("/rooms/a") > 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..KEPT {
        topics.publish("/rooms/a", "x");
    }
    link.endpoint.open("/rooms/a?since=0.other", "").expect("below the limit");
    link.flush().await;
    assert_turns(&mut neighbour, echo, &count, KEPT, MOST).await;
}

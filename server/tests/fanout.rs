//! How fast a topic is. Prints figures, and so is run by hand:
//! `cargo test --release -p manysocket-server --test fanout -- --ignored --nocapture`.

mod common;

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ws::Message as WsMessage;
use common::nats::NatsServer;
use common::{Kind, Link, Received, Server, Socket};
use manysocket_protocol::Event;
use manysocket_server::topic::Topics;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Virtual sockets of one link.
const PER_LINK: usize = 1000;

/// The approximate number of deliveries of each run.
const DELIVERIES: usize = 2_000_000;

/// The maximum number of publications of a run. A topic keeps as many for each subscriber here: one message that it drops would be
/// waited for for ever.
const MESSAGES: usize = 5000;

/// Publishes while so few messages are on their way, as a client would that sees the answers.
const IN_FLIGHT: usize = 64;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures"]
async fn fan_out() {
    println!("subscribers      bytes  published/s  delivered/s   one message to all, ms");
    for bytes in [32, 1024] {
        for (kind, subscribers) in [
            (Kind::Native, 10),
            (Kind::Native, 100),
            (Kind::Native, 1000),
            (Kind::Virtual, 10),
            (Kind::Virtual, 100),
            (Kind::Virtual, 1000),
            (Kind::Virtual, 10_000),
        ] {
            let topics = Topics::new().backlog(MESSAGES);
            run(kind, subscribers, bytes, &topics.clone(), topics).await;
        }
    }
    let nats = NatsServer::start().await.expect("nats-server");
    println!("over NATS");
    for subscribers in [10, 100, 1000, 10_000] {
        let from = Topics::new().nats(&nats.connect().await);
        let to = Topics::new().nats(&nats.connect().await).backlog(MESSAGES);
        run(Kind::Virtual, subscribers, 32, &from, to).await;
    }
}

/// Publishes on `from`, and has the subscribers at `topics`.
async fn run(kind: Kind, subscribers: usize, bytes: usize, from: &Topics, topics: Topics) {
    let server = Server::start(Router::new().route_service("/rooms/{room}", topics.clone())).await;
    // A word for each client task and message that all of its sockets have.
    let (tell, mut heard) = mpsc::unbounded_channel();
    let mut tasks = Vec::new();
    match kind {
        Kind::Virtual => {
            for first in (0..subscribers).step_by(PER_LINK) {
                let sockets = PER_LINK.min(subscribers - first);
                let mut link = Link::dial(&server).await;
                for _ in 0..sockets {
                    link.open("/rooms/a").await;
                }
                let tell = tell.clone();
                tasks.push(tokio::spawn(async move {
                    let mut count = 0;
                    loop {
                        if let Event::Message { channel, message } = link.news().await {
                            link.endpoint.consumed(channel, 1, message.units());
                            count += 1;
                            if count % sockets == 0 && tell.send(()).is_err() {
                                return;
                            }
                        }
                    }
                }));
            }
        }
        Kind::Native => {
            for _ in 0..subscribers {
                let (mut socket, _) = Socket::open(kind, &server, "/rooms/a", "", "").await.expect("open");
                let tell = tell.clone();
                tasks.push(tokio::spawn(async move {
                    while let Received::Message(_) = socket.receive().await {
                        if tell.send(()).is_err() {
                            return;
                        }
                    }
                }));
            }
        }
    }
    while topics.subscribers("/rooms/a") < subscribers {
        sleep(Duration::from_millis(5)).await;
    }
    let message = WsMessage::Text("x".repeat(bytes).into());
    // Until the subscription is known on NATS.
    while heard.is_empty() {
        from.publish("/rooms/a", message.clone());
        sleep(Duration::from_millis(5)).await;
    }
    while timeout(Duration::from_millis(200), heard.recv()).await.is_ok() {}
    let clients = tasks.len();
    let mut publish = async |messages: usize, in_flight: usize| {
        let started = Instant::now();
        let mut words = 0;
        for published in 1..=messages {
            from.publish("/rooms/a", message.clone());
            let until = if published == messages { messages } else { published.saturating_sub(in_flight) };
            while words < until * clients {
                heard.recv().await.expect("clients live");
                words += 1;
            }
        }
        started.elapsed().as_secs_f64()
    };
    let messages = (DELIVERIES / subscribers).min(MESSAGES);
    publish(messages / 10, IN_FLIGHT).await;
    let seconds = publish(messages, IN_FLIGHT).await;
    let alone = publish(50, 0).await / 50.0 * 1000.0;
    let rate = messages as f64 / seconds;
    let kind = format!("{kind:?}").to_lowercase();
    println!(
        "{subscribers:>6} {kind:<8} {bytes:>5} {rate:>12.0} {:>12.0} {alone:>10.2}",
        rate * subscribers as f64
    );
    for task in tasks {
        task.abort();
    }
}

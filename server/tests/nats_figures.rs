//! The cost of NATS between two servers: the figures of `docs/topics.md` and `docs/rpc.md`.
//! `cargo test --release -p manysocket-server --test nats_figures -- --ignored --nocapture`

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use common::nats::NatsServer;
use common::{Kind, Link, Received, Server, Socket};
use manysocket_protocol::{Event, Message};
use manysocket_server::rpc::{remote, rpc};
use manysocket_server::topic::Topics;
use tokio::sync::Semaphore;

const ROUNDS: usize = 5;

/// Messages or calls of a latency.
const TIMES: usize = 2000;

/// Messages or calls of a rate.
const MANY: usize = 100_000;

/// Messages that may be on their way: less than NATS lets a slow reader be behind. The topic has to keep as many: one
/// that it drops would never make room for the next.
const IN_FLIGHT: usize = 1024;

/// Calls at a time, over sockets of one link.
const CALLERS: usize = 200;

/// Median, lowest and highest.
fn spread(name: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    println!("{name}: {:.3} ({:.3}–{:.3})", values[values.len() / 2], values[0], values[values.len() - 1]);
}

fn p50(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

async fn open(server: &Server, path: &str) -> Socket {
    Socket::open(Kind::Virtual, server, path, "", "").await.expect("open").0
}

/// From publishing on a topic of one server until a socket at the other has it, in milliseconds.
async fn one_way(topics: &Topics, subscriber: &mut Socket) -> f64 {
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let begun = Instant::now();
        topics.publish("/rooms/a", "x".repeat(32));
        assert!(matches!(subscriber.receive().await, Received::Message(_)));
        times.push(begun.elapsed());
    }
    p50(times)
}

/// Messages a second from one server to a socket at the other.
async fn stream(topics: &Topics, subscriber: &mut Socket) -> f64 {
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let begun = Instant::now();
    let publish = async {
        for _ in 0..MANY {
            room.acquire().await.expect("open").forget();
            topics.publish("/rooms/a", "x".repeat(32));
        }
    };
    let read = async {
        for _ in 0..MANY {
            assert!(matches!(subscriber.receive().await, Received::Message(_)));
            room.add_permits(1);
        }
    };
    tokio::join!(publish, read);
    MANY as f64 / begun.elapsed().as_secs_f64()
}

async fn call_time(socket: &mut Socket) -> f64 {
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let begun = Instant::now();
        socket.send(Message::text("[1,2]")).await;
        assert_eq!(socket.receive().await, Received::Message(Message::text(r#"{"result":3.0}"#)));
        times.push(begun.elapsed());
    }
    p50(times)
}

/// Calls a second: each of so many sockets of a link calls again when it has its answer.
async fn call_rate(server: &Server, path: &str) -> f64 {
    let mut link = Link::dial(server).await;
    let mut channels = Vec::new();
    for _ in 0..CALLERS {
        channels.push(link.open(path).await);
    }
    let begun = Instant::now();
    for channel in channels {
        link.endpoint.send(channel, Message::text("[1,2]"));
    }
    for _ in 0..MANY {
        let Event::Message { channel, message } = link.news().await else { panic!("no answer") };
        link.endpoint.consumed(channel, 1, message.units());
        link.endpoint.send(channel, Message::text("[1,2]"));
    }
    MANY as f64 / begun.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures"]
async fn figures() {
    let nats = NatsServer::start().await.expect("nats-server");
    let (here, there) = (nats.connect().await, nats.connect().await);
    let add = || rpc(async |left: f64, right: f64| left + right);
    let _registration = add().register(&there, "/add").await.expect("a registration");
    let (from, to) = (Topics::new().nats(&here), Topics::new().nats(&there).backlog(IN_FLIGHT));
    let app = Router::new()
        .route_service("/rooms/{room}", to)
        .route_service("/local", add())
        .route_service("/add", remote(&here, "/add").expect("a short path"));
    let server = Server::start(app).await;
    let mut subscriber = open(&server, "/rooms/a").await;
    let mut calls = [open(&server, "/local").await, open(&server, "/add").await];
    // Until the subscription and the registration are known on NATS.
    for _ in 0..100 {
        from.publish("/rooms/a", "hello");
        calls[1].send(Message::text("[1,2]")).await;
        calls[1].receive().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while tokio::time::timeout(Duration::from_millis(100), subscriber.receive()).await.is_ok() {}
    let (mut ways, mut rates) = (Vec::new(), Vec::new());
    let (mut times, mut calls_a_second) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..ROUNDS {
        ways.push(one_way(&from, &mut subscriber).await);
        rates.push(stream(&from, &mut subscriber).await);
        for (at, path) in ["/local", "/add"].into_iter().enumerate() {
            times[at].push(call_time(&mut calls[at]).await);
            calls_a_second[at].push(call_rate(&server, path).await);
        }
    }
    spread("topic, one way over NATS, p50 ms", ways);
    spread("topic, messages/s over NATS", rates);
    for ((where_, times), rate) in ["in the process", "over NATS"].into_iter().zip(times).zip(calls_a_second)
    {
        spread(&format!("call {where_}, p50 ms"), times);
        spread(&format!("calls/s {where_}"), rate);
    }
}

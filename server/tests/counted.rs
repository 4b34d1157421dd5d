//! Connections of handlers and upstreams: a counting allocator compares the held memory with the counted memory.

mod common;

use std::alloc::System;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::ws as axum_ws;
use axum::routing::any;
use common::upstream::{accepting, upstream};
use common::{Link, PATIENCE, Server};
use manysocket_protocol::Message;
use manysocket_server::Gateway;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Builder;
use tokio::time::timeout;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The memory of the client, and of first uses, in bytes.
const SLACK: usize = 1 << 20;

/// Runs a test to its end, and its tasks, before the next one begins: the allocator counts the whole process.
fn alone(test: impl Future<Output = ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test);
}

fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.wrapping_sub(stats.bytes_deallocated)
}

/// The memory before something happens.
struct Before {
    allocated: usize,
    counted: usize,
}

impl Before {
    fn note(server: &Server) -> Self {
        Self { allocated: allocated(), counted: server.stats.memory() }
    }

    /// Returns the bytes that are held and counted since then.
    fn since(&self, server: &Server) -> (usize, usize) {
        (allocated().saturating_sub(self.allocated), server.stats.memory().saturating_sub(self.counted))
    }

    /// Waits until so much is counted, and compares that with the held memory. Reads the link's connection, and consumes no message.
    async fn check(&self, what: &str, server: &Server, link: &mut Link, expected: usize) {
        let reach = async {
            while self.since(server).1 < expected {
                let _ = timeout(Duration::from_millis(1), link.event()).await;
            }
        };
        let reached = timeout(PATIENCE, reach).await;
        let (held, counted) = self.since(server);
        eprintln!("{what}: {} KiB held, {} KiB counted", held / 1024, counted / 1024);
        assert!(reached.is_ok(), "{what}: {counted} bytes counted, {held} held");
        assert!(held <= counted * 3 / 2 + SLACK, "{what}: {held} bytes held, {counted} counted");
        assert!(counted <= held * 3 / 2 + SLACK, "{what}: {counted} bytes counted, {held} held");
    }
}

/// A channel of axum's own extractor has a connection in memory, and the handler's buffer of 128 KiB.
#[test]
fn channels_of_axums_own_extractor() {
    alone(async {
        let echo = any(async |upgrade: axum_ws::WebSocketUpgrade| {
            upgrade.on_upgrade(async |mut socket| {
                while let Some(Ok(message)) = socket.recv().await {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
            })
        });
        let deaf = any(async |upgrade: axum_ws::WebSocketUpgrade| {
            upgrade.on_upgrade(async |socket| {
                std::future::pending::<()>().await;
                drop(socket);
            })
        });
        let server = Server::start(Router::new().route("/echo", echo).route("/deaf", deaf)).await;
        let mut link = Link::dial(&server).await;
        let channel = link.open("/echo").await;
        link.assert_echo(channel, "first").await;

        let before = Before::note(&server);
        for _ in 0..64 {
            let channel = link.open("/echo").await;
            link.assert_echo(channel, "hello").await;
        }
        before.check("64 idle channels", &server, &mut link, 64 * 100 * 1024).await;

        let before = Before::note(&server);
        for _ in 0..32 {
            let channel = link.open("/deaf").await;
            for _ in 0..5 {
                link.endpoint.send(channel, Message::binary(vec![1; 40_000]));
            }
            link.flush().await;
        }
        before.check("32 handlers that do not read", &server, &mut link, 32 * 300 * 1024).await;
    });
}

/// Upstreams that send faster than the page takes: a message waits in the link, one in the pipe and one in the gateway, and
/// the next is arriving.
#[test]
fn messages_of_upstreams() {
    alone(async {
        const LENGTH: usize = 4 << 20;
        let address = upstream(async |mut stream, head| {
            stream.write_all(accepting(&head, "").as_bytes()).await.expect("a gateway");
            let zeros = [0; 4096];
            loop {
                let mut header = vec![0x82, 127];
                header.extend((LENGTH as u64).to_be_bytes());
                if stream.write_all(&header).await.is_err() {
                    return;
                }
                for _ in 0..LENGTH / zeros.len() {
                    if stream.write_all(&zeros).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        let gateway = Gateway::new("/up", &format!("ws://{address}")).expect("a gateway");
        let server = Server::start(gateway.mount(Router::new())).await;
        let mut link = Link::dial(&server).await;
        let before = Before::note(&server);
        for _ in 0..4 {
            link.endpoint.open("/up", "").expect("below the limit");
        }
        before.check("4 upstreams that send", &server, &mut link, 4 * 3 * LENGTH).await;
    });
}

/// Upstreams that do not read: a page's message is counted once.
#[test]
fn messages_for_upstreams() {
    alone(async {
        let address = upstream(async |mut stream, head| {
            stream.write_all(accepting(&head, "").as_bytes()).await.expect("a gateway");
            std::future::pending::<()>().await;
        })
        .await;
        let gateway = Gateway::new("/up", &format!("ws://{address}")).expect("a gateway");
        let server = Server::start(gateway.mount(Router::new())).await;
        let mut link = Link::dial(&server).await;
        let channel = link.open("/up").await;
        let before = Before::note(&server);
        // More than the kernel buffers.
        for _ in 0..8 {
            link.endpoint.send(channel, Message::binary(vec![1; 4 << 20]));
        }
        let reach = async {
            while server.stats.memory() < 4 << 20 {
                let _ = timeout(Duration::from_millis(1), link.event()).await;
            }
        };
        timeout(PATIENCE, reach).await.expect("it is counted in time");
        // The client holds the rest.
        let (held, counted) = before.since(&server);
        assert!(counted <= held * 3 / 2, "{counted} bytes counted, {held} held");
    });
}

/// A connection to an upstream that is idle.
#[test]
fn idle_upstreams() {
    alone(async {
        let address = upstream(async |mut stream, head| {
            stream.write_all(accepting(&head, "").as_bytes()).await.expect("a gateway");
            drop(head);
            std::future::pending::<()>().await;
        })
        .await;
        let gateway = Gateway::new("/up", &format!("ws://{address}")).expect("a gateway");
        let server = Server::start(gateway.mount(Router::new())).await;
        let mut link = Link::dial(&server).await;
        link.open("/up").await;
        let before = Before::note(&server);
        for _ in 0..500 {
            link.open("/up").await;
        }
        before.check("500 idle upstreams", &server, &mut link, 500 * 4 * 1024).await;
    });
}

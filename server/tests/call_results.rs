//! Calls: results of any size are counted while they wait, and written without holding up other sockets.

mod common;

use std::time::Duration;

use common::{KINDS, Kind, Received, Server, Socket};
use manysocket_protocol::Message;
use manysocket_server::Site;
use manysocket_server::rpc::rpc;
use serde::ser::{Error, SerializeSeq};
use serde::{Serialize, Serializer};

/// A list whose last element is the name of the thread that wrote it.
struct Wide {
    texts: usize,
}

impl Serialize for Wide {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for _ in 0..self.texts {
            list.serialize_element("eight by")?;
        }
        list.serialize_element(std::thread::current().name().unwrap_or_default())?;
        list.end()
    }
}

/// A value that cannot be written to its end.
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        list.serialize_element(&"x".repeat(100_000))?;
        Err(S::Error::custom("no form in JSON"))
    }
}

async fn server() -> Server {
    let site = Site::new()
        .endpoint("/wide", rpc(async |texts: usize| Wide { texts }).endpoint())
        .endpoint("/unwritable", rpc(async || Unwritable).endpoint())
        .endpoint("/long", rpc(async |length: usize| "x".repeat(length)).endpoint());
    Server::start(site.into_router()).await
}

async fn call(socket: &mut Socket, text: &str) -> serde_json::Value {
    socket.send(Message::text(text)).await;
    match socket.receive().await {
        Received::Message(Message::Text(text)) => serde_json::from_slice(&text).expect("JSON"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn large_results_are_written_on_another_thread() {
    let server = server().await;
    for kind in KINDS {
        let (mut socket, _) = Socket::open(kind, &server, "/wide", "", "").await.expect("a socket");
        for (texts, is_large) in [(0, false), (5_000, false), (6_000, true), (300_000, true)] {
            let answer = call(&mut socket, &format!("[{texts}]")).await;
            let list = answer["result"].as_array().expect("a list");
            assert_eq!(list.len(), texts + 1);
            assert_eq!(list[texts] == "calls", is_large, "{kind:?}: {texts} texts by {}", list[texts]);
        }
        let (mut socket, _) = Socket::open(kind, &server, "/unwritable", "", "").await.expect("a socket");
        assert_eq!(call(&mut socket, "[]").await["error"]["code"], "internal", "{kind:?}");
    }
}

/// The third answer can only wait in the task of the function: the link takes one, and the channel's queue another.
#[tokio::test]
async fn results_that_wait_are_counted() {
    const LENGTH: usize = 4 << 20;
    let server = server().await;
    let (mut socket, _) = Socket::open(Kind::Virtual, &server, "/long", "", "").await.expect("a socket");
    for _ in 0..3 {
        socket.send(Message::text(format!("[{LENGTH}]"))).await;
    }
    let wait = async {
        while server.stats.memory() < 3 * LENGTH {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(common::PATIENCE, wait).await;
    assert!(waited.is_ok(), "{} bytes are counted", server.stats.memory());
    for _ in 0..3 {
        assert!(matches!(socket.receive().await, Received::Message(_)));
    }
    let wait = async {
        while server.stats.memory() > 1 << 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(common::PATIENCE, wait).await.expect("all is given back");
}

//! Functions that return streams: items at the page's pace, their end, and when the server drops a stream.

mod common;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use common::{KINDS, Kind, PATIENCE, Received, Server, Socket};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use manysocket_protocol::Message;
use manysocket_server::Site;
use manysocket_server::rpc::{Error, Streamed, rpc};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A stream that counts its items, and reports that it is dropped.
struct Watched<S> {
    stream: Pin<Box<S>>,
    made: Arc<AtomicUsize>,
    dropped: UnboundedSender<usize>,
}

impl<S: Stream> Stream for Watched<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let item = self.stream.poll_next_unpin(cx);
        if let Poll::Ready(Some(_)) = item {
            self.made.fetch_add(1, Ordering::Relaxed);
        }
        item
    }
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        let _ = self.dropped.send(self.made.load(Ordering::Relaxed));
    }
}

/// A server with streams, the number of items that they have made, and the end of each.
struct World {
    server: Server,
    made: Arc<AtomicUsize>,
    dropped: UnboundedReceiver<usize>,
}

impl World {
    async fn start() -> Self {
        let (made, (dropped, ends)) = (Arc::<AtomicUsize>::default(), unbounded_channel());
        let watch = {
            let made = Arc::clone(&made);
            move |stream: BoxStream<'static, Result<Value, Error>>| {
                let (made, dropped) = (Arc::clone(&made), dropped.clone());
                Streamed(Watched { stream: Box::pin(stream), made, dropped })
            }
        };
        let (counted, wide, failing, waiting, crashing) =
            (watch.clone(), watch.clone(), watch.clone(), watch.clone(), watch);
        let count = rpc(move |to: u64| {
            let stream = counted(stream::iter(0..to).map(|n| Ok(json!(n))).boxed());
            async move { stream }
        });
        let wide = rpc(move |length: usize, to: u64| {
            let stream = wide(stream::iter(0..to).map(move |_| Ok(json!("x".repeat(length)))).boxed());
            async move { stream }
        });
        let fail = rpc(move |at_once: bool| {
            let error = Error::new("tired", "enough").with_data(7);
            let items = stream::iter([Ok(json!(1)), Err(error.clone()), Ok(json!(2))]);
            let stream = failing(items.boxed());
            async move { if at_once { Err(error) } else { Ok(stream) } }
        });
        let wait = rpc(move |number: u64| {
            let first = stream::iter([Ok(json!(number))]);
            let stream = waiting(first.chain(stream::pending()).boxed());
            async move { stream }
        });
        let crash = rpc(move || {
            let stream = crashing(stream::iter([1]).map(|_| panic!("a secret")).boxed());
            async move { stream }
        });
        let site = Site::new()
            .endpoint("/count", count.arguments(["to"]).endpoint())
            .endpoint("/wide", wide.endpoint())
            .endpoint("/fail", fail.endpoint())
            .endpoint("/wait", wait.endpoint())
            .endpoint("/crash", crash.endpoint());
        Self { server: Server::start(site.into_router()).await, made, dropped: ends }
    }

    async fn socket(&self, kind: Kind, path: &str) -> Socket {
        Socket::open(kind, &self.server, path, "", "").await.expect("open").0
    }

    /// Waits until a stream is dropped, and returns how many items all have made by then.
    async fn dropped(&mut self) -> usize {
        tokio::time::timeout(PATIENCE, self.dropped.recv()).await.expect("in time").expect("a stream")
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }
}

async fn send(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).await;
}

async fn receive(socket: &mut Socket) -> Value {
    match socket.receive().await {
        Received::Message(Message::Text(bytes)) => serde_json::from_slice(&bytes).expect("JSON"),
        other => panic!("{other:?}"),
    }
}

fn cancelled(number: u64) -> Value {
    json!({ "error": { "code": "cancelled", "message": "the call was cancelled" }, "stream": number })
}

#[tokio::test]
async fn items_follow_the_answer_and_the_end_follows_them() {
    let mut world = World::start().await;
    for kind in KINDS {
        let mut socket = world.socket(kind, "/count").await;
        for (number, to) in [(0, 3), (1, 0)] {
            send(&mut socket, &format!("[{to}]")).await;
            assert_eq!(receive(&mut socket).await, json!({ "stream": number }), "{kind:?}");
            for n in 0..to {
                assert_eq!(receive(&mut socket).await, json!({ "item": n, "stream": number }), "{kind:?}");
            }
            assert_eq!(receive(&mut socket).await, json!({ "end": true, "stream": number }), "{kind:?}");
            world.dropped().await;
        }
        // A wrong argument is an answer as always.
        send(&mut socket, r#"["x"]"#).await;
        assert_eq!(receive(&mut socket).await["error"]["code"], "argument", "{kind:?}");
    }
}

#[tokio::test]
async fn an_error_ends_a_stream() {
    let mut world = World::start().await;
    let error = json!({ "code": "tired", "message": "enough", "data": 7 });
    for kind in KINDS {
        let mut socket = world.socket(kind, "/fail").await;
        send(&mut socket, "[false]").await;
        assert_eq!(receive(&mut socket).await, json!({ "stream": 0 }), "{kind:?}");
        assert_eq!(receive(&mut socket).await, json!({ "item": 1, "stream": 0 }), "{kind:?}");
        assert_eq!(receive(&mut socket).await, json!({ "error": error, "stream": 0 }), "{kind:?}");
        world.dropped().await;
        send(&mut socket, "[true]").await;
        assert_eq!(receive(&mut socket).await, json!({ "error": error }), "{kind:?}");
        world.dropped().await;

        let mut socket = world.socket(kind, "/crash").await;
        send(&mut socket, "[]").await;
        assert_eq!(receive(&mut socket).await, json!({ "stream": 0 }), "{kind:?}");
        let failure = receive(&mut socket).await;
        assert_eq!((&failure["error"]["code"], &failure["stream"]), (&json!("internal"), &json!(0)));
        assert!(!failure.to_string().contains("secret"), "{failure}");
        world.dropped().await;
    }
}

/// A page that reports nothing gets 256 items; then as many as it reports.
#[tokio::test]
async fn a_stream_makes_no_more_items_than_the_page_has_room_for() {
    let mut world = World::start().await;
    for kind in KINDS {
        let before = world.made();
        let mut socket = world.socket(kind, "/count").await;
        send(&mut socket, "[1000000]").await;
        assert_eq!(receive(&mut socket).await, json!({ "stream": 0 }), "{kind:?}");
        let mut next = 0;
        // The answer of the second call shows that no more items were on their way.
        for (taken, expected) in [(0, 256), (64, 64), (1, 1), (100_000, 256)] {
            send(&mut socket, &format!(r#"{{"stream":0,"taken":{taken}}}"#)).await;
            for _ in 0..expected {
                assert_eq!(receive(&mut socket).await, json!({ "item": next, "stream": 0 }), "{kind:?}");
                next += 1;
            }
            send(&mut socket, "{}").await;
            assert_eq!(receive(&mut socket).await["error"]["code"], "call", "{kind:?}");
        }
        assert_eq!(world.made() - before, next, "{kind:?}");
        // Messages about other streams have no effect on this one.
        send(&mut socket, r#"{"stream":7,"taken":64}"#).await;
        send(&mut socket, r#"{"cancel":0}"#).await;
        assert_eq!(receive(&mut socket).await, cancelled(0), "{kind:?}");
        assert_eq!(world.dropped().await - before, next, "{kind:?}");
    }
}

/// A page that takes its time for 100,000 items: neither side holds more than the window.
#[tokio::test]
async fn a_slow_page_costs_no_memory() {
    const ITEMS: usize = 100_000;
    let mut world = World::start().await;
    let mut socket = world.socket(Kind::Virtual, "/count").await;
    send(&mut socket, &format!("[{ITEMS}]")).await;
    assert_eq!(receive(&mut socket).await, json!({ "stream": 0 }));
    let mut most = 0;
    for n in 0..ITEMS {
        assert_eq!(receive(&mut socket).await, json!({ "item": n, "stream": 0 }));
        if n % 64 == 63 {
            // The function has made the items that the page has used, and the window.
            assert!(world.made() <= n + 256 + 1, "{} items were made when {n} were taken", world.made());
            most = most.max(world.server.stats.memory());
            send(&mut socket, r#"{"stream":0,"taken":64}"#).await;
        }
    }
    assert_eq!(receive(&mut socket).await, json!({ "end": true, "stream": 0 }));
    assert_eq!(world.dropped().await, ITEMS);
    assert!(most < 256 << 10, "the server held {most} bytes");
}

/// Large items count by their bytes: at most 1 MiB and one item are on their way.
#[tokio::test]
async fn large_items_are_bounded_by_their_bytes() {
    const LENGTH: usize = 300_000;
    let mut world = World::start().await;
    for kind in KINDS {
        let before = world.made();
        let mut socket = world.socket(kind, "/wide").await;
        send(&mut socket, &format!("[{LENGTH},100]")).await;
        assert_eq!(receive(&mut socket).await, json!({ "stream": 0 }), "{kind:?}");
        for _ in 0..4 {
            let item = receive(&mut socket).await;
            assert_eq!(item["item"].as_str().map(str::len), Some(LENGTH), "{kind:?}");
        }
        send(&mut socket, "{}").await;
        assert_eq!(receive(&mut socket).await["error"]["code"], "call", "{kind:?}");
        assert_eq!(world.made() - before, 4, "{kind:?}");
        send(&mut socket, r#"{"stream":0,"taken":1}"#).await;
        assert_eq!(receive(&mut socket).await["stream"], 0, "{kind:?}");
        socket.vanish();
        assert_eq!(world.dropped().await - before, 5, "{kind:?}");
    }
}

#[tokio::test]
async fn a_stream_is_dropped_when_it_is_cancelled_and_when_its_page_is_gone() {
    let mut world = World::start().await;
    for kind in KINDS {
        let mut socket = world.socket(kind, "/wait").await;
        for number in 0..2 {
            send(&mut socket, &format!("[{number}]")).await;
            assert_eq!(receive(&mut socket).await, json!({ "stream": number }), "{kind:?}");
            assert_eq!(receive(&mut socket).await, json!({ "item": number, "stream": number }), "{kind:?}");
        }
        send(&mut socket, r#"{"cancel":1}"#).await;
        assert_eq!(receive(&mut socket).await, cancelled(1), "{kind:?}");
        world.dropped().await;
        // A second time, there is nothing to cancel.
        send(&mut socket, r#"{"cancel":1}"#).await;
        send(&mut socket, "[2]").await;
        assert_eq!(receive(&mut socket).await, json!({ "stream": 2 }), "{kind:?}");
        assert_eq!(receive(&mut socket).await, json!({ "item": 2, "stream": 2 }), "{kind:?}");
        socket.close(Some(1000), "").await;
        assert!(matches!(socket.receive().await, Received::Close(Some(1000), _)), "{kind:?}");
        world.dropped().await;
        world.dropped().await;

        let mut socket = world.socket(kind, "/wait").await;
        send(&mut socket, "[0]").await;
        assert_eq!(receive(&mut socket).await, json!({ "stream": 0 }), "{kind:?}");
        socket.vanish();
        world.dropped().await;
    }
}

/// Streams take turns with each other and with calls, and one that the page does not take holds up none.
#[tokio::test]
async fn streams_of_a_socket_take_turns_and_are_bounded() {
    let mut world = World::start().await;
    for kind in KINDS {
        let mut socket = world.socket(kind, "/count").await;
        for to in [100_000, 100_000, 3] {
            send(&mut socket, &format!("[{to}]")).await;
        }
        let mut counts = [0, 0, 0];
        loop {
            let message = receive(&mut socket).await;
            let number = usize::try_from(message["stream"].as_u64().expect("a stream")).expect("small");
            if message["end"] == true {
                assert_eq!((number, counts[2]), (2, 3), "{kind:?}");
                break;
            }
            counts[number] += usize::from(message["item"].is_number());
        }
        assert!(counts[0] <= 256 && counts[1] <= 256, "{kind:?}: {counts:?}");
        world.dropped().await;
        socket.vanish();
        world.dropped().await;
        world.dropped().await;

        let mut socket = world.socket(kind, "/wait").await;
        for number in 0..257 {
            send(&mut socket, &format!("[{number}]")).await;
        }
        let mut began = 0;
        let refused = loop {
            let message = receive(&mut socket).await;
            if message["error"].is_object() {
                break message;
            }
            began += usize::from(message["item"].is_null());
        };
        assert_eq!((began, &refused["error"]["code"]), (256, &json!("busy")), "{kind:?}");
        socket.vanish();
        for _ in 0..256 {
            world.dropped().await;
        }
    }
}

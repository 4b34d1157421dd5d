//! Large messages: limits of handlers, frames of axum's extractor, and uploads that together are more than a link may hold.

mod common;

use axum::Router;
use axum::extract::ws as axum_ws;
use axum::extract::ws::Message as WsMessage;
use axum::routing::any;
use common::{KINDS, Kind, Link, Received, Server, Socket};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use manysocket_protocol::{Event, Message, Settings};
use manysocket_server::{Limits, Multiplexer, WebSocketUpgrade};

const MIB: usize = 1 << 20;

/// Answers each message with its length.
async fn measure<S>(mut socket: S)
where
    S: Stream<Item = Result<WsMessage, axum::Error>> + Sink<WsMessage, Error = axum::Error> + Unpin,
{
    while let Some(Ok(message)) = socket.next().await {
        if matches!(message, WsMessage::Text(_) | WsMessage::Binary(_)) {
            let length = message.into_data().len().to_string();
            let _ = socket.send(WsMessage::Text(length.into())).await;
        }
    }
}

fn app() -> Router {
    let ours = |limit: Option<usize>| {
        any(async move |upgrade: WebSocketUpgrade| {
            let upgrade = match limit {
                Some(limit) => upgrade.max_message_size(limit).max_frame_size(limit),
                None => upgrade,
            };
            upgrade.on_upgrade(measure)
        })
    };
    let axums = async |upgrade: axum_ws::WebSocketUpgrade| upgrade.on_upgrade(measure);
    Router::new()
        .route("/default", ours(None))
        .route("/three", ours(Some(3 * MIB)))
        .route("/twenty", ours(Some(20 * MIB)))
        .route("/axum", any(axums))
}

/// A server whose links take messages of 1 MiB, unless their handler takes larger ones, and hold 32 MiB.
async fn server() -> Server {
    let settings = Settings::new().max_message(MIB as u32).window_growth(MIB as u32);
    let limits = Limits::new().link_memory(32 * MIB);
    Server::with(Multiplexer::new("/multiplexer").settings(settings).limits(limits), app()).await
}

fn length(bytes: usize) -> Received {
    Received::Message(Message::text(bytes.to_string()))
}

#[tokio::test]
async fn a_handler_takes_what_its_own_limit_allows() {
    for kind in KINDS {
        let server = server().await;
        for (path, size) in
            [("/three", 3 * MIB), ("/three", MIB + 1), ("/twenty", 15 * MIB), ("/axum", 10 * MIB)]
        {
            let mut socket = Socket::open(kind, &server, path, "", "").await.expect("open").0;
            socket.send(Message::binary(vec![0; size])).await;
            assert_eq!(socket.receive().await, length(size), "{kind:?} {path}");
            socket.send(Message::text("x".repeat(size))).await;
            assert_eq!(socket.receive().await, length(size), "{kind:?} {path}");
        }
        let mut socket = Socket::open(kind, &server, "/three", "", "").await.expect("open").0;
        socket.send(Message::binary(vec![0; 3 * MIB + 1])).await;
        assert!(matches!(socket.receive().await, Received::Close(Some(1009), _)), "{kind:?}");
    }
}

/// A message that a link could not hold ends its socket, and no other.
#[tokio::test]
async fn half_of_a_links_memory_bounds_a_handlers_limit() {
    let server = server().await;
    let mut link = Link::dial(&server).await;
    let (large, other) = (link.open("/twenty").await, link.open("/default").await);
    link.endpoint.send(large, Message::binary(vec![0; 16 * MIB + 1]));
    let event = link.news().await;
    let Event::Closed { channel, close } = &event else { panic!("{event:?}") };
    assert_eq!((*channel, close.code), (large, Some(1009)));
    link.endpoint.close(large, close.code, "");
    link.endpoint.send(other, Message::text("x"));
    assert_eq!(link.news().await, Event::Message { channel: other, message: Message::text("1") });
}

/// axum's extractor takes frames of 16 MiB and messages of 64, which browsers cut into smaller frames.
#[tokio::test]
async fn axums_extractor_takes_messages_above_its_frame_limit() {
    let server = Server::start(app()).await;
    let mut socket = Socket::open(Kind::Virtual, &server, "/axum", "", "").await.expect("open").0;
    for size in [16 * MIB + 1, 40 * MIB] {
        socket.send(Message::binary(vec![0; size])).await;
        assert_eq!(socket.receive().await, length(size));
        socket.send(Message::text("x".repeat(size))).await;
        assert_eq!(socket.receive().await, length(size));
    }
}

#[tokio::test]
async fn uploads_beyond_a_links_memory_wait_for_each_other() {
    for path in ["/twenty", "/axum"] {
        let server = server().await;
        let mut link = Link::dial(&server).await;
        let mut channels = Vec::new();
        for _ in 0..8 {
            channels.push(link.open(path).await);
        }
        let echo = link.open("/default").await;
        for &channel in &channels {
            link.endpoint.send(channel, Message::binary(vec![0; 6 * MIB]));
        }
        link.endpoint.send(echo, Message::text("x"));
        let mut done = Vec::new();
        while done.len() < channels.len() {
            match link.news().await {
                Event::Message { channel, message } if channel == echo => {
                    assert_eq!(message, Message::text("1"));
                }
                Event::Message { channel, message } => {
                    assert_eq!(message, Message::text((6 * MIB).to_string()));
                    done.push(channel);
                }
                other => panic!("{other:?}"),
            }
        }
        done.sort_unstable();
        assert_eq!(done, channels, "{path}");
    }
}

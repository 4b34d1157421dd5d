//! Pings of handlers and upstreams: the page's browser answers them, over native and virtual sockets alike.

mod common;

use std::sync::Arc;

use axum::Router;
use axum::extract::ws as axum_ws;
use axum::extract::ws::Message as WsMessage;
use axum::routing::any;
use common::upstream::{accepted, pass, upstream};
use common::{KINDS, Kind, Link, PATIENCE, Server, Socket, told};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use manysocket_protocol::{Event, Message};
use manysocket_server::{Gateway, WebSocketUpgrade};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite as ts;

type Heard = mpsc::UnboundedReceiver<String>;

/// Sends the pings that the test asks for, and reports pongs and texts.
async fn script<S>(mut socket: S, tell: mpsc::UnboundedSender<String>)
where
    S: Stream<Item = Result<WsMessage, axum::Error>> + Sink<WsMessage, Error = axum::Error> + Unpin,
{
    while let Some(Ok(message)) = socket.next().await {
        match message {
            WsMessage::Text(text) => match text.split_once(' ') {
                Some(("ping", payload)) => {
                    let sent = socket.send(WsMessage::Ping(payload.to_owned().into())).await;
                    if sent.is_err() {
                        let _ = tell.send("error".into());
                    }
                }
                // More than the credit of a channel, so that the ping must wait for the page to read.
                Some(("fill", payload)) => {
                    for size in [64 << 10, 64 << 10, 64 << 10, 64 << 10, 1000] {
                        socket.send(WsMessage::Binary(vec![1; size].into())).await.expect("open");
                    }
                    socket.send(WsMessage::Ping(payload.to_owned().into())).await.expect("open");
                }
                _ => drop(tell.send(text.to_string())),
            },
            WsMessage::Pong(payload) => {
                let _ = tell.send(format!("pong {}", String::from_utf8_lossy(&payload)));
            }
            _ => {}
        }
    }
}

/// A server with both forms of the handler, and a gateway to an upstream that does the same.
async fn server() -> (Server, Heard) {
    let (ours, heard) = mpsc::unbounded_channel();
    let (axums, theirs) = (ours.clone(), ours.clone());
    let upstream = upstream(move |stream, head| {
        let tell = theirs.clone();
        async move {
            let mut wire = accepted(stream, &head).await;
            while let Some(Ok(message)) = wire.next().await {
                match message {
                    ts::Message::Text(text) => match text.split_once(' ') {
                        Some(("ping", payload)) => {
                            let ping = ts::Message::Ping(payload.to_owned().into());
                            if wire.send(ping).await.is_err() {
                                let _ = tell.send("error".into());
                            }
                        }
                        Some(("fill", payload)) => {
                            for size in [64 << 10, 64 << 10, 64 << 10, 64 << 10, 1000] {
                                wire.send(ts::Message::binary(vec![1; size])).await.expect("open");
                            }
                            wire.send(ts::Message::Ping(payload.to_owned().into())).await.expect("open");
                        }
                        _ => drop(tell.send(text.to_string())),
                    },
                    ts::Message::Pong(payload) => {
                        let _ = tell.send(format!("pong {}", String::from_utf8_lossy(&payload)));
                    }
                    _ => {}
                }
            }
        }
    })
    .await;
    let app = Router::new()
        .route(
            "/ours",
            any(async move |upgrade: WebSocketUpgrade| {
                upgrade.on_upgrade(async move |socket| script(socket, ours).await)
            }),
        )
        .route(
            "/axums",
            any(async move |upgrade: axum_ws::WebSocketUpgrade| {
                upgrade.on_upgrade(async move |socket| script(socket, axums).await)
            }),
        );
    let gateway = Gateway::new("/up", &format!("ws://{upstream}")).expect("a gateway");
    (Server::start(gateway.mount(app)).await, heard)
}

/// Runs a test for each way to come, and each kind of handler.
async fn everywhere(test: impl AsyncFn(Kind, &Server, &str, &mut Heard)) {
    for kind in KINDS {
        for path in ["/ours", "/axums", "/up"] {
            eprintln!("{kind:?} socket, {path}");
            let (server, mut heard) = server().await;
            test(kind, &server, path, &mut heard).await;
        }
    }
}

async fn open(kind: Kind, server: &Server, path: &str) -> Socket {
    Socket::open(kind, server, path, "", "").await.expect("an open socket").0
}

/// Returns the handler's report while the page reads. No data arrives meanwhile.
async fn told_to_reader(socket: &mut Socket, heard: &mut Heard) -> String {
    tokio::select! {
        word = told(heard) => word,
        received = socket.receive() => panic!("{received:?}"),
    }
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload() {
    everywhere(async |kind, server, path, heard| {
        let mut socket = open(kind, server, path).await;
        for payload in ["", "payload", "grüße", &"x".repeat(125)] {
            socket.send(Message::text(format!("ping {payload}"))).await;
            assert_eq!(told_to_reader(&mut socket, heard).await, format!("pong {payload}"));
        }
        // Each ping has its pong, in order.
        for payload in ["a", "b", "c"] {
            socket.send(Message::text(format!("ping {payload}"))).await;
        }
        for payload in ["a", "b", "c"] {
            assert_eq!(told_to_reader(&mut socket, heard).await, format!("pong {payload}"));
        }
    })
    .await;
}

/// A page that reads nothing answers nothing, whatever it sends: its machine may be gone.
#[tokio::test]
async fn a_page_that_does_not_read_answers_no_ping() {
    everywhere(async |kind, server, path, heard| {
        let mut socket = open(kind, server, path).await;
        socket.send(Message::text("ping early")).await;
        socket.send(Message::text("unread")).await;
        assert_eq!(told(heard).await, "unread");
        assert_eq!(told_to_reader(&mut socket, heard).await, "pong early");
    })
    .await;
}

#[tokio::test]
async fn a_pong_follows_the_data_before_its_ping() {
    for path in ["/ours", "/axums", "/up"] {
        let (server, mut heard) = server().await;
        let mut link = Link::dial(&server).await;
        let channel = link.open(path).await;
        link.endpoint.send(channel, Message::text("fill behind"));
        // The link is read; the page's handlers do not run, so the credit does not return.
        let mut units = 0;
        for _ in 0..3 {
            let Event::Message { message, .. } = link.news().await else { panic!() };
            units += message.units();
        }
        link.endpoint.consumed(channel, 3, units);
        let mut left = 2;
        let word = loop {
            tokio::select! {
                word = told(&mut heard) => if word.starts_with("pong") { break word },
                event = link.news() => match event {
                    Event::Message { message, .. } => {
                        link.endpoint.consumed(channel, 1, message.units());
                        left -= 1;
                    }
                    other => panic!("{other:?}"),
                },
            }
        };
        assert_eq!((word.as_str(), left), ("pong behind", 0), "{path}");
    }
}

#[tokio::test]
async fn a_ping_that_no_frame_can_hold_is_an_error() {
    for kind in KINDS {
        let (server, mut heard) = server().await;
        let mut socket = open(kind, &server, "/ours").await;
        socket.send(Message::text(format!("ping {}", "x".repeat(126)))).await;
        assert_eq!(told(&mut heard).await, "error", "{kind:?}");
    }
}

/// Several sockets of one link ping at once: each gets its own payload.
#[tokio::test]
async fn sockets_of_one_link_share_pings_and_not_pongs() {
    let (server, mut heard) = server().await;
    let mut link = Link::dial(&server).await;
    let channels = [link.open("/ours").await, link.open("/axums").await, link.open("/up").await];
    for channel in channels {
        link.endpoint.send(channel, Message::text(format!("ping {channel}")));
    }
    let mut pongs = Vec::new();
    while pongs.len() < channels.len() {
        tokio::select! {
            word = told(&mut heard) => pongs.push(word),
            event = link.event() => assert!(matches!(event, Ok(Event::Drained { .. }))),
        }
    }
    pongs.sort();
    assert_eq!(pongs, channels.map(|channel| format!("pong {channel}")));
}

/// Reads a link's connection up to the next ping of RFC 6455. The library answers at the next flush.
async fn next_ping(link: &mut Link) {
    loop {
        match timeout(PATIENCE, link.wire.next()).await.expect("a ping in time") {
            Some(Ok(ts::Message::Ping(_))) => return,
            // Protocol PINGs, which only a page that runs can answer.
            Some(Ok(ts::Message::Binary(_))) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A browser answers the server's pings while its page computes, shows a dialog or stands at a breakpoint.
#[tokio::test]
async fn a_page_whose_browser_answers_keeps_its_link() {
    let (tell, mut heard) = mpsc::unbounded_channel();
    let ask = Arc::new(Notify::new());
    let asked = Arc::clone(&ask);
    let handler = async move |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |mut socket| {
            loop {
                tokio::select! {
                    () = asked.notified() => socket.send(WsMessage::Ping("x".into())).await.expect("open"),
                    next = socket.recv() => match next {
                        Some(Ok(WsMessage::Pong(_))) => drop(tell.send("pong")),
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => break,
                    },
                }
            }
        })
    };
    let server = Server::start(Router::new().route("/", any(handler))).await;
    let mut link = Link::dial(&server).await;
    link.open("/").await;
    // Longer than a link lives of which nothing is heard.
    for _ in 0..3 {
        pass(51).await;
        next_ping(&mut link).await;
        // The library sends its answer with this. From now on the server hears of the page again.
        link.wire.flush().await.expect("a server");
        // At most one ping has no answer, so the next one means that the server has the pong.
        ask.notify_one();
        next_ping(&mut link).await;
        link.wire.flush().await.expect("a server");
        assert_eq!(told(&mut heard).await, "pong");
    }
}

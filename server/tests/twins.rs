//! Each handler answers native and virtual sockets alike: every test runs over both, with the same expectations.
//! Handlers come in two forms, with this crate's extractor and with axum's own.

mod common;

use axum::extract::ws as axum_ws;
use axum::extract::{Path, Query, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Router, extract::ws::Message as WsMessage};
use common::{KINDS, Kind, Link, Received, Server, Socket, told};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use manysocket_protocol::Message;
use manysocket_server::WebSocketUpgrade;
use std::collections::HashMap;
use std::net::SocketAddr;
use tokio::sync::mpsc;

/// The work of a handler with its socket, of either type.
async fn script<S>(mut socket: S, path: String, tell: mpsc::UnboundedSender<String>)
where
    S: Stream<Item = Result<WsMessage, axum::Error>> + Sink<WsMessage, Error = axum::Error> + Unpin,
{
    let text = |text: &str| WsMessage::Text(text.into());
    match path.as_str() {
        "greet" => {
            for n in 0..5 {
                socket.send(text(&format!("greeting {n}"))).await.expect("open");
            }
        }
        "close" => {
            let frame = axum_ws::CloseFrame { code: 4321, reason: "that is äll".into() };
            socket.send(text("last")).await.expect("open");
            socket.send(WsMessage::Close(Some(frame))).await.expect("open");
        }
        "close-plain" => socket.send(WsMessage::Close(None)).await.expect("open"),
        "drop" => {
            socket.send(text("last")).await.expect("open");
            return;
        }
        _ => {}
    }
    loop {
        match socket.next().await {
            Some(Ok(WsMessage::Close(frame))) => {
                let frame = frame.map(|frame| format!("{} {}", frame.code, frame.reason));
                let _ = tell.send(format!("close {frame:?}"));
            }
            Some(Ok(message)) => {
                if path != "mute" && socket.send(message).await.is_err() {
                    let _ = tell.send("send failed".into());
                }
            }
            Some(Err(_)) => drop(tell.send("error".into())),
            None => return drop(tell.send("end".into())),
        }
    }
}

/// An application with both forms of every handler, and the reports of its handlers.
fn app() -> (Router, mpsc::UnboundedReceiver<String>) {
    let (ours, heard) = mpsc::unbounded_channel();
    let axums = ours.clone();
    let secret = Router::new()
        .route("/ours", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(async |_| {})))
        .route("/axums", any(async |upgrade: axum_ws::WebSocketUpgrade| upgrade.on_upgrade(async |_| {})))
        .layer(middleware::from_fn(only_with_session));
    let app = Router::new()
        .route(
            "/ours/{path}",
            any(async move |Path(path): Path<String>, upgrade: WebSocketUpgrade| {
                upgrade.on_upgrade(async move |socket| script(socket, path, ours).await)
            }),
        )
        .route(
            "/axums/{path}",
            any(async move |Path(path): Path<String>, upgrade: axum_ws::WebSocketUpgrade| {
                upgrade.on_upgrade(async move |socket| script(socket, path, axums).await)
            }),
        )
        .route("/about/{name}", any(about))
        .route("/mirror", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(mirror)))
        .route("/plain", any(async || "not a WebSocket"))
        .nest("/secret", secret);
    (app, heard)
}

/// The shortest echo: sends everything back, also the close, and ends when that fails.
async fn mirror(mut socket: manysocket_server::WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn only_with_session(request: Request, next: Next) -> Response {
    match request.headers().get(header::COOKIE) {
        Some(cookie) if cookie == "session=good" => next.run(request).await,
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}

/// Reports the handler's view of the request.
async fn about(
    Path(name): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    axum::extract::ConnectInfo(remote): axum::extract::ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let cookie =
        headers.get(header::COOKIE).and_then(|cookie| cookie.to_str().ok()).unwrap_or("none").to_owned();
    let key = headers.contains_key(header::SEC_WEBSOCKET_KEY);
    let line = format!("{name} {:?} {} {cookie} {key}", query.get("q"), remote.ip());
    upgrade.protocols(["v2", "v1"]).on_upgrade(async move |mut socket| {
        let _ = socket.send(WsMessage::Text(line.into())).await;
        while let Some(Ok(_)) = socket.recv().await {}
    })
}

/// Runs a test with each way to come and each form of handler.
async fn everywhere(test: impl AsyncFn(Kind, &str, &Server, &mut mpsc::UnboundedReceiver<String>)) {
    for kind in KINDS {
        for form in ["ours", "axums"] {
            eprintln!("{kind:?} socket, handler with {form} extractor");
            let (app, mut heard) = app();
            let server = Server::start(app).await;
            test(kind, form, &server, &mut heard).await;
        }
    }
}

async fn open(kind: Kind, form: &str, server: &Server, path: &str) -> Socket {
    Socket::open(kind, server, &format!("/{form}/{path}"), "", "").await.expect("an open socket").0
}

fn text(text: &str) -> Received {
    Received::Message(Message::text(text))
}

#[tokio::test]
async fn messages_come_back_as_they_went() {
    everywhere(async |kind, form, server, _| {
        let mut socket = open(kind, form, server, "echo").await;
        let messages = [
            Message::text(""),
            Message::text("plain"),
            Message::binary(vec![]),
            Message::text("é😀".repeat(50)),
            Message::binary(vec![0, 255, 128]),
            Message::binary(vec![7; 5000]),
            Message::text("ünï".repeat(5000)),
            Message::binary(vec![9; 1_000_000]),
            Message::text("x".repeat(1_000_000)),
        ];
        for message in messages.iter().cycle().take(50) {
            socket.send(message.clone()).await;
            assert!(socket.receive().await == Received::Message(message.clone()));
        }
    })
    .await;
}

#[tokio::test]
async fn a_greeting_comes_right_after_the_open() {
    everywhere(async |kind, form, server, _| {
        let mut socket = open(kind, form, server, "greet").await;
        for n in 0..5 {
            assert_eq!(socket.receive().await, text(&format!("greeting {n}")));
        }
    })
    .await;
}

#[tokio::test]
async fn the_page_closes() {
    everywhere(async |kind, form, server, heard| {
        for (code, reason, expected) in [
            (Some(1000), "", "close Some(\"1000 \")"),
            (Some(3999), "grüße", "close Some(\"3999 grüße\")"),
            (None, "", "close None"),
        ] {
            let mut socket = open(kind, form, server, "echo").await;
            socket.send(Message::text("before")).await;
            assert_eq!(socket.receive().await, text("before"));
            socket.close(code, reason).await;
            assert_eq!(socket.receive().await, Received::Close(code, reason.into()));
            assert_eq!(told(heard).await, expected);
            assert_eq!(told(heard).await, "end");
        }
    })
    .await;
}

/// A native connection's answer to a close waits for the next time that the handler reads, and there may be none.
#[tokio::test]
async fn the_page_closes_and_the_handler_reads_no_further() {
    for kind in KINDS {
        let server = Server::start(app().0).await;
        for (code, reason) in [(Some(1000), "bye"), (None, "")] {
            let opened = Socket::open(kind, &server, "/mirror", "", "").await;
            let mut socket = opened.expect("an open socket").0;
            socket.send(Message::text("before")).await;
            assert_eq!(socket.receive().await, text("before"));
            socket.close(code, reason).await;
            assert_eq!(socket.receive().await, Received::Close(code, reason.into()), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn the_handler_closes() {
    everywhere(async |kind, form, server, heard| {
        let mut socket = open(kind, form, server, "close").await;
        assert_eq!(socket.receive().await, text("last"));
        assert_eq!(socket.receive().await, Received::Close(Some(4321), "that is äll".into()));
        // The page's answer, then the end.
        let answer = told(heard).await;
        assert!(answer.starts_with("close Some(\"4321"), "{answer}");
        assert_eq!(told(heard).await, "end");

        let mut socket = open(kind, form, server, "close-plain").await;
        assert_eq!(socket.receive().await, Received::Close(None, String::new()));
    })
    .await;
}

#[tokio::test]
async fn the_handler_drops_its_socket() {
    everywhere(async |kind, form, server, _| {
        let mut socket = open(kind, form, server, "drop").await;
        assert_eq!(socket.receive().await, text("last"));
        assert_eq!(socket.receive().await, Received::Lost);
    })
    .await;
}

/// A browser fails a connection on which the server sends a code that no Close frame may carry (RFC 6455 §7.4.1).
#[tokio::test]
async fn the_handler_fails_its_socket() {
    let ours = async |Path(code): Path<u16>, upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |mut socket| {
            socket.send(WsMessage::Text("last".into())).await.expect("open");
            if code == 0 {
                return socket.fail();
            }
            let frame = axum_ws::CloseFrame { code, reason: "".into() };
            socket.send(WsMessage::Close(Some(frame))).await.expect("open");
        })
    };
    let axums = async |Path(code): Path<u16>, upgrade: axum_ws::WebSocketUpgrade| {
        upgrade.on_upgrade(async move |mut socket| {
            socket.send(WsMessage::Text("last".into())).await.expect("open");
            let frame = axum_ws::CloseFrame { code, reason: "".into() };
            socket.send(WsMessage::Close(Some(frame))).await.expect("open");
        })
    };
    let app = Router::new().route("/ours/{code}", any(ours)).route("/axums/{code}", any(axums));
    let server = Server::start(app).await;
    for kind in KINDS {
        for path in
            ["ours/0", "ours/1", "ours/999", "ours/1005", "ours/1006", "ours/1015", "ours/2999", "ours/5000"]
        {
            let mut socket = Socket::open(kind, &server, &format!("/{path}"), "", "").await.expect("open").0;
            assert_eq!(socket.receive().await, text("last"), "{kind:?} {path}");
            assert_eq!(socket.receive().await, Received::Failed, "{kind:?} {path}");
        }
        for path in ["axums/999", "axums/1006", "axums/5000"] {
            let mut socket = Socket::open(kind, &server, &format!("/{path}"), "", "").await.expect("open").0;
            assert_eq!(socket.receive().await, text("last"), "{kind:?} {path}");
            assert_eq!(socket.receive().await, Received::Failed, "{kind:?} {path}");
        }
    }
}

#[tokio::test]
async fn the_page_vanishes() {
    everywhere(async |kind, form, server, heard| {
        let mut socket = open(kind, form, server, "echo").await;
        socket.send(Message::text("x")).await;
        assert_eq!(socket.receive().await, text("x"));
        socket.vanish();
        assert_eq!(told(heard).await, "error");
        assert_eq!(told(heard).await, "end");
    })
    .await;
}

#[tokio::test]
async fn the_page_leaves() {
    everywhere(async |kind, form, server, heard| {
        let mut socket = open(kind, form, server, "echo").await;
        socket.send(Message::text("x")).await;
        assert_eq!(socket.receive().await, text("x"));
        // Its last message arrives, however the handler answers.
        socket.send(Message::text("last")).await;
        socket.leave(1001).await;
        assert_eq!(told(heard).await, "close Some(\"1001 \")");
        assert_eq!(told(heard).await, "end");
    })
    .await;
}

/// A link's client closes it with 1000 or 1001 if nothing is wrong (docs/protocol.md §7).
#[tokio::test]
async fn a_link_that_is_closed_in_good_order_closes_its_sockets() {
    for (code, expected) in
        [(1000, "close Some(\"1001 \")"), (1001, "close Some(\"1001 \")"), (4002, "error")]
    {
        for form in ["ours", "axums"] {
            let (app, mut heard) = app();
            let server = Server::start(app).await;
            let mut link = Link::dial(&server).await;
            let (first, second) = (format!("/{form}/echo"), format!("/{form}/mute"));
            let channels = [link.open(&first).await, link.open(&second).await];
            link.endpoint.send(channels[1], Message::text("unread"));
            link.flush().await;
            let mut socket = Socket::Virtual(Box::new(link), channels[0]);
            socket.leave(code).await;
            let mut words = Vec::new();
            for _ in 0..4 {
                words.push(told(&mut heard).await);
            }
            words.sort();
            let mut all = [expected, expected, "end", "end"];
            all.sort_unstable();
            assert_eq!(words, all, "{code} {form}");
        }
    }
}

#[tokio::test]
async fn layers_and_routes_refuse_alike() {
    everywhere(async |kind, form, server, _| {
        let attempt = async |path: &str, cookie: &str| {
            Socket::open(kind, server, path, cookie, "").await.map(|_| ()).err()
        };
        assert_eq!(attempt(&format!("/secret/{form}"), "session=bad").await, Some(401));
        assert_eq!(attempt(&format!("/secret/{form}"), "session=good").await, None);
        assert_eq!(attempt("/nothing/here", "").await, Some(404));
        assert_eq!(attempt("/plain", "").await, Some(200));
    })
    .await;
}

#[tokio::test]
async fn handlers_know_the_same_of_their_request() {
    for kind in KINDS {
        let server = Server::start(app().0).await;
        let (mut socket, protocol) =
            Socket::open(kind, &server, "/about/blue%20room?q=a%26b", "user=ada", "v1, v2")
                .await
                .expect("open");
        assert_eq!(socket.receive().await, text("blue room Some(\"a&b\") 127.0.0.1 user=ada true"));
        if kind == Kind::Virtual {
            assert_eq!(protocol, "v2", "the server's order of preference");
        }
    }
}

/// Only for virtual opens: hyper upgrades a native connection whatever becomes of its 101.
#[tokio::test]
async fn a_failed_upgrade_is_reported() {
    let (ours, mut heard) = mpsc::unbounded_channel();
    let axums = ours.clone();
    let app = Router::new()
        .route(
            "/ours",
            any(async move |upgrade: WebSocketUpgrade| {
                let report = move |_: axum::Error| ours.send("ours").unwrap_or_default();
                upgrade.on_failed_upgrade(report).on_upgrade(async |_| panic!("never open"))
            }),
        )
        .route(
            "/axums",
            any(async move |upgrade: axum_ws::WebSocketUpgrade| {
                let report = move |_: axum::Error| axums.send("axums").unwrap_or_default();
                upgrade.on_failed_upgrade(report).on_upgrade(async |_| panic!("never open"))
            }),
        )
        // A layer that changes its mind about the response.
        .layer(middleware::map_response(async |_: Response| StatusCode::FORBIDDEN));
    let server = Server::start(app).await;
    for form in ["ours", "axums"] {
        let refused =
            Socket::open(Kind::Virtual, &server, &format!("/{form}"), "", "").await.map(|_| ()).err();
        assert_eq!(refused, Some(403));
        assert_eq!(told(&mut heard).await, form);
    }
}

#[tokio::test]
async fn a_message_past_the_handlers_limit_is_an_error() {
    for kind in KINDS {
        let (tell, mut heard) = mpsc::unbounded_channel();
        let handler = async move |upgrade: WebSocketUpgrade| {
            let tell = tell.clone();
            upgrade.max_message_size(1000).on_upgrade(async move |mut socket| {
                while let Some(message) = socket.recv().await {
                    let _ = tell.send(message.is_ok());
                    if message.is_err() {
                        return;
                    }
                }
            })
        };
        let server = Server::start(Router::new().route("/", any(handler))).await;
        let mut socket = Socket::open(kind, &server, "/", "", "").await.expect("open").0;
        socket.send(Message::binary(vec![0; 1000])).await;
        socket.send(Message::binary(vec![0; 1001])).await;
        assert_eq!((told(&mut heard).await, told(&mut heard).await), (true, false), "{kind:?}");
    }
}

#[tokio::test]
async fn a_long_token_may_stand_in_the_subprotocols_or_the_query() {
    let (app, _heard) = app();
    let server = Server::start(app).await;
    for kind in KINDS {
        for length in [5_000, 17 << 10, 31 << 10] {
            let token = "t".repeat(length);
            let opened = Socket::open(kind, &server, "/about/x", "", &format!("v2, {token}")).await;
            assert!(opened.is_ok(), "{kind:?} subprotocols of {length}");
            let opened = Socket::open(kind, &server, &format!("/about/x?q={token}"), "", "").await;
            assert!(opened.is_ok(), "{kind:?} query of {length}");
        }
    }
}

//! The client for Rust programs, against a real server.
#![cfg(not(target_arch = "wasm32"))]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message as ServerMessage};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::any;
use futures_util::{SinkExt, StreamExt, future};
use manysocket::{Error, Handle, JsonWebSocket, Message, MultiWebSocket, RelativeWebSocket, WebSocket};
use manysocket_protocol::client::{Failure, ReadyState};
use manysocket_server::{Limits, Multiplexer, Stats, WebSocketUpgrade, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Turns a hang into a failure; much longer than any test takes.
const HANG: Duration = Duration::from_secs(60);

struct Server {
    address: SocketAddr,
    stats: Stats,
    shutdown: CancellationToken,
}

impl Server {
    async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let app = Router::new()
            .route("/echo", any(echo))
            .route(
                "/chat",
                any(async |upgrade: WebSocketUpgrade| upgrade.protocols(["chat.v2"]).on_upgrade(drain)),
            )
            .route("/closes", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(closes)))
            .route("/deaf", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(deaf)))
            .route("/count", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(count)))
            .route("/authorization", any(authorization))
            .route("/secret", any(async || StatusCode::UNAUTHORIZED));
        let shutdown = CancellationToken::new();
        let multiplexer = Multiplexer::new("/multiplexer").limits(limits);
        let stats = multiplexer.stats();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = serve(listener, multiplexer.serve(app));
        tokio::spawn(server.with_graceful_shutdown(shutdown.clone().cancelled_owned()).into_future());
        Self { address, stats, shutdown }
    }

    fn client(&self) -> MultiWebSocket {
        MultiWebSocket::new(&format!("ws://{}/multiplexer", self.address)).expect("a URL")
    }
}

async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

/// Sends the header `Authorization`, its bytes as characters.
async fn authorization(headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let value = headers.get(header::AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
    let text: String = value.iter().copied().map(char::from).collect();
    upgrade.on_upgrade(async move |mut socket| {
        let _ = socket.send(text.into()).await;
        drain(socket).await;
    })
}

async fn drain(mut socket: manysocket_server::WebSocket) {
    while let Some(Ok(_)) = socket.recv().await {}
}

async fn closes(mut socket: manysocket_server::WebSocket) {
    let _ = socket.send("last words".into()).await;
    let close = CloseFrame { code: 4001, reason: "enough".into() };
    let _ = socket.send(ServerMessage::Close(Some(close))).await;
    drain(socket).await;
}

/// Reads nothing.
async fn deaf(socket: manysocket_server::WebSocket) {
    future::pending::<()>().await;
    drop(socket);
}

/// Sends numbers as fast as they are taken, until the client closes.
async fn count(mut socket: manysocket_server::WebSocket) {
    for number in 0.. {
        if socket.send(ServerMessage::Text(format!("{number:0>1000}").into())).await.is_err() {
            return drain(socket).await;
        }
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, future).await.expect("no hang")
}

async fn next(socket: &mut WebSocket) -> Option<Result<Message, Error>> {
    in_time(socket.next()).await
}

#[test]
fn sockets_may_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<WebSocket>();
    crosses::<Handle>();
    crosses::<MultiWebSocket>();
    crosses::<Error>();
}

#[tokio::test]
async fn messages_of_each_kind_and_size_return_as_they_were_sent() {
    let server = Server::start().await;
    let mut socket = server.client().open("/echo").expect("a socket");
    assert_eq!(socket.ready_state(), ReadyState::Connecting);
    let messages = [
        Message::from(""),
        Message::from("hello 🦀 \u{0}"),
        Message::from(vec![]),
        Message::from(vec![0, 255, 7]),
        Message::from("é".repeat(700_000)),
        Message::from(vec![42; 3 << 20]),
        Message::from("last"),
    ];
    for message in &messages {
        in_time(socket.send(message.clone())).await.expect("sent");
        assert_eq!(next(&mut socket).await, Some(Ok(message.clone())));
    }
    assert_eq!(socket.ready_state(), ReadyState::Open);
    in_time(SinkExt::close(&mut socket)).await.expect("closed");
    let close = in_time(socket.closed()).await;
    assert_eq!((close.code, close.was_clean), (1005, true));
    assert_eq!(next(&mut socket).await, None);
    assert_eq!(in_time(socket.send("too late".into())).await, Err(Error::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sockets_share_one_link() {
    let server = Server::start().await;
    let client = server.client();
    let sockets = (0..1000).map(|number| {
        let mut socket = client.open("/echo").expect("a socket");
        tokio::spawn(async move {
            for round in 0..10 {
                let text = Message::Text(format!("{number} {round}"));
                socket.send(text.clone()).await.expect("sent");
                assert_eq!(next(&mut socket).await, Some(Ok(text)));
            }
        })
    });
    for task in sockets.collect::<Vec<_>>() {
        in_time(task).await.expect("an echo of each message");
    }
    assert_eq!(server.stats.totals().links_opened, 1);
    assert_eq!(server.stats.totals().channels_opened, 1000);
}

#[tokio::test]
async fn the_server_chooses_a_subprotocol() {
    let server = Server::start().await;
    let client = server.client();
    let socket = client.open_with("/chat", &["chat.v1", "chat.v2"], &HeaderMap::new()).expect("a socket");
    assert_eq!(in_time(socket.opened()).await, Ok("chat.v2".into()));
    assert_eq!(socket.protocol(), "chat.v2");
    // RFC 6455 §4.1: a server that chooses none of those offered is no partner.
    let mut socket = client.open_with("/echo", &["chat.v1"], &HeaderMap::new()).expect("a socket");
    let failed = Error::Failed(Failure::Subprotocol { chosen: String::new() });
    assert_eq!(in_time(socket.opened()).await, Err(failed.clone()));
    assert_eq!(next(&mut socket).await, Some(Err(failed)));
    assert_eq!(next(&mut socket).await, None);
    for wrong in [&["a b"][..], &[""], &["a", "a"], &["é"]] {
        assert!(
            matches!(client.open_with("/chat", wrong, &HeaderMap::new()), Err(Error::Protocol(_))),
            "{wrong:?}"
        );
    }
}

#[tokio::test]
async fn a_refusal_is_an_error_with_its_status() {
    let server = Server::start().await;
    for (path, expected) in [("/secret", 401), ("/nowhere", 404)] {
        let mut socket = server.client().open(path).expect("a socket");
        let Some(Err(Error::Failed(Failure::Refused { status, .. }))) = next(&mut socket).await else {
            panic!("{path}: not refused");
        };
        assert_eq!(status, expected);
        assert!(matches!(
            in_time(socket.send("x".into())).await,
            Err(Error::Failed(Failure::Refused { .. }))
        ));
        assert_eq!(in_time(socket.closed()).await.code, 1006);
    }
}

#[tokio::test]
async fn the_servers_close_comes_behind_its_messages() {
    let server = Server::start().await;
    let mut socket = server.client().open("/closes").expect("a socket");
    let close = in_time(socket.closed()).await;
    assert_eq!((close.code, close.reason.as_str(), close.was_clean), (4001, "enough", true));
    assert_eq!(next(&mut socket).await, Some(Ok("last words".into())));
    assert_eq!(next(&mut socket).await, None);
}

#[tokio::test]
async fn a_handle_closes_a_socket_that_was_split() {
    let server = Server::start().await;
    let socket = server.client().open("/echo").expect("a socket");
    let handle = socket.handle();
    let (mut sink, mut stream) = socket.split();
    in_time(sink.send("hello".into())).await.expect("sent");
    assert_eq!(in_time(stream.next()).await, Some(Ok("hello".into())));
    assert!(matches!(handle.close(Some(1001), ""), Err(Error::CloseCode(_))));
    assert!(matches!(handle.close(Some(3000), &"x".repeat(124)), Err(Error::CloseCode(_))));
    handle.close(Some(3000), "bye").expect("a close code");
    let close = in_time(handle.closed()).await;
    assert_eq!((close.code, close.was_clean), (3000, true));
    assert_eq!(in_time(stream.next()).await, None);
    assert_eq!(handle.ready_state(), ReadyState::Closed);
}

#[tokio::test]
async fn a_close_passes_a_server_that_never_stops_sending() {
    let server = Server::start().await;
    let mut socket = server.client().open("/count").expect("a socket");
    assert!(matches!(next(&mut socket).await, Some(Ok(_))));
    // The server has used up its credit: without more of it, its Close would wait behind its messages.
    socket.close(Some(1000), "").expect("a close code");
    assert!(in_time(socket.closed()).await.was_clean);
}

#[tokio::test]
async fn a_sink_waits_for_a_server_that_does_not_read() {
    let server = Server::start().await;
    let client = server.client();
    let mut socket = client.open("/deaf").expect("a socket");
    in_time(socket.opened()).await.expect("open");
    let block = Message::from(vec![0; 64 * 1024]);
    let mut fed = 0;
    // The server's window is 256 KiB, and the sink's buffer 64 KiB more.
    while socket.buffered_amount() < 64 * 1024 {
        in_time(socket.feed(block.clone())).await.expect("a socket that is open");
        fed += 1;
        assert!(fed < 32, "{fed} blocks of 64 KiB");
        // Meanwhile the link sends as much as it may: an echo comes after it.
        let mut other = client.open("/echo").expect("a socket");
        in_time(other.send("x".into())).await.expect("sent");
        assert_eq!(next(&mut other).await, Some(Ok("x".into())));
    }
    assert!(futures_util::poll!(std::pin::pin!(socket.feed(block))).is_pending());
    assert!(socket.buffered_amount() >= 64 * 1024);
}

#[tokio::test]
async fn a_lost_link_is_an_error_and_the_next_open_dials_anew() {
    // The server gives a link without channels up at once: it looks like one that crashes in between.
    let server = Server::start().await;
    let client = server.client();
    let mut socket = client.open("/echo").expect("a socket");
    in_time(socket.opened()).await.expect("open");
    server.shutdown.cancel();
    // 1001 of a server that shuts down is a clean end.
    let close = in_time(socket.closed()).await;
    assert_eq!(close.code, 1001);
    assert_eq!(next(&mut socket).await, None);
    // Nobody is there any more.
    let mut socket = client.open("/echo").expect("a socket");
    assert_eq!(next(&mut socket).await, Some(Err(Error::Failed(Failure::Link))));
    assert_eq!(next(&mut socket).await, None);

    // A connection that is cut.
    let server = Server::start().await;
    let (relay, cut) = relay(server.address).await;
    let client = MultiWebSocket::new(&format!("ws://{relay}/multiplexer"))
        .expect("a URL")
        .resume(false)
        .header(header::ORIGIN, format!("http://{relay}").parse().expect("an origin"));
    let mut socket = client.open("/echo").expect("a socket");
    in_time(socket.opened()).await.expect("open");
    cut.cancel();
    assert_eq!(next(&mut socket).await, Some(Err(Error::Lost)));
    assert_eq!(next(&mut socket).await, None);
    assert_eq!(in_time(socket.send("x".into())).await, Err(Error::Lost));
    let mut socket = client.open("/echo").expect("a socket");
    in_time(socket.send("again".into())).await.expect("sent");
    assert_eq!(next(&mut socket).await, Some(Ok("again".into())));
}

/// A relay to a server. The token cuts the connections that are open then.
async fn relay(server: SocketAddr) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let cut = CancellationToken::new();
    let first = cut.clone();
    tokio::spawn(async move {
        let mut cut = Some(first);
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = TcpStream::connect(server).await.expect("the server");
            let cut = cut.take().unwrap_or_default();
            tokio::spawn(async move {
                let _ = cut.run_until_cancelled(tokio::io::copy_bidirectional(&mut near, &mut far)).await;
            });
        }
    });
    (address, cut)
}

#[tokio::test]
async fn a_socket_that_is_dropped_is_closed() {
    let server = Server::start().await;
    let client = server.client();
    let kept = client.open("/echo").expect("a socket");
    let socket = client.open("/echo").expect("a socket");
    in_time(future::join(kept.opened(), socket.opened())).await.0.expect("open");
    assert_eq!(server.stats.channels(), 2);
    let handle = socket.handle();
    drop(socket);
    assert_eq!(in_time(handle.closed()).await.code, 1005);
    // One that never opened, too.
    drop(client.open("/echo"));
    in_time(async {
        while server.stats.channels() != 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(kept.ready_state(), ReadyState::Open);
}

#[tokio::test]
async fn json_messages_are_values() {
    let server = Server::start().await;
    let mut socket =
        JsonWebSocket::<Vec<f64>, Vec<f64>>::new(server.client().open("/echo").expect("a socket"));
    let values = vec![0.1 + 0.2, -0.0, 0.9999999999999999, 117.63331139400017];
    in_time(socket.send(values.clone())).await.expect("sent");
    assert_eq!(in_time(socket.next()).await, Some(Ok(values)));
    let mut raw = socket.into_inner();
    in_time(raw.send("{".into())).await.expect("sent");
    in_time(raw.send("[1]".into())).await.expect("sent");
    let mut socket = JsonWebSocket::<(), Vec<f64>>::new(raw);
    assert!(matches!(in_time(socket.next()).await, Some(Err(Error::Json(_)))));
    assert_eq!(in_time(socket.next()).await, Some(Ok(vec![1.0])));
}

#[tokio::test]
async fn relative_urls_are_resolved() {
    let server = Server::start().await;
    let base = format!("http://{}/rooms/index.html", server.address);
    let relative = RelativeWebSocket::new(&server.client(), &base).expect("a base");
    for url in ["../echo", "/echo?x", "./../echo#".trim_end_matches('#')] {
        let mut socket = relative.open(url).expect("a socket");
        in_time(socket.send("hi".into())).await.expect("sent");
        assert_eq!(next(&mut socket).await, Some(Ok("hi".into())), "{url}");
    }
}

#[tokio::test]
async fn urls_that_cannot_be_opened_are_refused_at_once() {
    for wrong in
        ["", "/multiplexer", "ftp://example.com/", "ws://", "ws://example.com/#x", "ws://a:b@example.com/"]
    {
        assert!(matches!(MultiWebSocket::new(wrong), Err(Error::Url { .. })), "{wrong:?}");
    }
    let client = MultiWebSocket::new("ws://127.0.0.1:1/multiplexer").expect("a URL");
    for wrong in ["ws://example.com/x", "wss://127.0.0.1:1/x", "ws://127.0.0.1:2/x", "/x#y", "data:,x"] {
        assert!(matches!(client.open(wrong), Err(Error::Url { .. })), "{wrong:?}");
    }
}

#[test]
fn without_a_runtime_there_is_an_error() {
    let client = MultiWebSocket::new("ws://127.0.0.1:1/multiplexer").expect("a URL");
    assert!(matches!(client.open("/echo"), Err(Error::NoRuntime)));
}

#[tokio::test]
async fn opens_beyond_the_servers_limit_fail() {
    let server = Server::with(Limits::new().max_links(1)).await;
    let first = server.client();
    let socket = first.open("/echo").expect("a socket");
    in_time(socket.opened()).await.expect("open");
    // A second link gets 503.
    let socket = server.client().open("/echo").expect("a socket");
    assert_eq!(in_time(socket.opened()).await, Err(Error::Failed(Failure::Link)));
}

#[tokio::test]
async fn sockets_open_below_a_prefix_that_the_server_does_not_know() {
    let inner = Multiplexer::new("/multiplexer").serve(Router::new().route("/echo", any(echo)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve(listener, Router::new().nest("/app", inner)).into_future());
    let client = MultiWebSocket::new(&format!("ws://{address}/app/multiplexer")).expect("a URL");
    client.open("/app/echo").expect("a URL").opened().await.expect("open below the prefix");
    client.open("/echo").expect("a URL").opened().await.expect_err("outside of the prefix");
}

#[tokio::test]
async fn an_open_has_headers() {
    let server = Server::start().await;
    let client =
        server.client().header(header::AUTHORIZATION, HeaderValue::from_static("Bearer of the link"));
    for (own, expected) in [(None, "Bearer of the link"), (Some("Bearer own: \u{e9}"), "Bearer own: \u{e9}")]
    {
        let mut headers = HeaderMap::new();
        let bytes = |text: &str| text.chars().map(|character| character as u8).collect::<Vec<_>>();
        if let Some(own) = own {
            let value = HeaderValue::from_bytes(&bytes(own)).expect("a value");
            headers.insert(header::AUTHORIZATION, value);
        }
        let mut socket = client.open_with("/authorization", &[], &headers).expect("a socket");
        let seen = socket.next().await.expect("a message").expect("a message");
        assert_eq!(seen, Message::Text(expected.into()));
    }
    for name in [header::HOST, header::COOKIE, header::SEC_WEBSOCKET_KEY] {
        let headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("x"))]);
        let refused = client.open_with("/echo", &[], &headers);
        assert!(matches!(refused, Err(Error::Header(_))), "{name}");
    }
    let headers = HeaderMap::from_iter([("x-user".parse().expect("a name"), HeaderValue::from_static("x"))]);
    let refused = client.open_with("/echo", &[], &headers).expect("a socket").opened().await;
    assert!(matches!(refused, Err(Error::Failed(Failure::Refused { status: 400, .. }))), "{refused:?}");
}

/// Starts a front that answers a request whose target is longer than `most` with 404, and relays others. Returns its address
/// and the targets.
async fn front(server: SocketAddr, most: usize) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let targets = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&targets);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.expect("a head"));
            }
            let target = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
            let is_long = target.len() > most;
            seen.lock().expect("a lock").push(target);
            if is_long {
                let refusal = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                client.write_all(refusal).await.expect("sent");
                continue;
            }
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await.expect("connected");
                server.write_all(&head).await.expect("sent");
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, targets)
}

#[tokio::test]
async fn a_front_that_allows_short_targets_only_is_passed() {
    let server = Server::start().await;
    for (most, query, handshakes) in
        [(2048, "", 1), (2048, "?token=a~b/c%20d&flag", 1), (100, "?token=a~b/c%20d&flag", 2)]
    {
        let (address, targets) = front(server.address, most).await;
        let multi = MultiWebSocket::new(&format!("ws://{address}/multiplexer{query}")).expect("a URL");
        let sockets: Vec<_> =
            (0..60).map(|n| multi.open(&format!("/echo?room={n:040}")).expect("a socket")).collect();
        for mut socket in sockets {
            in_time(socket.send("hi".into())).await.expect("sent");
            assert_eq!(next(&mut socket).await, Some(Ok("hi".into())));
        }
        let targets = targets.lock().expect("a lock");
        assert_eq!(targets.len(), handshakes, "{targets:?}");
        let given = format!("/multiplexer{query}");
        assert!(targets.iter().all(|target| target.starts_with(&given)), "{targets:?}");
    }
}

//! HTTP/2: links and native WebSockets as streams of a connection (RFC 8441), beside other requests.
#![cfg(unix)]

mod common;

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::extract::ws;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use axum::routing::{any, get, post};
use common::http2::{Connection, send, text};
use common::tls::{self, Files};
use common::upstream::{accepted, pass, upstream, value};
use common::{PATIENCE, told};
use futures_util::{SinkExt, StreamExt};
use h2::Reason;
use h2::ext::Protocol;
use manysocket_protocol::{Event, Message, Physical, SUBPROTOCOL, Settings, Side};
use manysocket_server::{Endpoint, Gateway, Limits, Multiplexer, Site, Stats, Tls, WebSocketUpgrade, serve};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite as ts;
use tokio_util::sync::CancellationToken;

/// A server with its own TLS, in this process.
struct Server {
    address: std::net::SocketAddr,
    files: Files,
    stats: Stats,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Server {
    async fn start(app: Router) -> Self {
        Self::with(Multiplexer::new("/multiplexer"), app).await
    }

    async fn with(multiplexer: Multiplexer, app: Router) -> Self {
        let stats = multiplexer.stats();
        Self::of(multiplexer.serve(app), stats).await
    }

    /// Serves an application, with or without a multiplexer.
    async fn of(app: Router, stats: Stats) -> Self {
        let files = Files::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let tls = Tls::open(files.path("cert.pem"), files.path("key.pem")).expect("a certificate");
        let stop = CancellationToken::new();
        let server = serve(listener, app).tls(tls).with_graceful_shutdown(stop.clone().cancelled_owned());
        let running = tokio::spawn(async { server.await.expect("no error") });
        Self { address, files, stats, stop, running }
    }

    async fn stream(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        self.files.connect_for(self.address, &["h2", "http/1.1"]).await.expect("TLS")
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    async fn connect(&self) -> Connection {
        Connection::over(self.stream().await, self.url()).await
    }
}

async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade.protocols(["chat"]).on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            let _ = socket.send(message).await;
        }
    })
}

/// The same with axum's own extractor.
async fn axums_echo(upgrade: ws::WebSocketUpgrade) -> Response {
    upgrade.protocols(["chat"]).on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            let _ = socket.send(message).await;
        }
    })
}

fn echoes() -> Router {
    Router::new()
        .route("/", get(async || "hello"))
        .route("/own", any(echo))
        .route("/axum", any(axums_echo))
        .route("/own/get", get(echo))
        .route("/axum/get", get(axums_echo))
}

async fn assert_echo<S>(wire: &mut tokio_tungstenite::WebSocketStream<S>, message: ts::Message)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    wire.send(message.clone()).await.expect("an open socket");
    assert_eq!(next(wire).await, Some(message));
}

/// The next message; `None` if the connection ends without a Close frame.
async fn next<S>(wire: &mut tokio_tungstenite::WebSocketStream<S>) -> Option<ts::Message>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let next = timeout(PATIENCE, wire.next()).await.expect("a message in time");
    next.and_then(Result::ok)
}

#[tokio::test]
async fn pages_links_and_native_sockets_share_a_connection() {
    let server = Server::start(echoes()).await;
    let mut connection = server.connect().await;
    let mut link = connection.link("/own").await;
    link.assert_echo("by the link").await;
    assert_eq!(server.stats.links(), 1);
    let mut sockets = Vec::new();
    for path in ["/own", "/axum", "/own/get", "/axum/get"] {
        let request = connection.handshake(path, &[("sec-websocket-protocol", "other, chat")]);
        let answer = connection.ask(request, false).await.expect("an answer");
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.headers["sec-websocket-protocol"], "chat", "{path}");
        for name in ["connection", "upgrade", "sec-websocket-accept"] {
            assert!(!answer.headers.contains_key(name), "{path} {name}");
        }
        let mut wire = connection.dial(path, &[]).await.unwrap_or_else(|answer| panic!("{}", answer.status));
        assert_echo(&mut wire, ts::Message::text(path)).await;
        assert_echo(&mut wire, ts::Message::binary(vec![7; 1 << 20])).await;
        sockets.push(wire);
    }
    assert_eq!(connection.get("/").await, (200.try_into().expect("a status"), "hello".into()));
    // A channel of the link has 64 KiB of credit: this takes many windows.
    let large = Message::binary(vec![1; 3 << 20]);
    link.endpoint.send(1, large.clone());
    assert_eq!(link.event().await, Event::Message { channel: 1, message: large });
    for mut wire in sockets {
        let frame = ts::protocol::CloseFrame { code: 4000.into(), reason: "enough".into() };
        wire.send(ts::Message::Close(Some(frame.clone()))).await.expect("an open socket");
        assert_eq!(next(&mut wire).await, Some(ts::Message::Close(Some(frame))));
        // The server ends the stream after its Close.
        assert_eq!(next(&mut wire).await, None);
    }
    link.assert_echo("still").await;
}

/// A connection without HTTP/2 has the same sockets.
#[tokio::test]
async fn http_1_goes_on_beside_it() {
    let server = Server::start(echoes()).await;
    let mut new = server.connect().await;
    let mut newer = new.link("/own").await;
    let port = server.address.port();
    let stream = server.files.connect(server.address).await.expect("TLS");
    let mut older = tls::Link::over(stream, port, "/axum/get").await;
    older.assert_echo("old").await;
    newer.assert_echo("new").await;
    assert_eq!(server.stats.links(), 2);
}

#[tokio::test]
async fn handshakes_are_refused_as_over_http_1() {
    let (seen, mut requests) = mpsc::unbounded_channel();
    let page = any(async move |request: Request| {
        let _ = seen.send((request.method().clone(), request.headers().clone()));
        "a page"
    });
    let guarded = Endpoint::new(any(echo)).title("Echo");
    let site: Router = Site::new().endpoint("/site/echo", guarded).into();
    let app = Router::new()
        .route("/own", any(echo))
        .route("/page", page)
        .route("/post", post(async || "posted"))
        .merge(site);
    let server = Server::start(app).await;
    let mut connection = server.connect().await;
    let origin = server.url();
    let other = [("origin", "https://evil.example"), ("sec-websocket-protocol", SUBPROTOCOL)];
    for (path, headers, status) in [
        ("/multiplexer", &other[..], 403),
        ("/multiplexer", &[("origin", "null"), ("sec-websocket-protocol", SUBPROTOCOL)], 403),
        ("/multiplexer", &[("sec-websocket-protocol", "other")], 400),
        ("/multiplexer", &[], 400),
        ("/multiplexer", &[("sec-websocket-protocol", SUBPROTOCOL), ("sec-websocket-version", "8")], 400),
        // An index checks origins, too; the handler of an application does not.
        ("/site/", &[("origin", "https://evil.example")], 403),
        ("/site/", &[("origin", &origin)], 200),
        ("/site/echo", &[("origin", "https://evil.example")], 200),
        ("/none", &[], 404),
        ("/post", &[], 405),
        // A page is no WebSocket: a browser would take the 200 for one.
        ("/page", &[], 404),
        // The target has the host.
        ("/own", &[("host", "a b")], 200),
    ] {
        let mut request = connection.handshake(path, headers);
        if headers.iter().any(|(name, value)| *name == "sec-websocket-version" && *value == "8") {
            request.headers_mut().insert("sec-websocket-version", "8".parse().expect("a value"));
        }
        let answer = connection.ask(request, false).await.expect("an answer");
        assert_eq!(answer.status, status, "{path} {headers:?}");
    }
    let (method, headers) = requests.recv().await.expect("a request");
    assert_eq!(
        (method, &headers["upgrade"], &headers["connection"]),
        (Method::GET, &"websocket".parse().expect("a value"), &"upgrade".parse().expect("a value"))
    );
    // Other protocols and tunnels are none of the server's.
    let mut request = connection.handshake("/own", &[]);
    request.extensions_mut().insert(Protocol::from_static("connect-udp"));
    assert_eq!(connection.ask(request, false).await.expect("an answer").status, 501);
    let mut request = connection.request(Method::CONNECT, "/", &[]);
    *request.uri_mut() = "example.com:443".parse().expect("an authority");
    assert_eq!(connection.ask(request, false).await.expect("an answer").status, 404);
    // The answer to plain requests.
    let (status, body) = connection.get("/multiplexer").await;
    assert!(status == 426 && body.contains("MultiWebSocket"), "{status} {body}");
    assert_eq!(connection.get("/site/echo").await.0, 426);
    assert_eq!(server.stats.links(), 0);
}

#[tokio::test]
async fn heads_have_the_limits_of_http_1() {
    let server = Server::start(echoes()).await;
    let mut connection = server.connect().await;
    let mut link = connection.link("/own").await;
    let long = |length: usize| "x".repeat(length);
    for (headers, status) in [
        (vec![("x-long".to_owned(), long(30_000))], 200),
        (vec![("x-long".to_owned(), long(33_000))], 431),
        (vec![("x-long".to_owned(), long(60_000))], 431),
        ((0..90).map(|at| (format!("x-{at}"), "a".into())).collect(), 200),
        ((0..110).map(|at| (format!("x-{at}"), "a".into())).collect(), 431),
        ((0..1000).map(|at| (format!("x-{at}"), "a".into())).collect(), 431),
        // Browsers write each cookie in a separate line.
        ((0..180).map(|at| ("cookie".to_owned(), format!("name{at}=value"))).collect(), 200),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let request = connection.request(Method::GET, "/", &headers);
        assert_eq!(connection.ask(request, true).await.expect("an answer").status, status);
        let request = connection.handshake("/own", &headers);
        assert_eq!(connection.ask(request, false).await.expect("an answer").status, status);
    }
    link.assert_echo("still").await;
    // A request without a host.
    let mut request = connection.request(Method::GET, "/", &[]);
    *request.uri_mut() = "/".parse().expect("a path");
    assert_eq!(connection.ask(request, true).await.expect("an answer").status, 400);
}

/// Over HTTP/2, a browser writes each cookie in a separate line (RFC 9113 §8.2.3); handlers read the first line.
#[tokio::test]
async fn cookies_and_the_host_are_where_handlers_look_for_them() {
    let (tell, mut heard) = mpsc::unbounded_channel();
    let listen = any(async move |headers: HeaderMap, upgrade: WebSocketUpgrade| {
        let lines = |name| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
        let _ = tell.send((lines("cookie"), lines("host")));
        upgrade.on_upgrade(async |mut socket| while let Some(Ok(_)) = socket.recv().await {})
    });
    let server = Server::start(Router::new().route("/", get(async || "")).route("/listen", listen)).await;
    let mut connection = server.connect().await;
    let cookies = [("cookie", "a=1"), ("cookie", "b=2; c=3"), ("sec-websocket-protocol", SUBPROTOCOL)];
    let expected = (vec!["a=1; b=2; c=3"], vec![format!("localhost:{}", server.address.port())]);
    let _native =
        connection.dial("/listen", &cookies).await.unwrap_or_else(|answer| panic!("{}", answer.status));
    let heard_natively = told(&mut heard).await;
    assert_eq!((heard_natively.0, heard_natively.1), (to_values(&expected.0), to_values(&expected.1)));
    let wire =
        connection.dial("/multiplexer", &cookies).await.unwrap_or_else(|answer| panic!("{}", answer.status));
    let _link = common::http2::Link::on(wire, "/multiplexer", "/listen").await;
    let heard_by_link = told(&mut heard).await;
    assert_eq!((heard_by_link.0, heard_by_link.1), (to_values(&expected.0), to_values(&expected.1)));
}

fn to_values<T: AsRef<str>>(texts: &[T]) -> Vec<axum::http::HeaderValue> {
    texts.iter().map(|text| text.as_ref().parse().expect("a value")).collect()
}

/// The upstream speaks HTTP/1.1.
#[tokio::test]
async fn a_gateway_forwards_a_stream_as_a_connection() {
    let (tell, mut heard) = mpsc::unbounded_channel();
    let address = upstream(move |stream, head| {
        let _ = tell.send(head.clone());
        async move {
            let mut wire = accepted(stream, &head).await;
            while let Some(Ok(message)) = wire.next().await {
                if !message.is_close() {
                    wire.send(message).await.expect("an open connection");
                }
            }
        }
    })
    .await;
    let gateway = Gateway::new("/up", &format!("ws://{address}")).expect("a gateway");
    let server = Server::start(gateway.mount(Router::new().route("/", get(async || "")))).await;
    let mut connection = server.connect().await;
    let headers = [("cookie", "a=1"), ("cookie", "b=2")];
    let mut wire =
        connection.dial("/up/room?a=b", &headers).await.unwrap_or_else(|answer| panic!("{}", answer.status));
    let head = told(&mut heard).await;
    assert!(head.starts_with("GET /room?a=b HTTP/1.1\r\n"), "{head}");
    let host = format!("localhost:{}", server.address.port());
    for (name, expected) in [
        ("host", host.as_str()),
        ("origin", &server.url()),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("cookie", "a=1; b=2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", &host),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        let value = value(&head, name).unwrap_or_else(|| panic!("no {name} in {head}"));
        assert!(value.eq_ignore_ascii_case(expected), "{name}: {value}");
    }
    assert_ne!(value(&head, "sec-websocket-key"), Some("AAAAAAAAAAAAAAAAAAAAAA=="), "the gateway's own");
    assert_echo(&mut wire, ts::Message::text("through")).await;
    assert_echo(&mut wire, ts::Message::binary(vec![3; 300_000])).await;
    let frame = ts::protocol::CloseFrame { code: 4001.into(), reason: "enough".into() };
    wire.send(ts::Message::Close(Some(frame.clone()))).await.expect("an open socket");
    assert_eq!(next(&mut wire).await, Some(ts::Message::Close(Some(frame))));
}

/// Reports how each of its sockets ends.
fn watched(tell: mpsc::UnboundedSender<String>) -> Router {
    let listen = any(async move |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |mut socket| {
            let _ = tell.send("open".into());
            loop {
                let end = match socket.recv().await {
                    Some(Ok(ws::Message::Close(frame))) => {
                        format!("close {:?}", frame.map(|frame| frame.code))
                    }
                    Some(Ok(message)) => {
                        let _ = tell.send(format!("{} bytes", message.into_data().len()));
                        continue;
                    }
                    Some(Err(_)) => "lost".into(),
                    None => "end".into(),
                };
                let _ = tell.send(end);
                return;
            }
        })
    });
    echoes().route("/watched", listen)
}

/// Browsers reset the streams of a page that goes away.
#[tokio::test]
async fn a_reset_ends_one_socket() {
    let (tell, mut heard) = mpsc::unbounded_channel();
    let server = Server::start(watched(tell)).await;
    let mut connection = server.connect().await;
    let mut neighbour = connection.link("/own").await;
    for reason in [Reason::CANCEL, Reason::NO_ERROR, Reason::INTERNAL_ERROR] {
        let request = connection.handshake("/watched", &[]);
        let mut answer = connection.ask(request, false).await.expect("an answer");
        assert_eq!(told(&mut heard).await, "open");
        // A whole message of 3 bytes, and the beginning of one of 4 KiB, both with the mask 0.
        let frames = [&[0x82, 0x83, 0, 0, 0, 0][..], b"abc", &[0x82, 0xfe, 0x10, 0, 0, 0, 0, 0], b"begun"];
        assert!(send(&mut answer.sent, &frames.concat()).await);
        assert_eq!(told(&mut heard).await, "3 bytes");
        answer.sent.send_reset(reason);
        assert_eq!(told(&mut heard).await, "lost", "{reason:?}");
    }
    neighbour.assert_echo("unharmed").await;
    // The same for a link in mid-message: it waits for its client, and its handlers go on.
    let headers = [("sec-websocket-protocol", SUBPROTOCOL)];
    let request = connection.handshake("/multiplexer", &headers);
    let mut answer = connection.ask(request, false).await.expect("an answer");
    assert_eq!(server.stats.links(), 2);
    assert!(send(&mut answer.sent, &[0x82, 0xfe, 0x10, 0, 0, 0, 0, 0, 1]).await);
    answer.sent.send_reset(Reason::CANCEL);
    timeout(PATIENCE, async {
        while server.stats.links() > 1 {
            neighbour.assert_echo("unharmed").await;
        }
    })
    .await
    .expect("a link without a channel that is confirmed ends with its connection");
}

/// Where WebSockets do not pass, a link is carried by requests (docs/protocol.md §3.3).
#[tokio::test]
async fn requests_of_http_2_carry_links() {
    let server = Server::start(echoes()).await;
    let mut connection = server.connect().await;
    let origin = server.url();
    for kind in ["stream", "poll"] {
        let headers = [("manysocket-carrier", kind), ("origin", origin.as_str())];
        let request = connection.request(Method::POST, "/multiplexer", &headers);
        let mut answer = connection.ask(request, true).await.expect("an answer");
        assert_eq!(answer.status, 200, "{kind}");
        let id = timeout(PATIENCE, answer.received.data()).await.expect("an id in time");
        let id = String::from_utf8(id.expect("an id").expect("an id").to_vec()).expect("digits");
        assert!(id.len() >= 32 && id[..32].bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
        assert!(server.stats.links() > 0);
    }
    // Another origin gets none.
    let headers = [("manysocket-carrier", "stream"), ("origin", "https://evil.example")];
    let request = connection.request(Method::POST, "/multiplexer", &headers);
    assert_eq!(connection.ask(request, true).await.expect("an answer").status, 403);
}

/// More than the 255 WebSockets that Chromium allows a page over HTTP/1.1.
#[tokio::test]
async fn a_connection_has_hundreds_of_sockets() {
    let server = Server::start(echoes()).await;
    let mut connection = server.connect().await;
    let mut link = connection.link("/own").await;
    let mut sockets = Vec::new();
    for at in 0..319 {
        let path = if at % 2 == 0 { "/own" } else { "/axum" };
        sockets.push(connection.dial(path, &[]).await.unwrap_or_else(|answer| panic!("{}", answer.status)));
    }
    for (at, wire) in sockets.iter_mut().enumerate() {
        assert_echo(wire, ts::Message::text(format!("socket {at}"))).await;
    }
    link.assert_echo("beside them").await;
    // The next one waits until there is room.
    let request = connection.request(Method::GET, "/", &[]);
    let (mut response, _) = connection.begin(request, true).await;
    link.assert_echo("meanwhile").await;
    assert!(futures_util::future::poll_immediate(&mut response).await.is_none());
    drop(sockets.pop());
    assert_eq!(timeout(PATIENCE, response).await.expect("room").expect("an answer").status(), 200);
}

/// Each stream has its own window, and the connection's is that of 64.
#[tokio::test]
async fn sockets_that_are_not_read_leave_the_others_alone() {
    const STUCK: usize = 60;
    let go = Arc::new(Notify::new());
    let gone = Arc::clone(&go);
    let stuck = any(async move |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |mut socket| {
            gone.notified().await;
            let mut bytes = 0;
            while let Some(Ok(ws::Message::Binary(message))) = socket.recv().await {
                bytes += message.len();
                let _ = socket.send(ws::Message::text(bytes.to_string())).await;
            }
        })
    });
    let server = Server::start(echoes().route("/stuck", stuck)).await;
    let mut connection = server.connect().await;
    let mut link = connection.link("/own").await;
    let mut sockets = Vec::new();
    for _ in 0..STUCK {
        let request = connection.handshake("/stuck", &[]);
        let mut answer = connection.ask(request, false).await.expect("an answer");
        // A frame of 1 MiB: as much of it is sent as there is room for.
        let frame = [&[0x82, 0xff][..], &(1_u64 << 20).to_be_bytes(), &[0; 4], &vec![0; 1 << 20]].concat();
        let mut sent = 0;
        answer.sent.reserve_capacity(frame.len());
        while sent < 256 * 1024 {
            let room = std::future::poll_fn(|cx| answer.sent.poll_capacity(cx)).await;
            let room = room.expect("an open stream").expect("an open stream");
            answer.sent.send_data(frame[sent..sent + room].to_vec().into(), false).expect("room");
            sent += room;
        }
        assert_eq!(sent, 256 * 1024, "a stream's window");
        sockets.push((answer, frame, sent));
    }
    link.assert_echo("not stuck").await;
    link.endpoint.send(1, Message::binary(vec![2; 600_000]));
    assert!(matches!(link.event().await, Event::Message { .. }));
    assert_eq!(connection.get("/").await.0, 200);
    for (answer, frame, sent) in &mut sockets {
        go.notify_one();
        assert!(send(&mut answer.sent, &frame[*sent..]).await);
        let answered = timeout(PATIENCE, answer.received.data()).await.expect("an answer in time");
        assert!(answered.expect("an answer").expect("an answer").ends_with(b"1048576"));
    }
}

/// The server's memory for it is bounded, and the link ends.
#[tokio::test]
async fn a_client_that_reads_nothing_is_given_up() {
    let (tell, mut heard) = mpsc::unbounded_channel();
    let pours = any(async move |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |mut socket| {
            while socket.send(ws::Message::binary(vec![0; 1 << 20])).await.is_ok() {}
            let _ = tell.send(());
        })
    });
    let app = Router::new().route("/pours", pours).route("/", get(async || ""));
    let limits = Limits::new().stall_timeout(Duration::from_millis(200));
    let server = Server::with(Multiplexer::new("/multiplexer").limits(limits), app).await;
    let mut connection = server.connect().await;
    let dialled = connection.dial("/multiplexer", &[("sec-websocket-protocol", SUBPROTOCOL)]).await;
    let wire = dialled.unwrap_or_else(|answer| panic!("{}", answer.status));
    // The largest possible credit, so that the stream itself is full first.
    let settings = Settings::default().window(u32::MAX >> 1);
    let endpoint = manysocket_protocol::Endpoint::new(Side::Client, settings, 0);
    let mut link = common::http2::Link { wire, endpoint };
    link.endpoint.open("/pours", "");
    let hello = match next(&mut link.wire).await {
        Some(ts::Message::Binary(bytes)) => Physical::Binary(bytes),
        other => panic!("{other:?}"),
    };
    link.endpoint.receive(0, hello).expect("a correct server");
    // That is the last that it reads.
    link.flush().await;
    told(&mut heard).await;
    assert_eq!(server.stats.totals().limits_crossed.get("stall_timeout"), Some(&1));
    assert_eq!(connection.get("/").await.0, 200);
}

/// Clients get GOAWAY, the closes of their channels and links, and answers to their requests.
#[tokio::test]
async fn a_server_that_shuts_down_ends_its_streams_in_good_order() {
    let (tell, mut asked) = mpsc::unbounded_channel();
    let go = Arc::new(Notify::new());
    let gone = Arc::clone(&go);
    let slow = get(async move || {
        let _ = tell.send(());
        gone.notified().await;
        "late"
    });
    let mut server = Server::start(echoes().route("/slow", slow)).await;
    let mut connection = server.connect().await;
    let mut link = connection.link("/own").await;
    let mut native = connection.dial("/own", &[]).await.unwrap_or_else(|answer| panic!("{}", answer.status));
    let request = connection.request(Method::GET, "/slow", &[]);
    let (response, _) = connection.begin(request, true).await;
    told(&mut asked).await;
    let idle = server.connect().await;
    let never_used = Connection::unused(server.stream().await, server.url()).await;
    server.stop.cancel();
    let event = link.event().await;
    assert!(matches!(&event, Event::Closed { close, .. } if close.code == Some(1001)), "{event:?}");
    // Idle connections end by themselves.
    assert_eq!(timeout(PATIENCE, idle.ended).await.expect("an end").expect("no panic"), None);
    assert_eq!(timeout(PATIENCE, never_used.ended).await.expect("an end").expect("no panic"), None);
    // The client knows that it has to connect anew.
    timeout(PATIENCE, async { while connection.is_open().await {} }).await.expect("GOAWAY");
    go.notify_one();
    let late = response.await.expect("an answer").into_body();
    assert_eq!(text(late).await, "late");
    assert!(!server.running.is_finished(), "the server waits for the page");
    link.endpoint.close(1, Some(1001), "");
    link.flush().await;
    let close = timeout(PATIENCE, async {
        loop {
            if let Some(Ok(ts::Message::Close(frame))) = link.wire.next().await {
                return frame.map(|frame| u16::from(frame.code));
            }
        }
    });
    assert_eq!(close.await.expect("a close"), Some(1001));
    assert_eq!(next(&mut link.wire).await, None);
    timeout(PATIENCE, &mut server.running).await.expect("an end").expect("no panic");
    assert_eq!(server.stats.links(), 0);
    // Native sockets are not waited for.
    assert_echo(&mut native, ts::Message::text("still")).await;
}

/// As one of HTTP/1.1 (kept_connections.rs).
#[tokio::test]
async fn a_connection_without_a_stream_ends_in_time() {
    let server = Server::start(echoes()).await;
    // Nothing is asked.
    let silent = Connection::unused(server.stream().await, server.url()).await;
    let mute = server.stream().await;
    let mut other = server.connect().await;
    other.get("/").await;
    pass(11).await;
    timeout(PATIENCE, silent.ended).await.expect("an end").expect("no panic");
    ends(mute).await;
    // Answers to pings are no requests.
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    let mut link = busy.link("/own").await;
    for _ in 0..3 {
        idle.get("/").await;
        pass(74).await;
        other = server.connect().await;
        other.get("/").await;
        link.assert_echo("here").await;
    }
    idle.get("/").await;
    pass(76).await;
    assert_eq!(timeout(PATIENCE, idle.ended).await.expect("an end").expect("no panic"), None);
    link.assert_echo("still").await;
    drop(link);
}

/// Waits for the end of a connection that has said nothing.
async fn ends(mut stream: tokio_rustls::client::TlsStream<TcpStream>) {
    let ended = async {
        let mut all = Vec::new();
        // The server's settings come before.
        let _ = stream.read_to_end(&mut all).await;
    };
    timeout(PATIENCE, ended).await.expect("an end");
}

/// Content that reports when the server has given it up.
struct Watched(&'static str, mpsc::UnboundedSender<&'static str>);

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &[7; LARGE]
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.1.send(self.0);
    }
}

/// More than the window of a stream.
const LARGE: usize = 8 << 20;

/// The window of a stream.
const WINDOW: usize = 6 << 20;

/// An application with an answer of which all is there, and one that is made while it is taken.
fn large_answers(gone: &mpsc::UnboundedSender<&'static str>) -> Router {
    let (whole, parts) = (gone.clone(), gone.clone());
    let whole = async move || Response::new(Body::from(Bytes::from_owner(Watched("whole", whole))));
    let parts = async move || {
        let content = Bytes::from_owner(Watched("parts", parts));
        let parts = futures_util::stream::unfold(content, async |content| {
            Some((Ok::<_, std::convert::Infallible>(content.slice(..1000)), content))
        });
        Response::new(Body::from_stream(parts))
    };
    Router::new().route("/whole", get(whole)).route("/parts", get(parts))
}

/// Waits until so many bytes of an answer have arrived, and opens no window for more.
async fn take(body: &mut h2::RecvStream, most: usize) {
    let mut taken = 0;
    while taken < most {
        let part = timeout(PATIENCE, body.data()).await.expect("a body in time");
        taken += part.expect("not the end").expect("a body").len();
    }
}

#[tokio::test]
async fn an_answer_of_which_a_client_takes_nothing_is_given_up() {
    let (gone, mut given_up) = mpsc::unbounded_channel();
    let server = Server::start(echoes().merge(large_answers(&gone))).await;
    let mut connection = server.connect().await;
    let mut link = connection.link("/own").await;
    for path in ["whole", "parts"] {
        let request = connection.request(Method::GET, &format!("/{path}"), &[]);
        let mut answer = connection.ask(request, true).await.expect("an answer");
        take(&mut answer.received, WINDOW).await;
        // Others on the connection are served meanwhile, which lasts.
        for _ in 0..2 {
            pass(59).await;
            link.assert_echo("served").await;
        }
        assert!(given_up.try_recv().is_err(), "{path}: not before two minutes");
        pass(3).await;
        assert_eq!(timeout(PATIENCE, given_up.recv()).await.expect("in time"), Some(path));
        let end = timeout(PATIENCE, answer.received.data()).await.expect("an end in time");
        assert_eq!(end.and_then(|part| part.err()?.reason()), Some(Reason::CANCEL), "{path}");
        link.assert_echo("still served").await;
    }
}

#[tokio::test]
async fn an_answer_that_a_client_takes_slowly_arrives_whole() {
    let (gone, _given_up) = mpsc::unbounded_channel();
    let server = Server::start(large_answers(&gone)).await;
    let mut connection = server.connect().await;
    let request = connection.request(Method::GET, "/whole", &[]);
    let mut answer = connection.ask(request, true).await.expect("an answer");
    take(&mut answer.received, WINDOW).await;
    let mut rest = LARGE - WINDOW;
    while rest > 0 {
        // Longer in all than a connection may be without a stream.
        pass(70).await;
        let next = rest.min(512 * 1024);
        answer.received.flow_control().release_capacity(next).expect("a window");
        take(&mut answer.received, next).await;
        rest -= next;
    }
    let end = timeout(PATIENCE, answer.received.data()).await.expect("an end in time");
    assert!(end.is_none_or(|last| last.is_ok_and(|last| last.is_empty())));
}

/// The server of axum, which recognises HTTP/2 by its first bytes where there is no TLS.
#[tokio::test]
async fn axums_server_has_links_and_sockets_over_http_2() {
    let guarded = Endpoint::new(any(echo)).title("Echo");
    let site: Router = Site::new().endpoint("/site/echo", guarded).into();
    let app = Router::new().route("/own", any(echo)).route("/axum", any(axums_echo)).merge(site);
    for (app, has_multiplexer) in [(Multiplexer::new("/multiplexer").serve(app.clone()), true), (app, false)]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(axum::serve(listener, app).into_future());
        let stream = TcpStream::connect(address).await.expect("a connection");
        let mut connection = Connection::over(stream, format!("http://{address}")).await;
        if has_multiplexer {
            connection.link("/site/echo").await.assert_echo("by the link").await;
        }
        for path in ["/own", "/axum", "/site/echo", "/site/"] {
            let dialled = connection.dial(path, &[]).await;
            let mut wire = dialled.unwrap_or_else(|answer| panic!("{path} {}", answer.status));
            if path == "/site/" {
                assert!(matches!(next(&mut wire).await, Some(ts::Message::Text(_))));
            } else {
                assert_echo(&mut wire, ts::Message::text(path)).await;
            }
        }
        let refused = connection.dial("/site/", &[("origin", "http://evil.example")]).await;
        assert_eq!(refused.err().map(|answer| answer.status.as_u16()), Some(403));
    }
}

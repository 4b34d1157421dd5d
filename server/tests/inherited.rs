//! Additions of proxies and layers to a handshake reach a virtual open as they reach a native one.

mod common;

use std::net::SocketAddr;

use axum::extract::{Request, WebSocketUpgrade as AxumUpgrade};
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::any;
use axum::{Extension, Router};
use common::upstream::{accepting, upstream};
use common::{KINDS, Kind, Link, Received, Server, Socket};
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::Message;
use manysocket_server::{Gateway, Multiplexer, WebSocketUpgrade};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite as ts;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Headers that proxies in front of applications set.
const BY_PROXIES: [(&str, &str); 14] = [
    ("x-user", "ada"),
    ("remote-user", "ada"),
    ("x-auth-request-email", "ada@example.org"),
    ("cf-access-jwt-assertion", "a.b.c"),
    ("x-amzn-oidc-data", "a.b.c"),
    ("x-goog-authenticated-user-id", "accounts.google.com:1"),
    ("tailscale-user-login", "ada@example.org"),
    ("x-client-cert-subject", "CN=ada"),
    ("cf-connecting-ip", "203.0.113.7"),
    ("x-forwarded-user", "ada"),
    ("x-request-id", "r1"),
    ("traceparent", "00-1-1-01"),
    ("baggage", "a=1"),
    ("x-tenant", "blue"),
];

/// Opens a socket with headers on its handshake, or on that of its link. Returns the first text that it receives.
async fn first(kind: Kind, server: &Server, path: &str, headers: &[(&'static str, &str)]) -> String {
    let mut socket = match kind {
        Kind::Native => Socket::Native(Box::new(common::dial(server, path, headers).await.expect("open"))),
        Kind::Virtual => {
            let mut link = Link::dial_with(server, headers, |_| {}).await.expect("a link");
            let channel = link.open(path).await;
            Socket::Virtual(Box::new(link), channel)
        }
    };
    match socket.receive().await {
        Received::Message(Message::Text(text)) => String::from_utf8(text.to_vec()).expect("UTF-8"),
        other => panic!("{other:?}"),
    }
}

fn lines(headers: &HeaderMap) -> String {
    headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().expect("text"))).collect()
}

async fn tell(headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |mut socket| {
        let _ = socket.send(lines(&headers).into()).await;
    })
}

async fn tell_axums(headers: HeaderMap, upgrade: AxumUpgrade) -> Response {
    upgrade.on_upgrade(async move |mut socket| {
        let _ = socket.send(lines(&headers).into()).await;
    })
}

#[tokio::test]
async fn a_handler_sees_the_headers_of_proxies() {
    let app = Router::new().route("/tell", any(tell)).route("/axums", any(tell_axums));
    let multiplexer = Multiplexer::new("/multiplexer").inherit_headers([HeaderName::from_static("x-tenant")]);
    let server = Server::with(multiplexer, app).await;
    for kind in KINDS {
        for path in ["/tell", "/axums"] {
            let seen = first(kind, &server, path, &BY_PROXIES).await;
            for (name, value) in BY_PROXIES {
                assert!(seen.contains(&format!("{name}: {value}\n")), "{kind:?} {path} {name}: {seen}");
            }
        }
    }
}

#[tokio::test]
async fn headers_that_nobody_named_and_those_of_the_connection_are_not_inherited() {
    let server = Server::start(Router::new().route("/tell", any(tell))).await;
    let own = [("x-tenant", "blue"), ("x-user", "ada"), ("sec-websocket-extensions", "x-made-up")];
    let seen = first(Kind::Virtual, &server, "/tell", &own).await;
    assert!(seen.contains("x-user: ada\n"), "{seen}");
    for name in ["x-tenant", "sec-websocket-extensions", "sec-websocket-protocol"] {
        assert!(!seen.contains(name), "{name}: {seen}");
    }
}

/// An upstream that sends the head of its request.
async fn telling_head() -> SocketAddr {
    upstream(async |mut stream: TcpStream, head: String| {
        stream.write_all(accepting(&head, "").as_bytes()).await.expect("a client");
        let mut wire = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        wire.send(ts::Message::text(head)).await.expect("a client");
        while let Some(Ok(_)) = wire.next().await {}
    })
    .await
}

/// Whether an upstream sees the user that a client at a loopback address claims.
async fn is_passed_to_upstreams(kind: Kind, trusted: Option<&str>, name: &str) -> bool {
    let gateway = Gateway::new("/up", &format!("ws://{}", telling_head().await)).expect("a gateway");
    let multiplexer = Multiplexer::new("/multiplexer")
        .inherit_headers([HeaderName::from_static("x-tenant")])
        .trust_forwarded(trusted.map(|proxies| proxies.parse().expect("proxies")));
    let server = Server::with(multiplexer, gateway.mount(Router::new())).await;
    let head = first(kind, &server, "/up/", &BY_PROXIES).await.to_ascii_lowercase();
    head.contains(&format!("\r\n{name}: "))
}

#[tokio::test]
async fn an_upstream_sees_the_headers_of_proxies_that_are_believed() {
    for kind in KINDS {
        for trusted in [None, Some("loopback")] {
            for (name, _) in BY_PROXIES {
                assert!(is_passed_to_upstreams(kind, trusted, name).await, "{kind:?} {trusted:?} {name}");
            }
        }
        // The client is not the proxy that was named: only its traces are passed.
        for (name, _) in BY_PROXIES {
            let is_of_trace = ["x-request-id", "traceparent", "baggage"].contains(&name);
            let is_passed = is_passed_to_upstreams(kind, Some("10.0.0.0/8"), name).await;
            assert_eq!(is_passed, is_of_trace, "{kind:?} {name}");
        }
    }
}

#[derive(Clone)]
struct User(String);

/// A layer that identifies the user of each request, as that of a session does.
async fn identify(mut request: Request, next: Next) -> Response {
    let user = request.headers().get("cookie").and_then(|cookie| cookie.to_str().ok()).map(str::to_owned);
    if let Some(user) = user {
        request.extensions_mut().insert(User(user));
    }
    next.run(request).await
}

#[tokio::test]
async fn a_handler_sees_the_extensions_that_are_named() {
    let tell =
        async |user: Option<Extension<User>>, number: Option<Extension<u64>>, upgrade: WebSocketUpgrade| {
            let user = user.map(|Extension(User(name))| name);
            let seen = format!("{user:?} {:?}", number.map(|Extension(number)| number));
            upgrade.on_upgrade(async move |mut socket| drop(socket.send(seen.into()).await))
        };
    let app = Router::new().route("/tell", any(tell));
    let multiplexer = Multiplexer::new("/multiplexer").inherit_extension::<User>();
    let app = multiplexer.serve(app).layer(middleware::from_fn(identify)).layer(Extension(7_u64));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let server = Server::at(listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    for (kind, headers, expected) in [
        (Kind::Native, &[("cookie", "ada")][..], "Some(\"ada\") Some(7)"),
        (Kind::Virtual, &[("cookie", "ada")], "Some(\"ada\") None"),
        (Kind::Virtual, &[], "None None"),
    ] {
        assert_eq!(first(kind, &server, "/tell", headers).await, expected, "{kind:?}");
    }
}

//! Behind nginx and HAProxy, as `docs/deploy/` sets them up: TLS, origins, who is said to connect, and silence. The server trusts
//! them, as with `--trust-forwarded loopback`.
#![cfg(unix)]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Message as WsMessage;
use axum::http::uri::Scheme;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::routing::any;
use axum::{Extension, Router};
use common::http::{self, Requests};
use common::program::{self, free_address, is_installed};
use common::tls::{Files, Link, dial};
use common::{PATIENCE, Server};
use futures_util::StreamExt;
use manysocket_protocol::{Endpoint, Event, HANDSHAKE_PARAMETER, Message, SUBPROTOCOL, Settings, Side};
use manysocket_server::{Forwarded, Multiplexer, WebSocketUpgrade};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite as ts;

/// The idle timeout of the proxies here, in place of their files' minute.
const SILENCE: Duration = Duration::from_secs(2);

/// How often the server pings a silent link, as the files' comments have it in proportion.
const PING_INTERVAL: u64 = 800;

struct Proxy {
    address: SocketAddr,
    files: Arc<Files>,
    _process: Child,
}

impl Proxy {
    /// Starts a proxy of `docs/deploy/` before a server; `None` where it is not installed, which is said.
    async fn start(program: &str, server: &Server) -> Option<Self> {
        if !is_installed(program).await {
            return None;
        }
        let address = free_address();
        let files = Arc::new(Files::new());
        let (certificate, key) = (files.path("cert.pem"), files.path("key.pem"));
        let both = [&certificate, &key].map(|path| std::fs::read_to_string(path).expect("a file")).concat();
        std::fs::write(files.path("site.pem"), both).expect("a file");

        let name = if program == "nginx" { "nginx.conf" } else { "haproxy.cfg" };
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/deploy").join(name);
        let mut text = std::fs::read_to_string(shipped).expect("the file");
        let folder = certificate.parent().expect("a folder").to_str().expect("UTF-8").to_owned();
        let seconds = format!("{}s", SILENCE.as_secs());
        let mut replace = |from: &str, to: &str| {
            assert!(text.contains(from), "{name} has no {from}");
            text = text.replace(from, to);
        };
        replace("127.0.0.1:8080", &server.address.to_string());
        replace("/etc/ssl/manysocket", &folder);
        replace("60s", &seconds);
        let mut command = Command::new(program);
        let path = files.path(name);
        if program == "nginx" {
            replace("listen 443", &format!("listen {address}"));
            // Where the user of the tests may write.
            let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let places = places.map(|place| format!("{place}_temp_path {folder}/{place};\n")).concat();
            replace("http {\n", &format!("http {{\naccess_log off;\n{places}"));
            command.arg("-c").arg(&path).args(["-p", &folder, "-e", "stderr"]);
            command.args(["-g", &format!("daemon off; master_process off; pid {folder}/pid;")]);
        } else {
            replace("bind :443", &format!("bind {address}"));
            command.arg("-f").arg(&path);
        }
        std::fs::write(&path, text).expect("a file");
        let process = program::start(&mut command, address).await;
        Some(Self { address, files, _process: process })
    }

    async fn link(&self, path: &str) -> Link {
        self.link_below("", path).await
    }

    async fn link_below(&self, prefix: &str, path: &str) -> Link {
        let stream = self.files.connect(self.address).await.expect("TLS");
        Link::below(prefix, stream, self.address.port(), path).await
    }

    /// The status of a link's handshake from a page of an origin, by a client that claims to be a proxy as well.
    async fn status(&self, path: &str, origin: &str) -> String {
        let mut stream = self.files.connect(self.address).await.expect("TLS");
        let port = self.address.port();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: {origin}\r\nX-Forwarded-Proto: http\r\n\
             X-Forwarded-Host: evil.example\r\nX-Forwarded-Prefix: /evil\r\nForwarded: proto=http;host=evil.example\r\n\
             Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("a proxy");
        let mut line = vec![0; "HTTP/1.1 101".len()];
        stream.read_exact(&mut line).await.expect("an answer");
        String::from_utf8(line).expect("ASCII").split_off("HTTP/1.1 ".len())
    }

    /// A link over an HTTP carrier.
    async fn link_over(&self, kind: &str, path: &str) -> common::Link {
        let mut endpoint = Endpoint::new(Side::Client, Settings::default(), 0);
        endpoint.open(path, "").expect("below the limit");
        let query = format!("{HANDSHAKE_PARAMETER}={}", endpoint.handshake());
        let requests = Requests::behind(self.address, &self.files).query(&query);
        let wire = http::carry_over(requests, kind).await.expect("a link");
        let mut link = common::Link { wire, endpoint };
        assert!(matches!(link.news().await, Event::Accepted { .. }));
        link
    }

    async fn native(&self, path: &str) -> common::tls::Wire {
        let stream = self.files.connect(self.address).await.expect("TLS");
        dial(stream, self.address.port(), path, None).await
    }
}

/// Sends the client's address, in the headers and as the multiplexer has read them, then echoes.
async fn who(
    headers: HeaderMap,
    Extension(forwarded): Extension<Forwarded>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let given = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-prefix", "forwarded"].map(|name| {
        headers.get_all(name).iter().map(|value| value.to_str().expect("text")).collect::<String>()
    });
    let client = forwarded.client().map(|client| client.to_string());
    let scheme = forwarded.scheme().map(Scheme::to_string);
    let read = [client.as_deref(), scheme.as_deref(), forwarded.prefix()].map(Option::unwrap_or_default);
    let who = [given.join(" ").trim().to_owned(), read.join(" ").trim().to_owned()];
    upgrade.on_upgrade(async move |mut socket| {
        let _ = socket.send(WsMessage::Text(who.join(", ").into())).await;
        while let Some(Ok(message)) = socket.recv().await {
            let _ = socket.send(message).await;
        }
    })
}

async fn start() -> Server {
    let settings = Settings::new().ping_interval(PING_INTERVAL);
    let app = Router::new().route("/who", any(who));
    let multiplexer = Multiplexer::new("/multiplexer").settings(settings);
    Server::with(multiplexer.trust_forwarded(["loopback".parse().expect("proxies")]), app).await
}

async fn behind(program: &str) {
    let server = start().await;
    let Some(proxy) = Proxy::start(program, &server).await else { return };
    let expected = "127.0.0.1 https, 127.0.0.1 https";

    // The page's origin is the proxy's, and is let in as the server's own.
    let mut link = proxy.link("/who").await;
    let message = Message::text(expected);
    assert_eq!(link.event().await, Event::Message { channel: 1, message });
    let mut native = proxy.native("/who").await;
    let first = native.next().await.expect("open").expect("a message");
    assert_eq!(first, ts::Message::text(expected));

    // Below a prefix that the proxy removes, the same URLs open.
    let mut below = proxy.link_below("/app", "/app/who").await;
    let message = Message::text(expected);
    assert_eq!(below.event().await, Event::Message { channel: 1, message });
    let first = proxy.native("/app/who").await.next().await.expect("open").expect("a message");
    assert_eq!(first, ts::Message::text(expected));

    // The scheme counts: the proxy names it, and the host.
    for (origin, expected) in [
        (format!("https://localhost:{}", proxy.address.port()), "101"),
        (format!("http://localhost:{}", proxy.address.port()), "403"),
        ("https://evil.example".into(), "403"),
    ] {
        assert_eq!(proxy.status("/multiplexer", &origin).await, expected, "{origin}");
    }

    // Large enough for the proxies' buffers to fill.
    link.assert_echo(&"large ".repeat(50_000)).await;

    // In silence for twice as long as the proxy bears: a link is kept up by its pings, a native socket is not.
    let silent = timeout(SILENCE * 2, link.event()).await;
    silent.expect_err("the link has nothing to tell, and lives");
    link.assert_echo("still here").await;
    let ended = timeout(PATIENCE, native.next()).await.expect("the proxy has cut it");
    assert!(!matches!(ended, Some(Ok(ts::Message::Text(_) | ts::Message::Binary(_)))), "{ended:?}");
}

/// Over requests, too, messages pass at once, large ones as well, and silence ends nothing.
async fn carriers_behind(program: &str) {
    let server = start().await;
    let Some(proxy) = Proxy::start(program, &server).await else { return };
    for kind in http::KINDS {
        let mut link = proxy.link_over(kind, "/who").await;
        let message = Message::text("127.0.0.1 https, 127.0.0.1 https");
        assert_eq!(link.news().await, Event::Message { channel: 1, message });
        for text in ["small", &"large ".repeat(50_000)] {
            link.assert_echo(1, text).await;
            link.endpoint.consumed(1, 1, text.len() as u32);
        }
        let silent = timeout(SILENCE * 2, link.news()).await;
        silent.expect_err("the link has nothing to tell, and lives");
        link.assert_echo(1, "still here").await;
    }
    for origin in [format!("http://localhost:{}", proxy.address.port()), "https://evil.example".into()] {
        let requests = Requests::behind(proxy.address, &proxy.files).with(&[("origin", &origin)]);
        assert_eq!(requests.open("poll").await.err(), Some(403), "{origin}");
    }
}

/// Sends the path that a request has here.
async fn path(uri: Uri, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |mut socket| {
        let _ = socket.send(WsMessage::Text(uri.to_string().into())).await;
    })
}

/// Opens a target on a link whose client dialled a path. Returns the path that the handler has seen, or the status.
async fn opened(server: &Server, dialled: &str, prefix: Option<&str>, target: &str) -> Result<String, u16> {
    let headers: Vec<_> = prefix.map(|prefix| ("x-forwarded-prefix", prefix)).into_iter().collect();
    let mut link = common::Link::dial_with(server, &headers, |endpoint| {
        endpoint.set_dialled_path(dialled);
        endpoint.open(target, "");
    })
    .await
    .expect("a link");
    loop {
        match link.news().await {
            Event::Accepted { .. } => {}
            Event::Message { message: Message::Text(text), .. } => {
                return Ok(String::from_utf8(text.to_vec()).expect("text"));
            }
            Event::Refused { status, .. } => return Err(status),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn targets_change_as_the_path_of_the_multiplexer() {
    let inner = Router::new().route("/ws", any(path)).route("/app/ws", any(path));
    let trusting = Multiplexer::new("/multiplexer").trust_forwarded(["loopback".parse().expect("proxies")]);
    let server = Server::with(trusting, inner).await;
    let seen = |path: &str| Ok(path.to_owned());
    for (dialled, prefix, target, expected) in [
        ("/app/multiplexer", None, "/app/ws?a=/app/", seen("/ws?a=/app/")),
        ("/app/multiplexer", None, "/ws", Err(403)),
        ("/app/multiplexer", None, "/app/multiplexer", Err(400)),
        ("/app/multiplexer", None, "/app/../ws", Err(400)),
        // The client knows better than the proxy's header.
        ("/multiplexer", Some("/app"), "/app/ws", seen("/app/ws")),
        ("/app/multiplexer", Some("/other"), "/app/ws", seen("/ws")),
        // A client that sends no path.
        ("", Some("/app"), "/app/ws", seen("/ws")),
        ("", Some("/app"), "/ws", Err(403)),
        ("", None, "/app/ws", seen("/app/ws")),
    ] {
        let case = format!("{dialled} {prefix:?} {target}");
        assert_eq!(opened(&server, dialled, prefix, target).await, expected, "{case}");
    }
}

#[tokio::test]
async fn a_router_that_is_nested_removes_a_prefix_too() {
    let inner = Multiplexer::new("/multiplexer").serve(Router::new().route("/ws", any(path)));
    let outer = Router::new().nest("/app", inner);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let server = Server::at(listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, outer).await });
    let mut endpoint = Endpoint::new(Side::Client, Settings::default(), 0);
    endpoint.set_dialled_path("/app/multiplexer");
    endpoint.open("/app/ws", "");
    let url = format!("/app/multiplexer?{HANDSHAKE_PARAMETER}={}", endpoint.handshake());
    let origin = format!("http://{}", server.address);
    let headers = [("sec-websocket-protocol", SUBPROTOCOL), ("origin", origin.as_str())];
    let wire = common::dial(&server, &url, &headers).await.expect("a link");
    let mut link = common::Link { wire, endpoint };
    assert!(matches!(link.news().await, Event::Accepted { .. }));
    assert_eq!(link.news().await, Event::Message { channel: 1, message: Message::text("/ws") });
    let mut native = common::dial(&server, "/app/ws", &[]).await.expect("a socket");
    assert_eq!(native.next().await.expect("open").expect("a message"), ts::Message::text("/ws"));
}

#[tokio::test]
async fn behind_nginx() {
    behind("nginx").await;
}

#[tokio::test]
async fn behind_haproxy() {
    behind("haproxy").await;
}

#[tokio::test]
async fn http_carriers_behind_nginx() {
    carriers_behind("nginx").await;
}

#[tokio::test]
async fn http_carriers_behind_haproxy() {
    carriers_behind("haproxy").await;
}

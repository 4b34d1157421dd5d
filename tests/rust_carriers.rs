//! The client for Rust programs in networks that let no WebSockets through (docs/carriers.md).
#![cfg(not(target_arch = "wasm32"))]

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::any;
use futures_util::{FutureExt, SinkExt, StreamExt};
use manysocket::{Carrier, Carriers, Error, Message, MultiWebSocket, WebSocket};
use manysocket_protocol::client::Failure;
use manysocket_server::{Multiplexer, Stats, WebSocketUpgrade, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Turns a hang into a failure; much longer than any test takes.
const HANG: Duration = Duration::from_secs(60);

/// A network's treatment of WebSocket handshakes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum WebSockets {
    Pass,
    /// It removes their headers.
    Strip,
    /// It answers them.
    Status(u16),
    /// It never answers.
    Swallow,
    /// It passes them on, and loses the answers.
    Mute,
}

#[derive(Debug, Clone, Copy)]
struct Rules {
    websockets: WebSockets,
    /// It keeps each answer of HTTP until that ends.
    buffers: bool,
}

/// Requests of HTTP carriers that send.
#[derive(Clone, Default)]
struct Sends {
    count: Arc<AtomicUsize>,
    /// The network keeps them.
    are_held: watch::Sender<bool>,
}

/// A network in front of a server.
struct Network {
    address: SocketAddr,
    rules: Arc<Mutex<Rules>>,
    cuts: watch::Sender<usize>,
    handshakes: Arc<AtomicUsize>,
    sends: Sends,
    _running: DropGuard,
}

impl Network {
    async fn start(server: SocketAddr, rules: Rules) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let rules = Arc::new(Mutex::new(rules));
        let (cuts, running) = (watch::Sender::new(0), CancellationToken::new());
        let handshakes = Arc::new(AtomicUsize::new(0));
        let sends = Sends::default();
        let accepting = {
            let (rules, cuts, handshakes) = (Arc::clone(&rules), cuts.clone(), Arc::clone(&handshakes));
            let sends = sends.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let mut cut = cuts.subscribe();
                    let passing =
                        pass_on(client, server, Arc::clone(&rules), Arc::clone(&handshakes), sends.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            _ = passing => {}
                            _ = cut.changed() => {}
                        }
                    });
                }
            }
        };
        tokio::spawn(running.clone().run_until_cancelled_owned(accepting));
        Self { address, rules, cuts, handshakes, sends, _running: running.drop_guard() }
    }

    fn set(&self, websockets: WebSockets) {
        self.rules.lock().expect("no panic").websockets = websockets;
    }

    /// Ends all connections.
    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    fn client(&self) -> MultiWebSocket {
        MultiWebSocket::new(&format!("ws://{}/multiplexer", self.address)).expect("a URL")
    }
}

/// Passes one request on, with its answer.
async fn pass_on(
    mut client: TcpStream,
    server: SocketAddr,
    rules: Arc<Mutex<Rules>>,
    handshakes: Arc<AtomicUsize>,
    sends: Sends,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let Rules { websockets, buffers } = *rules.lock().expect("no panic");
    let end = head.windows(4).position(|end| end == b"\r\n\r\n").unwrap_or_default();
    let text = String::from_utf8_lossy(&head[..end]).into_owned();
    let is_of_upgrade = |line: &str| {
        let line = line.to_ascii_lowercase();
        line.starts_with("connection:") || line.starts_with("upgrade:")
    };
    let asks = text.to_ascii_lowercase().contains("\r\nupgrade:");
    if asks {
        handshakes.fetch_add(1, Ordering::SeqCst);
    }
    if text.contains("\r\nmanysocket-carrier: send ") {
        sends.count.fetch_add(1, Ordering::SeqCst);
        // The network lives as long as this.
        let _ = sends.are_held.subscribe().wait_for(|are_held| !are_held).await;
    }
    match websockets {
        WebSockets::Swallow if asks => {
            while client.read(&mut [0; 1024]).await? > 0 {}
            return Ok(());
        }
        WebSockets::Status(status) if asks => {
            let answer =
                format!("HTTP/1.1 {status} Refused\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            return client.write_all(answer.as_bytes()).await;
        }
        _ => {}
    }
    let upgrades = asks && websockets != WebSockets::Strip;
    let kept: Vec<_> = text.split("\r\n").filter(|line| upgrades || !is_of_upgrade(line)).collect();
    // One request for each connection.
    let close = if upgrades { "" } else { "\r\nconnection: close" };
    let mut server = TcpStream::connect(server).await?;
    server.write_all(format!("{}{close}", kept.join("\r\n")).as_bytes()).await?;
    server.write_all(&head[end..]).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = async {
        tokio::io::copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await
    };
    let down = async {
        if upgrades && websockets == WebSockets::Mute {
            while from_server.read(&mut [0; 1024]).await? > 0 {}
        } else if buffers && !upgrades {
            let mut answer = Vec::new();
            from_server.read_to_end(&mut answer).await?;
            to_client.write_all(&answer).await?;
        } else {
            tokio::io::copy(&mut from_server, &mut to_client).await?;
        }
        to_client.shutdown().await
    };
    tokio::select! {
        // A client that is gone needs no answer.
        result = up => result,
        result = down => result,
    }
}

struct Server {
    address: SocketAddr,
    stats: Stats,
    opens: Arc<AtomicUsize>,
    _running: DropGuard,
}

impl Server {
    async fn start() -> Self {
        let opens = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&opens);
        let echo = async move |upgrade: WebSocketUpgrade| {
            count.fetch_add(1, Ordering::SeqCst);
            upgrade.on_upgrade(async |mut socket| {
                while let Some(Ok(message)) = socket.recv().await {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
            })
        };
        let authorization = async |headers: HeaderMap, upgrade: WebSocketUpgrade| {
            let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let value = value.unwrap_or_default().to_owned();
            upgrade.on_upgrade(async move |mut socket| {
                let _ = socket.send(value.into()).await;
                while let Some(Ok(_)) = socket.recv().await {}
            })
        };
        let app = Router::new().route("/echo", any(echo)).route("/authorization", any(authorization));
        let multiplexer = Multiplexer::new("/multiplexer");
        let (stats, shutdown) = (multiplexer.stats(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = serve(listener, multiplexer.serve(app));
        tokio::spawn(server.with_graceful_shutdown(shutdown.clone().cancelled_owned()).into_future());
        Self { address, stats, opens, _running: shutdown.drop_guard() }
    }

    async fn behind(&self, websockets: WebSockets, buffers: bool) -> Network {
        Network::start(self.address, Rules { websockets, buffers }).await
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, future).await.expect("in time")
}

async fn until(what: impl Fn() -> bool) {
    in_time(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Lets time pass for clients and server.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

async fn opened(multi: &MultiWebSocket) -> WebSocket {
    let socket = multi.open("/echo").expect("a URL");
    in_time(socket.opened()).await.expect("an open socket");
    socket
}

async fn assert_echo(socket: &mut WebSocket, message: impl Into<Message>) {
    let message = message.into();
    let size = match &message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) => bytes.len(),
    };
    in_time(socket.send(message.clone())).await.expect("an open socket");
    let echo = in_time(socket.next()).await.expect("a message").expect("an open socket");
    assert!(echo == message, "an echo of {size} bytes");
}

#[tokio::test]
async fn a_link_finds_a_way_through_each_network() {
    let server = Server::start().await;
    for (websockets, buffers, carrier) in [
        (WebSockets::Pass, false, Carrier::WebSocket),
        (WebSockets::Strip, false, Carrier::HttpStream),
        (WebSockets::Status(400), false, Carrier::HttpStream),
        (WebSockets::Status(502), false, Carrier::HttpStream),
        (WebSockets::Swallow, false, Carrier::HttpStream),
        (WebSockets::Strip, true, Carrier::HttpPoll),
        (WebSockets::Swallow, true, Carrier::HttpPoll),
    ] {
        let network = server.behind(websockets, buffers).await;
        let multi = network.client();
        assert_eq!(multi.carrier(), None);
        let mut socket = opened(&multi).await;
        assert_eq!(multi.carrier(), Some(carrier), "{websockets:?}");
        for size in [0, 1, 125, 126, 65_535, 65_536, 300_000, 2_000_000] {
            assert_echo(&mut socket, "é".repeat(size / 2)).await;
            assert_echo(&mut socket, vec![size as u8; size]).await;
        }
        let handle = socket.handle();
        handle.close(Some(3001), "done").expect("a code");
        let close = in_time(handle.closed()).await;
        assert_eq!((close.code, &*close.reason, close.was_clean), (3001, "done", true));
        // The link closes with its last socket, and its connection in good order.
        drop(socket);
        pass(11).await;
        until(|| server.stats.links() == 0).await;
        assert_eq!(server.stats.parked(), 0);
    }
}

#[tokio::test]
async fn what_the_server_has_not_confirmed_counts_as_buffered_over_http() {
    const MESSAGES: usize = 20;
    const BYTES: usize = 10_000;
    let server = Server::start().await;
    for buffers in [false, true] {
        let network = server.behind(WebSockets::Strip, buffers).await;
        let multi = network.client();
        let mut socket = opened(&multi).await;
        assert_echo(&mut socket, "ready").await;
        assert_eq!(socket.buffered_amount(), 0);
        let Sends { count, are_held } = &network.sends;
        are_held.send_replace(true);
        let before = count.load(Ordering::SeqCst);
        // The carrier has room for all of them.
        for _ in 0..MESSAGES {
            in_time(socket.feed(vec![7; BYTES].into())).await.expect("an open socket");
        }
        until(|| count.load(Ordering::SeqCst) > before).await;
        assert_eq!(socket.buffered_amount(), (MESSAGES * BYTES) as u64);
        assert!(socket.flush().now_or_never().is_none(), "the server has nothing yet");
        are_held.send_replace(false);
        in_time(socket.flush()).await.expect("an open socket");
        assert_eq!(socket.buffered_amount(), 0);
        for _ in 0..MESSAGES {
            let echo = in_time(socket.next()).await.expect("a message").expect("an open socket");
            assert!(echo == vec![7; BYTES].into());
        }
    }
}

#[tokio::test]
async fn a_program_chooses_what_carries_its_links() {
    let server = Server::start().await;
    let network = server.behind(WebSockets::Pass, false).await;
    let multi = network.client().carriers(Carriers::Http);
    assert_echo(&mut opened(&multi).await, "over HTTP").await;
    assert_eq!(multi.carrier(), Some(Carrier::HttpStream));
    assert_eq!(network.handshakes.load(Ordering::SeqCst), 0);
    network.set(WebSockets::Status(502));
    let multi = network.client().carriers(Carriers::WebSocket);
    let failed = in_time(multi.open("/echo").expect("a URL").opened()).await;
    assert_eq!(failed, Err(Error::Failed(Failure::Link)));
    assert_eq!(multi.carrier(), None);
}

#[tokio::test]
async fn a_later_link_dials_over_http_at_once() {
    let server = Server::start().await;
    let network = server.behind(WebSockets::Status(502), false).await;
    let multi = network.client();
    drop(opened(&multi).await);
    until(|| server.stats.channels() == 0).await;
    pass(11).await;
    until(|| server.stats.links() == 0 && multi.carrier().is_none()).await;
    let before = network.handshakes.load(Ordering::SeqCst);
    drop(opened(&multi).await);
    assert_eq!(network.handshakes.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn headers_of_the_program_pass_over_http() {
    let server = Server::start().await;
    let network = server.behind(WebSockets::Strip, false).await;
    let multi = network.client().header(header::AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
    let mut socket = multi.open("/authorization").expect("a URL");
    let first = in_time(socket.next()).await.expect("a message").expect("an open socket");
    assert_eq!(first, "Bearer abc".into());
}

/// A proxy, say, or a server that answers all requests.
#[tokio::test]
async fn a_server_that_is_no_multiplexer_is_not_taken_for_one() {
    let kind = (header::CONTENT_TYPE, "application/octet-stream");
    let page = "<!doctype html><title>of 32 characters or more</title>";
    let app = Router::new().fallback(any(async move || ([kind], page).into_response()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(axum::serve(listener, app).into_future());
    for carriers in [Carriers::Any, Carriers::Http] {
        let url = format!("ws://{address}/multiplexer");
        let multi = MultiWebSocket::new(&url).expect("a URL").carriers(carriers);
        let failed = in_time(multi.open("/echo").expect("a URL").opened()).await;
        assert_eq!(failed, Err(Error::Failed(Failure::Link)));
    }
}

#[tokio::test]
async fn a_network_that_loses_the_answers_to_websockets_has_the_server_open_sockets_once() {
    let server = Server::start().await;
    let network = server.behind(WebSockets::Mute, false).await;
    let multi = network.client();
    let mut socket = opened(&multi).await;
    assert_echo(&mut socket, "over HTTP").await;
    assert_eq!(multi.carrier(), Some(Carrier::HttpStream));
    assert_eq!(server.opens.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_link_goes_over_http_when_no_other_websocket_opens() {
    let server = Server::start().await;
    let network = server.behind(WebSockets::Pass, false).await;
    let multi = network.client();
    let mut socket = opened(&multi).await;
    assert_echo(&mut socket, "before").await;
    network.set(WebSockets::Status(502));
    network.cut();
    assert_echo(&mut socket, "after").await;
    assert_eq!(multi.carrier(), Some(Carrier::HttpStream));
    assert_eq!(server.stats.totals().links_resumed, 1);
}

/// Awaits the echo of a numbered message, while others are under way.
async fn exchange(socket: &mut WebSocket, numbers: std::ops::Range<usize>) {
    for number in numbers.clone() {
        in_time(socket.send(number.to_string().into())).await.expect("an open socket");
    }
    for number in numbers {
        let echo = in_time(socket.next()).await.expect("a message").expect("an open socket");
        assert_eq!(echo, number.to_string().into());
    }
}

#[tokio::test]
async fn a_link_returns_to_a_websocket_and_not_at_once_to_one_that_dies() {
    let server = Server::start().await;
    for buffers in [false, true] {
        let network = server.behind(WebSockets::Strip, buffers).await;
        let carrier = if buffers { Carrier::HttpPoll } else { Carrier::HttpStream };
        let multi = network.client();
        let mut socket = opened(&multi).await;
        exchange(&mut socket, 0..10).await;
        network.set(WebSockets::Pass);
        // Twice, a WebSocket opens and dies soon; and each time, the next one is tried later.
        for (nth, delay) in [5, 10].into_iter().enumerate() {
            let before = network.handshakes.load(Ordering::SeqCst);
            pass(delay - 1).await;
            exchange(&mut socket, nth..nth + 10).await;
            assert_eq!(network.handshakes.load(Ordering::SeqCst), before, "not before {delay} s");
            pass(2).await;
            until(|| multi.carrier() == Some(Carrier::WebSocket)).await;
            exchange(&mut socket, nth..nth + 10).await;
            network.cut();
            exchange(&mut socket, nth..nth + 10).await;
            assert_eq!(multi.carrier(), Some(carrier), "over HTTP at once");
            assert_eq!(network.handshakes.load(Ordering::SeqCst), before + 1);
        }
        // This one lasts for a minute.
        pass(21).await;
        until(|| multi.carrier() == Some(Carrier::WebSocket)).await;
        exchange(&mut socket, 0..10).await;
        for _ in 0..4 {
            // Pings are answered meanwhile.
            pass(16).await;
            exchange(&mut socket, 0..10).await;
        }
        network.cut();
        exchange(&mut socket, 0..10).await;
        assert_eq!(multi.carrier(), Some(Carrier::WebSocket));
    }
}

#[tokio::test]
async fn each_message_arrives_once_however_often_connections_are_cut() {
    const CUTS: usize = 25;
    let server = Server::start().await;
    for (websockets, buffers) in
        [(WebSockets::Pass, false), (WebSockets::Strip, false), (WebSockets::Strip, true)]
    {
        let network = server.behind(websockets, buffers).await;
        let multi = network.client();
        let mut socket = opened(&multi).await;
        exchange(&mut socket, 0..10).await;
        let text = |number: usize| format!("{number} {}", "x".repeat([10, 3_000, 70_000][number % 41 % 3]));
        let (mut sent, mut cuts) = (0, 0);
        for received in 0..CUTS * 12 {
            // Always some under way, in both directions, when the connections are cut.
            while sent < (received + 8).min(CUTS * 12) {
                in_time(socket.send(text(sent).into())).await.expect("an open socket");
                sent += 1;
            }
            let echo = in_time(socket.next()).await.expect("a message").expect("an open socket");
            assert!(echo == text(received).into(), "{websockets:?}: message {received}");
            if received % 12 == 5 {
                // A network that changes its mind, too.
                network.set(if cuts % 4 == 3 { WebSockets::Pass } else { websockets });
                network.cut();
                cuts += 1;
            }
        }
        assert_eq!(cuts, CUTS);
    }
}

//! Links outlive their connections: the client for Rust programs and a real server, with a proxy between them that cuts.
//!
//! `MANYSOCKET_CUTS=10000` asks for more cuts than a test's share.
#![cfg(not(target_arch = "wasm32"))]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use axum::routing::any;
use futures_util::{SinkExt, StreamExt, future};
use manysocket::{Carriers, Error, Message, MultiWebSocket, WebSocket};
use manysocket_server::{Multiplexer, Stats, WebSocketUpgrade, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Turns a hang into a failure; much longer than any test takes.
const HANG: Duration = Duration::from_secs(120);

struct Server {
    address: SocketAddr,
    stats: Stats,
}

impl Server {
    async fn start() -> Self {
        Self::with(|multiplexer| multiplexer).await
    }

    async fn with(set: impl FnOnce(Multiplexer) -> Multiplexer) -> Self {
        let app = Router::new().route("/echo", any(echo));
        let multiplexer = set(Multiplexer::new("/multiplexer"));
        let stats = multiplexer.stats();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, multiplexer.serve(app)).into_future());
        Self { address, stats }
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

/// A proxy that cuts connections, as networks do: nobody gets a Close.
struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: Mutex<SocketAddr>,
    /// Each change cuts all connections.
    cuts: watch::Sender<usize>,
    /// How many bytes each connection carries before it is cut, by its number.
    allowance: Mutex<Box<dyn FnMut() -> usize + Send>>,
    /// While it is false, connections wait.
    accepts: watch::Sender<bool>,
    /// How many of the next connections get status 502, and no server.
    refusals: AtomicUsize,
    /// Each change ends what the client receives, and leaves all else open.
    half_closes: watch::Sender<usize>,
    /// The bytes that connections have carried in both directions.
    carried: AtomicUsize,
}

impl Proxy {
    async fn start(to: SocketAddr) -> Self {
        Self::with(to, || usize::MAX).await
    }

    async fn with(to: SocketAddr, allowance: impl FnMut() -> usize + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            to: Mutex::new(to),
            cuts: watch::channel(0).0,
            allowance: Mutex::new(Box::new(allowance)),
            accepts: watch::channel(true).0,
            refusals: AtomicUsize::new(0),
            half_closes: watch::channel(0).0,
            carried: AtomicUsize::new(0),
        });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, Arc::clone(&accepting)));
            }
        });
        Self { address, shared }
    }

    fn client(&self) -> MultiWebSocket {
        MultiWebSocket::new(&format!("ws://{}/multiplexer", self.address)).expect("a URL")
    }

    fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    fn accept(&self, accepts: bool) {
        self.shared.accepts.send_replace(accepts);
    }

    fn refuse(&self, connections: usize) {
        self.shared.refusals.store(connections, Ordering::Relaxed);
    }

    fn half_close(&self) {
        self.shared.half_closes.send_modify(|count| *count += 1);
    }

    fn carried(&self) -> usize {
        self.shared.carried.load(Ordering::Relaxed)
    }

    fn lead_to(&self, server: &Server) {
        *self.shared.to.lock().expect("no panic") = server.address;
    }
}

async fn carry(mut client: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    let mut half_closes = shared.half_closes.subscribe();
    let mut accepts = shared.accepts.subscribe();
    let allowance = (shared.allowance.lock().expect("no panic"))();
    accepts.wait_for(|accepts| *accepts).await.expect("the proxy lives");
    let fewer = |left: usize| left.checked_sub(1);
    if shared.refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok() {
        let _ = client.read(&mut [0; 4096]).await;
        let _ = client
            .write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await;
        return;
    }
    let to = *shared.to.lock().expect("no panic");
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    let forward = async {
        let (mut left, mut up, mut down) = (allowance, [0; 4096], [0; 4096]);
        while left > 0 {
            let (count, bytes, out) = tokio::select! {
                read = client.read(&mut up) => (read.unwrap_or(0), &up, &mut server),
                read = server.read(&mut down) => (read.unwrap_or(0), &down, &mut client),
            };
            let passed = count.min(left);
            shared.carried.fetch_add(passed, Ordering::Relaxed);
            if count == 0 || out.write_all(&bytes[..passed]).await.is_err() {
                return;
            }
            left -= passed;
        }
    };
    tokio::select! {
        () = forward => {}
        _ = cuts.changed() => {}
        _ = half_closes.changed() => {
            let _ = client.shutdown().await;
            // The server learns nothing of it.
            let _ = cuts.changed().await;
        }
    }
    // Reset, not closed: bytes in flight are lost.
    for stream in [&client, &server] {
        let _ = stream.set_zero_linger();
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, work).await.expect("a hang")
}

async fn send(socket: &mut WebSocket, text: &str) {
    within(socket.send(Message::Text(text.into()))).await.expect("an open socket");
}

async fn receive(socket: &mut WebSocket) -> Result<Message, Error> {
    within(socket.next()).await.expect("an open socket")
}

async fn open(client: &MultiWebSocket) -> WebSocket {
    let socket = client.open("/echo").expect("a URL");
    within(socket.opened()).await.expect("an open socket");
    socket
}

/// Waits until the client's acknowledgement of its token has arrived: the echo comes behind it.
async fn settle(socket: &mut WebSocket) {
    send(socket, "settle").await;
    assert_eq!(receive(socket).await, Ok(Message::Text("settle".into())));
}

async fn until(what: impl Fn() -> bool) {
    within(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_outlives_the_connection() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address).await;
    let client = proxy.client();
    let mut socket = open(&client).await;
    settle(&mut socket).await;
    for n in 1..=20_u64 {
        proxy.cut();
        send(&mut socket, &n.to_string()).await;
        assert_eq!(receive(&mut socket).await, Ok(Message::Text(n.to_string())));
        until(|| server.stats.totals().links_resumed == n).await;
    }
    assert_eq!((server.stats.links(), server.stats.parked(), server.stats.channels()), (1, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn opens_wait_for_the_next_connection() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address).await;
    let client = proxy.client();
    let mut first = open(&client).await;
    settle(&mut first).await;
    proxy.accept(false);
    proxy.cut();
    until(|| server.stats.parked() == 1).await;
    let second = client.open("/echo").expect("a URL");
    // Not flushed: that waits for the connection.
    within(first.feed(Message::Text("meanwhile".into()))).await.expect("an open socket");
    proxy.accept(true);
    within(second.opened()).await.expect("an open socket");
    assert_eq!(receive(&mut first).await, Ok(Message::Text("meanwhile".into())));
    assert_eq!((server.stats.links(), server.stats.totals().links_opened), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_know_the_link_ends_it_at_once() {
    let server = Server::start().await;
    let other = Server::start().await;
    let proxy = Proxy::start(server.address).await;
    let client = proxy.client();
    let mut socket = open(&client).await;
    settle(&mut socket).await;
    proxy.lead_to(&other);
    proxy.cut();
    assert!(matches!(receive(&mut socket).await, Err(Error::Lost)));
    // The next one is a new link.
    open(&client).await;
    assert_eq!(other.stats.totals().links_opened, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_ends_with_its_connection_if_either_side_wants_that() {
    for (by_client, by_server) in [(true, false), (false, true), (true, true)] {
        let keep = if by_server { Duration::ZERO } else { Duration::from_secs(30) };
        let server = Server::with(|multiplexer| multiplexer.resume_timeout(keep)).await;
        let proxy = Proxy::start(server.address).await;
        let client = proxy.client().resume(!by_client);
        let mut socket = open(&client).await;
        settle(&mut socket).await;
        proxy.accept(false);
        proxy.cut();
        assert!(matches!(receive(&mut socket).await, Err(Error::Lost)));
        until(|| server.stats.links() == 0 && server.stats.channels() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_nobody_resumes_ends_in_time() {
    let server = Server::with(|multiplexer| multiplexer.resume_timeout(Duration::from_millis(300))).await;
    let proxy = Proxy::start(server.address).await;
    let client = proxy.client();
    let mut socket = open(&client).await;
    settle(&mut socket).await;
    proxy.accept(false);
    proxy.cut();
    until(|| server.stats.parked() == 1).await;
    until(|| server.stats.links() == 0 && server.stats.channels() == 0).await;
    assert!(matches!(receive(&mut socket).await, Err(Error::Lost)));
    assert_eq!(server.stats.parked(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_answers_502_delays_a_link_and_does_not_end_it() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address).await;
    let client = proxy.client().carriers(Carriers::WebSocket);
    let mut socket = open(&client).await;
    settle(&mut socket).await;
    proxy.refuse(3);
    proxy.cut();
    send(&mut socket, "after").await;
    assert_eq!(receive(&mut socket).await, Ok(Message::Text("after".into())));
    assert_eq!(proxy.shared.refusals.load(Ordering::Relaxed), 0, "each was an attempt");
    assert_eq!(server.stats.totals().links_resumed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_closed_connection_gives_way_though_the_server_still_has_it() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address).await;
    let client = proxy.client().carriers(Carriers::WebSocket);
    let mut socket = open(&client).await;
    settle(&mut socket).await;
    for n in 1..=5_u64 {
        proxy.half_close();
        send(&mut socket, &n.to_string()).await;
        assert_eq!(receive(&mut socket).await, Ok(Message::Text(n.to_string())));
        until(|| server.stats.totals().links_resumed == n).await;
    }
    assert_eq!((server.stats.links(), server.stats.parked(), server.stats.channels()), (1, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumption_that_is_cut_again_before_its_answer_is_repeated() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address).await;
    let client = proxy.client().carriers(Carriers::WebSocket);
    let mut socket = open(&client).await;
    settle(&mut socket).await;
    // The bytes of a handshake and of RESUME, and each is cut a little later than the one before.
    let mut allowance = 0;
    *proxy.shared.allowance.lock().expect("no panic") = Box::new(move || {
        allowance += 60;
        if allowance > 900 { usize::MAX } else { allowance }
    });
    proxy.cut();
    for n in 0..5 {
        send(&mut socket, &n.to_string()).await;
    }
    for n in 0..5 {
        assert_eq!(receive(&mut socket).await, Ok(Message::Text(n.to_string())));
    }
    assert_eq!(server.stats.totals().links_opened, 1);
}

/// Returns the bytes that an exchange of `messages` of the given size takes there and back, each.
async fn bytes_per_message(resume: bool, messages: usize, size: usize) -> f64 {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address).await;
    let client = proxy.client().resume(resume);
    let mut socket = open(&client).await;
    settle(&mut socket).await;
    let before = proxy.carried();
    let content = "x".repeat(size);
    for _ in 0..messages {
        send(&mut socket, &content).await;
        assert_eq!(receive(&mut socket).await, Ok(Message::Text(content.clone())));
    }
    (proxy.carried() - before) as f64 / (2 * messages) as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn resumption_adds_few_bytes_to_what_messages_take() {
    for (messages, size, most) in [(3_000, 32, 0.1), (100, 65_536, 64.0)] {
        let with = bytes_per_message(true, messages, size).await;
        let without = bytes_per_message(false, messages, size).await;
        println!("{size} B: {with:.3} bytes a message, {without:.3} without resumption");
        assert!(with - without < most, "{size} B: {with} and {without}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_connections_are_cut_each_message_arrives_once_and_in_order() {
    const SOCKETS: usize = 5;
    let cuts = std::env::var("MANYSOCKET_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(300);
    let server = Server::start().await;
    let mut state = 1_u64;
    let mut count = 0;
    let allowance = move || {
        count += 1;
        if count > cuts {
            return usize::MAX;
        }
        // A linear congruential generator: the same cuts in each run.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = (state >> 33) as usize;
        // Some are cut before the server has answered.
        if random.is_multiple_of(20) { random / 20 % 900 } else { 900 + random / 20 % 60_000 }
    };
    let proxy = Proxy::with(server.address, || usize::MAX).await;
    // A link over HTTP outlives most of these cuts without a resumption: rust_carriers.rs has it.
    let client = proxy.client().carriers(Carriers::WebSocket);
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        let mut socket = open(&client).await;
        settle(&mut socket).await;
        sockets.push(socket);
    }
    *proxy.shared.allowance.lock().expect("no panic") = Box::new(allowance);
    proxy.cut();
    let resumed = || server.stats.totals().links_resumed as usize;
    let exchanges = sockets.into_iter().enumerate().map(|(number, mut socket)| async move {
        let content =
            |n: usize| format!("{number} {n} {}", "x".repeat(if n.is_multiple_of(7) { 1_500 } else { 10 }));
        let (mut sent, mut received) = (0, 0);
        // Most carriers carry more than one cut's worth; the last one is not cut.
        while resumed() < cuts / 2 || received < 100 {
            while sent < received + 8 {
                send(&mut socket, &content(sent)).await;
                sent += 1;
            }
            assert_eq!(receive(&mut socket).await, Ok(Message::Text(content(received))));
            received += 1;
        }
        received
    });
    let received: usize = future::join_all(exchanges).await.into_iter().sum();
    println!("{} resumptions, {received} messages", resumed());
    let crossed = server.stats.totals().limits_crossed;
    assert!(!crossed.contains_key("max_resumptions"), "a link that makes progress does not wait");
    assert_eq!(server.stats.totals().links_opened, 1);
}

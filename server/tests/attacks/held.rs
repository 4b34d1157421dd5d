//! The memory that the process holds for links: at most one and a half times the counted memory.

use futures_util::SinkExt;
use manysocket_protocol::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite as ts;

use crate::common::binary::Binary;
use crate::common::http::{self, KINDS, Requests};
use crate::common::http2;
use crate::common::tls::{self, Files};
use crate::common::upstream::upstream;
use crate::common::{Link, Wire, get};
use crate::wire::{
    BINARY, BINARY_PART, ECHO, GRANT, MAX_CHANNELS, OPEN, PING_INTERVAL, TEXT, WINDOW, batch, batch_bytes,
    frame, greeted, hello, opened, opens, settled, silent, unknown,
};

/// Memory that does not grow with the attack, in bytes: pages of the program that are used for the first time, and memory that the
/// allocator keeps.
const SLACK: usize = 10 << 20;

/// A server, and its memory before the attack.
struct Measured {
    binary: Binary,
    metrics: std::net::SocketAddr,
    before: usize,
}

impl Measured {
    async fn start(arguments: &[&str]) -> Self {
        let arguments = [&["--metrics", "127.0.0.1:0"], arguments].concat();
        let mut binary = Binary::start(&arguments, &[]).await;
        let line = binary.logged("metrics on http://").await;
        let address = line.split("http://").nth(1).and_then(|rest| rest.strip_suffix("/metrics"));
        let metrics = address.expect("an address").parse().expect("an address");
        let before = binary.memory("VmRSS") << 10;
        Self { binary, metrics, before }
    }

    async fn metric(&self, name: &str) -> usize {
        let text = get(self.metrics, "/metrics").await;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        lines.next().expect("the figure").parse().expect("a number")
    }

    async fn counted(&self) -> usize {
        self.metric("manysocket_memory_bytes").await
    }

    /// Waits until so many channels are open.
    async fn has_channels(&self, count: usize) {
        while self.metric("manysocket_channels").await < count {}
    }

    /// Returns the memory that has been added since the start.
    fn held(&self) -> usize {
        (self.binary.memory("VmRSS") << 10).saturating_sub(self.before)
    }

    /// Checks the server's rule, and prints the memory that it holds.
    async fn is_held(&self, what: &str) {
        let counted = self.counted().await;
        let held = self.held();
        eprintln!("| {what} | counted {:.1} MiB | held {:.1} MiB |", mib(counted), mib(held));
        assert!(held <= counted * 3 / 2 + SLACK, "{what}: {held} bytes held, {counted} counted");
    }
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A link that grants next to nothing, with channels that are open.
async fn stingy(measured: &Measured, channels: usize) -> Wire {
    let mut wire = silent(&measured.binary.server).await;
    let settings = hello(&[(WINDOW, 16 * 1024), (PING_INTERVAL, 0), (MAX_CHANNELS, 0)]);
    wire.send(batch(&settings, "", &[])).await.expect("an open link");
    let before = measured.metric("manysocket_channels").await;
    wire.send(opens(1, channels, ECHO)).await.expect("an open link");
    measured.has_channels(before + channels).await;
    wire
}

/// Small messages between large ones that are thrown away: none may keep the buffer that it came in.
#[tokio::test]
async fn messages_beside_junk() {
    let measured = Measured::start(&[]).await;
    let mut wires = Vec::new();
    for (size, junk) in [(4_100, 60_000), (12_000, 60_000), (20_000, 200_000), (2_000, 14_000)] {
        let mut wire = stingy(&measured, 20).await;
        let junk = batch(&unknown(&vec![0; junk]), "", &[]);
        for _ in 0..250_000 / (size + 64) {
            for channel in 1..=20 {
                wire.feed(ts::Message::text(format!("{channel}:{}", "x".repeat(size))))
                    .await
                    .expect("a link");
                wire.feed(junk.clone()).await.expect("an open link");
            }
        }
        wire.flush().await.expect("an open link");
        settled(&mut wire).await;
        wires.push(wire);
        measured.is_held(&format!("messages of {size} bytes beside junk")).await;
    }
}

/// Idle carriers, and some whose clients do not read their echoes.
#[tokio::test]
async fn http_carriers() {
    for kind in KINDS {
        let measured = Measured::start(&[]).await;
        let requests = Requests::new(&measured.binary.server);
        let mut carriers = Vec::new();
        for _ in 0..1000 {
            carriers.push(requests.open(kind).await.expect("a carrier"));
        }
        measured.is_held(&format!("1,000 idle HTTP carriers ({kind})")).await;
    }
}

/// Echoes that the clients of polls never ask for.
#[tokio::test]
async fn polls_that_do_not_come() {
    let measured = Measured::start(&[]).await;
    let requests = Requests::new(&measured.binary.server);
    for polls in 1..=50 {
        let (id, _) = requests.open("poll").await.expect("a carrier");
        let first = [hello(&[]), frame(1, OPEN, &[ECHO.len(), 0])].concat();
        let mut bytes = http::frame(0x82, &batch_bytes(&first, ECHO, &[]));
        assert_eq!(requests.send(&id, 0, bytes.clone()).await, 204);
        measured.has_channels(polls).await;
        let sent = bytes.len() as u64;
        bytes.clear();
        for _ in 0..4 {
            let message = batch_bytes(&frame(1, BINARY, &[60_000]), "", &[0; 60_000]);
            bytes.extend(http::frame(0x82, &message));
        }
        assert_eq!(requests.send(&id, sent, bytes).await, 204);
    }
    // The last echoes may be on their way.
    while measured.counted().await < 50 * 4 * 60_000 {}
    measured.is_held("50 polls with echoes that nobody takes").await;
}

/// The cost of messages besides their content.
#[tokio::test]
async fn the_smallest_messages() {
    for (size, count) in [(0, 4_000), (1, 3_900), (30, 2_700), (100, 1_500)] {
        let measured = Measured::start(&[]).await;
        let mut wire = stingy(&measured, 40).await;
        for channel in 1..=40 {
            let headers = frame(channel, TEXT, &[size]).repeat(count);
            wire.send(batch(&headers, &"x".repeat(size * count), &[])).await.expect("an open link");
        }
        settled(&mut wire).await;
        measured.is_held(&format!("{} messages of {size} bytes", 40 * count)).await;
    }
}

/// Pieces of messages that never end.
#[tokio::test]
async fn unfinished_messages() {
    for (piece, pieces) in [(1, 2_000), (4_000, 60), (70_000, 3)] {
        let measured = Measured::start(&[]).await;
        let mut wire = stingy(&measured, 100).await;
        for channel in 1..=100 {
            for _ in 0..pieces {
                let headers = frame(channel, BINARY_PART, &[piece]);
                wire.feed(batch(&headers, "", &vec![1; piece])).await.expect("an open link");
            }
        }
        wire.flush().await.expect("an open link");
        settled(&mut wire).await;
        measured.is_held(&format!("100 messages of which {pieces} pieces of {piece} bytes came")).await;
    }
}

/// A batch of a million frames leaves nothing behind.
#[tokio::test]
async fn links_that_were_busy() {
    let measured = Measured::start(&[]).await;
    let mut wires = Vec::new();
    for _ in 0..20 {
        let mut wire = opened(&measured.binary.server, ECHO).await;
        wire.send(batch(&unknown(&vec![0; 3_000_000]), "", &[])).await.expect("an open link");
        wire.send(batch(&frame(1, GRANT, &[0]).repeat(500_000), "", &[])).await.expect("an open link");
        settled(&mut wire).await;
        // A large message, there and back.
        let headers = [frame(1, GRANT, &[1 << 20]), frame(1, BINARY, &[200_000])].concat();
        wire.send(batch(&headers, "", &vec![1; 200_000])).await.expect("an open link");
        settled(&mut wire).await;
        wires.push(wire);
    }
    measured.is_held("20 links after large messages").await;
}

/// Cookies of 30 kB, and heads of very many small lines.
#[tokio::test]
async fn heads() {
    let measured = Measured::start(&[]).await;
    let mut links = Vec::new();
    let cookie = "c".repeat(30_000);
    for _ in 0..300 {
        links.push(
            Link::dial_with(&measured.binary.server, &[("cookie", &cookie)], |_| {}).await.expect("a link"),
        );
    }
    measured.is_held("300 links with cookies of 30 kB").await;
    let counted = measured.counted().await;
    assert!(counted >= 300 * 30_000, "{counted}");
    let names: Vec<&'static str> = (0..80).map(|at| &*format!("x-own-{at}").leak()).collect();
    let lines: Vec<(&'static str, &str)> = names.iter().map(|name| (*name, "v")).collect();
    for _ in 0..300 {
        links.push(Link::dial_with(&measured.binary.server, &lines, |_| {}).await.expect("a link"));
    }
    measured.is_held("300 links with 80 lines of their own, too").await;
    drop(links);
    while measured.counted().await > 0 {}
}

/// A head of 32 KiB is accepted, and none that is longer, in however many lines.
#[tokio::test]
async fn the_largest_head() {
    let measured = Measured::start(&[]).await;
    let address = measured.binary.server.address;
    for lines in [1, 20] {
        for (length, expected) in
            [(32 << 10, "200"), ((32 << 10) + 1, "431"), (36 << 10, "431"), (48 << 10, "431")]
        {
            let first = format!("GET /demo/stats HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
            let left = length - first.len() - 2 - lines * "X-00: \r\n".len();
            let mut request = first;
            for line in 0..lines {
                let value = if line == 0 { left / lines + left % lines } else { left / lines };
                request += &format!("X-{line:02}: {}\r\n", "x".repeat(value));
            }
            request += "\r\n";
            assert_eq!(request.len(), length);
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            let _ = stream.write_all(request.as_bytes()).await;
            let mut answer = vec![0; 12];
            stream.read_exact(&mut answer).await.expect("an answer");
            assert_eq!(String::from_utf8_lossy(&answer[9..]), expected, "{length} bytes in {lines} lines");
        }
    }
}

/// Links and channels that do nothing.
#[tokio::test]
async fn idle_links_and_channels() {
    let measured = Measured::start(&[]).await;
    let mut wires = Vec::new();
    for _ in 0..1000 {
        wires.push(greeted(&measured.binary.server).await);
    }
    settled(wires.last_mut().expect("a link")).await;
    measured.is_held("1,000 idle links").await;
    let mut wire = greeted(&measured.binary.server).await;
    for first in (0..10_000).step_by(500) {
        wire.send(opens(first + 1, 500, ECHO)).await.expect("an open link");
        settled(&mut wire).await;
    }
    measured.has_channels(10_000).await;
    measured.is_held("10,000 idle channels, too").await;
}

/// Opens that an upstream never answers.
#[tokio::test]
async fn opens_that_hang() {
    const DIALLED: usize = 4 * 256;
    let (dials, mut dialled) = tokio::sync::watch::channel(0);
    let hanging = move |stream, _| {
        dials.send_modify(|dials| *dials += 1);
        async move {
            std::future::pending::<()>().await;
            drop(stream);
        }
    };
    let address = upstream(hanging).await;
    let measured = Measured::start(&["--upstream", &format!("/up=ws://{address}")]).await;
    let mut wires = Vec::new();
    for _ in 0..4 {
        let mut wire = greeted(&measured.binary.server).await;
        wire.send(opens(1, 400, "/up")).await.expect("an open link");
        settled(&mut wire).await;
        wires.push(wire);
    }
    dialled.wait_for(|dials| *dials == DIALLED).await.expect("an upstream");
    measured.is_held("4 links with 256 opens each that hang, and 144 that wait").await;
    assert!(measured.counted().await >= DIALLED * 10 * 1024);
}

/// TLS of the server's own, with HTTP/1.1 and HTTP/2: beside an equal number of links without it.
#[tokio::test]
async fn links_over_tls() {
    const LINKS: usize = 500;
    let files = Files::new();
    let (certificate, key) = (files.path("cert.pem"), files.path("key.pem"));
    let [certificate, key] = [&certificate, &key].map(|path| path.to_str().expect("UTF-8"));
    let options = ["--tls-cert", certificate, "--tls-key", key];
    let [plain, secure, new] =
        [Measured::start(&[]).await, Measured::start(&options).await, Measured::start(&options).await];
    let address = secure.binary.server.address;
    let (mut wires, mut links, mut connections) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..LINKS {
        wires.push(opened(&plain.binary.server, ECHO).await);
        let stream = files.connect(address).await.expect("TLS");
        links.push(tls::Link::over(stream, address.port(), ECHO).await);
        let address = new.binary.server.address;
        let stream = files.connect_for(address, &["h2"]).await.expect("TLS");
        let mut connection =
            http2::Connection::over(stream, format!("https://localhost:{}", address.port())).await;
        connections.push((connection.link(ECHO).await, connection));
    }
    let (counted_plain, held_plain) = (plain.counted().await, plain.held());
    for (name, measured) in [("TLS", secure), ("TLS and HTTP/2", new)] {
        let counted = measured.counted().await - counted_plain;
        let held = measured.held().saturating_sub(held_plain);
        eprintln!(
            "| {name} of {LINKS} links | counted {:.1} MiB | held {:.1} MiB |",
            mib(counted),
            mib(held)
        );
        // Both have the same slack.
        assert!(held <= counted * 3 / 2 + SLACK / 10, "{held} bytes held for {name}, {counted} counted");
        assert!(counted <= held * 3 / 2 + SLACK / 10, "{counted} bytes counted for {name}, {held} held");
    }
}

/// Large echoes that a page reads, and never takes.
#[tokio::test]
async fn large_messages() {
    let measured = Measured::start(&[]).await;
    let mut link = Link::dial(&measured.binary.server).await;
    let mut channels = Vec::new();
    for _ in 0..32 {
        channels.push(link.open(ECHO).await);
    }
    for (size, channels) in [20_000, 100_000, 1_000_000, 5_000_000].into_iter().zip(channels.chunks(8)) {
        for &channel in channels {
            link.endpoint.send(channel, Message::binary(vec![1; size]));
            link.endpoint.send(channel, Message::text("x".repeat(size)));
        }
        link.flush().await;
        settled(&mut link.wire).await;
    }
    measured.is_held("large echoes that are never taken").await;
}

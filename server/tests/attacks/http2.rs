//! Attacks by the frames of HTTP/2 (RFC 9113), written by hand. The codec answers them; the server has to use one that does.

use manysocket_protocol::SUBPROTOCOL;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::common::PATIENCE;
use crate::common::binary::Binary;
use crate::common::http2::Connection;
use crate::common::tls::Files;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Error codes of GOAWAY (RFC 9113 §7).
const PROTOCOL_ERROR: u32 = 1;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

/// More than an attack may make the server hold, in kB.
const MOST: usize = 64 * 1024;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A string as HPACK has it, without Huffman's code (RFC 7541 §5.2).
fn string(text: &str) -> Vec<u8> {
    let mut length = text.len();
    let mut bytes = Vec::new();
    if length < 127 {
        bytes.push(length as u8);
    } else {
        bytes.push(127);
        length -= 127;
        while length >= 128 {
            bytes.push(length as u8 | 128);
            length /= 128;
        }
        bytes.push(length as u8);
    }
    bytes.extend(text.as_bytes());
    bytes
}

/// A header that no table keeps.
fn header(name: &str, value: &str) -> Vec<u8> {
    [vec![0], string(name), string(value)].concat()
}

/// `GET https://localhost/`.
fn get() -> Vec<u8> {
    [vec![0x82, 0x87, 0x84, 0x01], string("localhost")].concat()
}

/// The handshake of a WebSocket, from any page of the server's own.
fn handshake(port: u16, path: &str, protocol: &str) -> Vec<u8> {
    let host = format!("localhost:{port}");
    [
        header(":method", "CONNECT"),
        header(":protocol", "websocket"),
        header(":scheme", "https"),
        header(":path", path),
        header(":authority", &host),
        header("origin", &format!("https://{host}")),
        header("sec-websocket-version", "13"),
        header("sec-websocket-protocol", protocol),
    ]
    .concat()
}

/// The server, and a link beside the attacks.
struct Attacked {
    binary: Binary,
    files: Files,
    before: usize,
}

impl Attacked {
    async fn start() -> Self {
        let files = Files::new();
        let (certificate, key) = (files.path("cert.pem"), files.path("key.pem"));
        let [certificate, key] = [&certificate, &key].map(|path| path.to_str().expect("UTF-8"));
        let binary = Binary::start(&["--tls-cert", certificate, "--tls-key", key], &[]).await;
        let attacked = Self { before: 0, binary, files };
        attacked.is_served().await;
        let before = attacked.binary.memory("VmHWM");
        Self { before, ..attacked }
    }

    fn port(&self) -> u16 {
        self.binary.server.address.port()
    }

    async fn is_served(&self) {
        let stream = self.files.connect_for(self.binary.server.address, &["h2"]).await.expect("TLS");
        let mut connection = Connection::over(stream, format!("https://localhost:{}", self.port())).await;
        connection.link("/demo/echo").await.assert_echo("unharmed").await;
    }

    /// A connection whose frames are written by hand.
    async fn connect(&self) -> (ReadHalf<TlsStream<TcpStream>>, WriteHalf<TlsStream<TcpStream>>) {
        let stream = self.files.connect_for(self.binary.server.address, &["h2"]).await.expect("TLS");
        let (from, mut to) = tokio::io::split(stream);
        let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, &[])[..]].concat();
        to.write_all(&begin).await.expect("a server");
        (from, to)
    }

    /// Sends frames, and returns the code of the GOAWAY that answers them.
    async fn sent_away(&self, name: &str, frames: &[u8]) -> u32 {
        let (from, mut to) = self.connect().await;
        let sending = async move {
            // The server may end the connection meanwhile.
            let _ = to.write_all(frames).await;
            to
        };
        let (code, _to) = tokio::join!(timeout(PATIENCE, goaway(from)), sending);
        self.is_unharmed(name).await;
        code.expect("GOAWAY in time")
    }

    async fn is_unharmed(&self, name: &str) {
        self.is_served().await;
        let more = self.binary.memory("VmHWM") - self.before;
        eprintln!("{name}: {more} kB");
        assert!(more <= MOST, "{name}: {more} kB");
    }
}

/// Reads a frame; returns its kind, its stream and its payload.
async fn next(from: &mut ReadHalf<TlsStream<TcpStream>>) -> (u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    from.read_exact(&mut head).await.expect("a frame");
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    from.read_exact(&mut payload).await.expect("a frame");
    (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload)
}

/// Reads up to GOAWAY, and returns its code.
async fn goaway(mut from: ReadHalf<TlsStream<TcpStream>>) -> u32 {
    loop {
        if let (GOAWAY, _, payload) = next(&mut from).await {
            return u32::from_be_bytes(payload[4..8].try_into().expect("four bytes"));
        }
    }
}

/// Reads up to the answer on a stream.
async fn answer(mut from: ReadHalf<TlsStream<TcpStream>>, stream: u32) {
    loop {
        match next(&mut from).await {
            (HEADERS, of, _) if of == stream => return,
            (kind, ..) => assert_ne!(kind, GOAWAY),
        }
    }
}

/// CVE-2023-44487, for pages and for links.
#[tokio::test]
async fn rapid_reset() {
    let attacked = Attacked::start().await;
    for block in [get(), handshake(attacked.port(), "/multiplexer", SUBPROTOCOL)] {
        let pair = |at: u32| {
            let stream = 2 * at + 1;
            [frame(HEADERS, END_HEADERS, stream, &block), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])]
                .concat()
        };
        // A page that leaves, or changes its mind.
        let (from, mut to) = attacked.connect().await;
        let frames = (0..320).map(pair).chain([frame(HEADERS, END_STREAM | END_HEADERS, 641, &get())]);
        to.write_all(&frames.collect::<Vec<_>>().concat()).await.expect("a server");
        timeout(PATIENCE, answer(from, 641)).await.expect("an answer in time");
        let frames = (0..20_000).map(pair).collect::<Vec<_>>().concat();
        assert_eq!(attacked.sent_away("20,000 streams reset at once", &frames).await, ENHANCE_YOUR_CALM);
    }
}

/// CVE-2024-27316.
#[tokio::test]
async fn continuation_without_end() {
    let attacked = Attacked::start().await;
    let mut frames = frame(HEADERS, END_STREAM, 1, &get());
    for at in 0..2000 {
        frames.extend(frame(CONTINUATION, 0, 1, &header(&format!("x-{at}"), &"x".repeat(16_000))));
    }
    let code = attacked.sent_away("CONTINUATION without end", &frames).await;
    assert!([COMPRESSION_ERROR, ENHANCE_YOUR_CALM].contains(&code), "{code}");
    // Empty ones.
    let mut frames = frame(HEADERS, END_STREAM, 1, &get());
    frames.extend(frame(CONTINUATION, 0, 1, &[]).repeat(20_000));
    assert_eq!(attacked.sent_away("empty CONTINUATION", &frames).await, ENHANCE_YOUR_CALM);
}

/// Each byte of the block stands for a header of 4 kB.
#[tokio::test]
async fn hpack_bomb() {
    let attacked = Attacked::start().await;
    let block = [get(), vec![0x40], string("x"), string(&"x".repeat(4000)), vec![0xbe; 12_000]].concat();
    let frames = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block);
    let code = attacked.sent_away("48 MB of headers in 16 kB", &frames).await;
    assert!([PROTOCOL_ERROR, COMPRESSION_ERROR, ENHANCE_YOUR_CALM].contains(&code), "{code}");
}

/// Frames of one byte, for an echo that waits until its client reads.
#[tokio::test]
async fn tiny_data() {
    let attacked = Attacked::start().await;
    // The client's window is 0: nothing can be answered.
    let window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let open = frame(HEADERS, END_HEADERS, 1, &handshake(attacked.port(), "/demo/echo", "a"));
    // Messages of one byte, masked with 0.
    let message = [0x82, 0x81, 0, 0, 0, 0, 7];
    let bytes = message.iter().map(|byte| frame(DATA, 0, 1, &[*byte])).collect::<Vec<_>>().concat();
    let frames = [window, open, bytes.repeat(30_000)].concat();
    assert_eq!(attacked.sent_away("210,000 bytes in frames of one", &frames).await, ENHANCE_YOUR_CALM);
}

/// CVE-2019-9512, -9515 and -9518: frames that ask for an answer, or do nothing, from a client that does not read.
#[tokio::test]
async fn floods() {
    let attacked = Attacked::start().await;
    let open = frame(HEADERS, END_HEADERS, 1, &handshake(attacked.port(), "/demo/echo", "a"));
    for (name, one) in [
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("empty DATA", frame(DATA, 0, 1, &[])),
        ("unknown frames", frame(0xfa, 0, 0, &[0; 8])),
    ] {
        let (_from, mut to) = attacked.connect().await;
        let frames = [open.clone(), one.repeat(500_000)].concat();
        // The server may end the connection, or stop reading.
        let _ = timeout(std::time::Duration::from_secs(2), to.write_all(&frames)).await;
        attacked.is_unharmed(name).await;
    }
}

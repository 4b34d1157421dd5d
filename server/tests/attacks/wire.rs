//! Frames made by hand, and connections that carry them.

use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::SUBPROTOCOL;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite as ts;

use crate::common::{self, PATIENCE, Server, Wire};

/// Kinds of frames (docs/protocol.md §5).
pub(crate) const TEXT: usize = 0;
pub(crate) const BINARY: usize = 2;
pub(crate) const BINARY_PART: usize = 3;
pub(crate) const RAW: usize = 4;
pub(crate) const OPEN: usize = 6;
pub(crate) const ACCEPT: usize = 7;
pub(crate) const REFUSE: usize = 8;
pub(crate) const CLOSE: usize = 9;
pub(crate) const GRANT: usize = 10;
pub(crate) const LINK: usize = 11;

/// Parameters of HELLO (docs/protocol.md §3.1).
pub(crate) const MAX_CHANNELS: usize = 1;
pub(crate) const WINDOW: usize = 2;
pub(crate) const MAX_MESSAGE: usize = 3;
pub(crate) const MAX_FRAGMENT: usize = 4;
pub(crate) const PING_INTERVAL: usize = 5;

/// The largest credit that there may be (docs/protocol.md §6).
pub(crate) const MAX_CREDIT: usize = (1 << 31) - 1;

/// LINK frames.
pub(crate) const PING: [u8; 2] = [1 << 4 | LINK as u8, 0];

/// The path of the endpoint that says all back.
pub(crate) const ECHO: &str = "/demo/echo";

pub(crate) fn integer(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The header of a frame.
pub(crate) fn frame(channel: usize, kind: usize, arguments: &[usize]) -> Vec<u8> {
    let mut header = Vec::new();
    integer(channel << 4 | kind, &mut header);
    for &argument in arguments {
        integer(argument, &mut header);
    }
    header
}

/// A HELLO with these parameters.
pub(crate) fn hello(parameters: &[(usize, usize)]) -> Vec<u8> {
    let mut body = Vec::new();
    for &(key, value) in parameters {
        integer(key, &mut body);
        integer(value, &mut body);
    }
    [frame(0, LINK, &[body.len()]), body].concat()
}

/// A LINK frame of a type that a later version may have.
pub(crate) fn unknown(body: &[u8]) -> Vec<u8> {
    [&frame(100, LINK, &[body.len()]), body].concat()
}

/// The bytes of a batch: headers, text and binary contents.
pub(crate) fn batch_bytes(headers: &[u8], text: &str, binary: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    integer(headers.len(), &mut bytes);
    integer(text.len(), &mut bytes);
    bytes.extend([headers, text.as_bytes(), binary].concat());
    bytes
}

pub(crate) fn batch(headers: &[u8], text: &str, binary: &[u8]) -> ts::Message {
    ts::Message::Binary(batch_bytes(headers, text, binary).into())
}

/// A batch that opens so many channels at one path, from a number on.
pub(crate) fn opens(first: usize, count: usize, path: &str) -> ts::Message {
    let headers: Vec<u8> =
        (first..first + count).flat_map(|channel| frame(channel, OPEN, &[path.len(), 0])).collect();
    batch(&headers, &path.repeat(count), &[])
}

/// A physical frame as a client sends it (RFC 6455 §5.2): of at most 125 bytes, with a masking key that changes nothing.
pub(crate) fn physical(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short");
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// A physical connection that has said nothing.
pub(crate) async fn silent(server: &Server) -> Wire {
    let origin = format!("http://{}", server.address);
    let headers = [("origin", origin.as_str()), ("sec-websocket-protocol", SUBPROTOCOL)];
    common::dial(server, "/multiplexer", &headers).await.expect("a link")
}

/// One that has said HELLO.
pub(crate) async fn greeted(server: &Server) -> Wire {
    let mut wire = silent(server).await;
    wire.send(batch(&hello(&[]), "", &[])).await.expect("an open link");
    wire
}

/// One with channel 1 open, at a path.
pub(crate) async fn opened(server: &Server, path: &str) -> Wire {
    let mut wire = greeted(server).await;
    wire.send(opens(1, 1, path)).await.expect("an open link");
    // HELLO may arrive in a separate message.
    while !next(&mut wire).await.into_data().ends_with(&frame(1, ACCEPT, &[0])) {}
    wire
}

/// The next physical message of a link that lives.
pub(crate) async fn next(wire: &mut Wire) -> ts::Message {
    let message = tokio::time::timeout(PATIENCE, wire.next()).await.expect("a message in time");
    message.expect("a message").expect("a message")
}

/// Waits until the server has read all that was sent to it, and skips its messages.
pub(crate) async fn settled(wire: &mut Wire) {
    wire.send(ts::Message::Ping(vec![].into())).await.expect("an open link");
    loop {
        match next(wire).await {
            ts::Message::Pong(_) => return,
            ts::Message::Close(frame) => panic!("{frame:?}"),
            _ => {}
        }
    }
}

/// The code and the reason with which the server ends a link.
pub(crate) async fn end(wire: &mut Wire) -> (u16, String) {
    let reading = async {
        loop {
            match wire.next().await {
                Some(Ok(ts::Message::Close(Some(frame)))) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(ts::Message::Close(None))) => return (1005, String::new()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (1006, String::new()),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("an end in time")
}

pub(crate) async fn code(wire: &mut Wire) -> u16 {
    end(wire).await.0
}

/// Writes bytes so many times past the library that carries the link, then a ping, and reads until the pong: then the
/// server has taken all of it.
pub(crate) async fn flood(wire: Wire, bytes: Vec<u8>, times: usize) {
    const LAST: &[u8] = b"that was all";
    let MaybeTlsStream::Plain(stream) = wire.into_inner() else { panic!("no TLS") };
    let (mut reader, mut writer) = stream.into_split();
    let writing = tokio::spawn(async move {
        for _ in 0..times {
            writer.write_all(&bytes).await.expect("an open link");
        }
        writer.write_all(&physical(0x89, LAST)).await.expect("an open link");
        writer
    });
    let (mut part, mut tail) = (vec![0; 64 * 1024], Vec::new());
    while !tail.windows(LAST.len()).any(|window| window == LAST) {
        let reading = tokio::time::timeout(PATIENCE, reader.read(&mut part));
        let length = reading.await.expect("something in time").expect("an open link");
        assert_ne!(length, 0, "the link ended: {:?}", String::from_utf8_lossy(&tail));
        // The wanted text may arrive in two parts.
        tail.drain(..tail.len().saturating_sub(LAST.len()));
        tail.extend_from_slice(&part[..length]);
    }
    writing.await.expect("a link that took all");
}

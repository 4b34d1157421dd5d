//! Peers that have the server answer, and read none of the answers.

use std::time::Duration;

use manysocket_protocol::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::MaybeTlsStream;

use crate::common::binary::Binary;
use crate::common::upstream::{accepting, frame, upstream};
use crate::common::{Link, PATIENCE, Wire, dial};
use crate::wire::{ECHO, PING, batch_bytes, greeted, opens, physical};

/// The bytes that each sends: several times the buffers of both sides.
const SENT: usize = 24 << 20;

/// The most memory that the server takes for it, in kB: memory that an allocator keeps, and no part of `SENT`.
const MOST: usize = 12 << 10;

fn stream(wire: Wire) -> TcpStream {
    let MaybeTlsStream::Plain(stream) = wire.into_inner() else { panic!("no TLS") };
    stream
}

/// Writes the same bytes again and again until the server has been sent `SENT` bytes, or takes none for a while.
async fn pour(stream: &mut TcpStream, bytes: &[u8]) {
    let mut sent = 0;
    while sent < SENT {
        match tokio::time::timeout(Duration::from_secs(2), stream.write_all(bytes)).await {
            Ok(Ok(())) => sent += bytes.len(),
            // The server has stopped reading, or has ended the connection: both answer the attack.
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// The same to a server that never stops reading: not half a frame may be missing.
async fn pour_all(stream: &mut TcpStream, bytes: &[u8]) {
    for _ in 0..SENT.div_ceil(bytes.len()) {
        let written = tokio::time::timeout(PATIENCE, stream.write_all(bytes)).await;
        written.expect("a server that reads on").expect("an open link");
    }
}

/// Pings whose answers nobody reads take no memory, on every kind of connection.
#[tokio::test]
async fn pings_whose_answers_are_not_read() {
    let binary = Binary::start(&[], &[]).await;
    let before = binary.memory("VmRSS");
    let chunk = |payload: &[u8]| physical(0x89, payload).repeat(500);
    for payload in [&[0; 125][..], &[0; 10], &[]] {
        let mut link = stream(greeted(&binary.server).await);
        pour_all(&mut link, &chunk(payload)).await;
        let origin = format!("http://{}", binary.server.address);
        let native = dial(&binary.server, ECHO, &[("origin", &origin)]).await.expect("a socket");
        let mut native = stream(native);
        pour(&mut native, &chunk(payload)).await;
        let most = binary.memory("VmHWM") - before;
        assert!(most <= MOST, "{most} kB for pings of {} bytes", payload.len());
        // The latest is answered once they are read.
        let mut read = vec![0; 1 << 16];
        link.write_all(&physical(0x89, b"the last")).await.expect("an open link");
        let mut tail = Vec::new();
        while !tail.windows(8).any(|window| window == b"the last") {
            let length = link.read(&mut read).await.expect("an open link");
            assert_ne!(length, 0, "the link ended");
            tail.drain(..tail.len().saturating_sub(8));
            tail.extend_from_slice(&read[..length]);
        }
    }
}

/// The link's own pings, in batches.
#[tokio::test]
async fn batches_whose_answers_are_not_read() {
    let binary = Binary::start(&[], &[]).await;
    let before = binary.memory("VmRSS");
    for headers in [PING.to_vec(), PING.repeat(20)] {
        let mut link = stream(greeted(&binary.server).await);
        pour(&mut link, &physical(0x82, &batch_bytes(&headers, "", &[])).repeat(1000)).await;
        let most = binary.memory("VmHWM") - before;
        assert!(most <= MOST, "{most} kB");
    }
}

/// Refusals and accepts: as many as there may be channels, however often they are asked for.
#[tokio::test]
async fn opens_whose_answers_are_not_read() {
    let binary = Binary::start(&["--max-channels", "500"], &[]).await;
    let before = binary.memory("VmRSS");
    for path in [ECHO, "/nowhere"] {
        let mut wire = greeted(&binary.server).await;
        let opens = opens(1, 1500, path).into_data();
        let mut bytes = vec![0x82, 0xfe];
        bytes.extend(u16::try_from(opens.len()).expect("short").to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&opens);
        wire.get_mut().write_all(&bytes).await.expect("an open link");
        let mut link = stream(wire);
        // Each is taken, so the second time ends the link: the memory of waiting messages is freed.
        pour(&mut link, &bytes).await;
        let most = binary.memory("VmHWM") - before;
        assert!(most <= MOST, "{most} kB");
    }
}

/// A gateway's upstream does it to the gateway.
#[tokio::test]
async fn an_upstream_whose_pings_are_answered_in_vain() {
    let address = upstream(async |mut stream: TcpStream, head: String| {
        let answer = accepting(&head, "");
        stream.write_all(answer.as_bytes()).await.expect("a gateway");
        pour(&mut stream, &frame(0x89, &[0; 125]).repeat(500)).await;
        // Then it reports that it is done.
        stream.write_all(&frame(0x81, b"done")).await.expect("a gateway");
        std::future::pending::<()>().await;
    })
    .await;
    let upstream = format!("/up=ws://{address}");
    let binary = Binary::start(&["--upstream", &upstream], &[]).await;
    let before = binary.memory("VmRSS");
    let mut link = Link::dial(&binary.server).await;
    let channel = link.open("/up").await;
    let done = manysocket_protocol::Event::Message { channel, message: Message::text("done") };
    assert_eq!(link.news().await, done);
    let most = binary.memory("VmHWM") - before;
    assert!(most <= MOST, "{most} kB for channel {channel}");
}

/// Messages without content cost credit, too: their echoes wait for it where they are counted.
#[tokio::test]
async fn empty_echoes_that_are_never_granted() {
    let binary = Binary::start(&[], &[]).await;
    let mut link = Link::dial(&binary.server).await;
    let channel = link.open(ECHO).await;
    let before = binary.memory("VmRSS");
    for _ in 0..200 {
        for _ in 0..4000 {
            link.endpoint.send(channel, Message::binary(vec![]));
        }
        link.flush().await;
        settle(&mut link).await;
    }
    let most = binary.memory("VmRSS") - before;
    assert!(most <= MOST, "{most} kB");
}

/// Waits until the server has read all that was sent. Its own messages are read, and never consumed.
async fn settle(link: &mut Link) {
    use futures_util::{SinkExt, StreamExt};
    use manysocket_protocol::Physical;
    use tokio_tungstenite::tungstenite as ts;

    link.wire.send(ts::Message::Ping(vec![].into())).await.expect("an open link");
    loop {
        match link.wire.next().await.expect("a message").expect("a message") {
            ts::Message::Pong(_) => break,
            ts::Message::Text(text) => {
                link.endpoint.receive(0, Physical::Text(text.into())).expect("correct");
            }
            ts::Message::Binary(bytes) => link.endpoint.receive(0, Physical::Binary(bytes)).expect("correct"),
            other => panic!("{other:?}"),
        }
        while link.endpoint.poll_event().is_some() {}
    }
}

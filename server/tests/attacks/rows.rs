//! Attacks that are rows of the table of docs/security.md only: they take seconds, and other tests check the end of
//! each.

use std::time::Duration;

use futures_util::SinkExt;
use manysocket_protocol::{Event, Message};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite as ts;

use crate::common::{Link, Server, Wire};
use crate::harmless::Document;
use crate::measure::survive;
use crate::wire::{
    ACCEPT, ECHO, WINDOW, batch, frame, greeted, hello, next, opens, physical, silent, unknown,
};

const ANY: usize = usize::MAX;
const INDEX: &str = "/demo/topics/";

/// How long a connection takes nothing before the attacker calls it stalled.
const STALLED: Duration = Duration::from_secs(1);

/// Writes to a connection, without reading from it, until it ends, takes nothing any more, or has taken all.
async fn pour(wire: Wire, bytes: &[u8], times: usize) {
    let MaybeTlsStream::Plain(mut stream) = wire.into_inner() else { panic!("no TLS") };
    for _ in 0..times {
        if !matches!(timeout(STALLED, stream.write_all(bytes)).await, Ok(Ok(()))) {
            return;
        }
    }
}

#[tokio::test]
#[ignore = "a row of the table"]
async fn pings_unread() {
    survive("pings whose pongs are never read", &[], ANY, async |binary| {
        let ping = physical(0x89, &[0; 125]).repeat(1000);
        pour(greeted(&binary.server).await, &ping, 800).await;
    })
    .await;
}

#[tokio::test]
#[ignore = "a row of the table"]
async fn large_heads() {
    survive("1,000 links with heads of 30 KB", &[], ANY, async |binary| {
        let cookie = format!("a={}", "x".repeat(30_000));
        let mut links = Vec::new();
        for _ in 0..1000 {
            links
                .push(Link::dial_with(&binary.server, &[("cookie", &cookie)], |_| {}).await.expect("a link"));
        }
    })
    .await;
}

/// Each message is just long enough to be shared with the buffer that it was read into, and the buffer is full of frames that
/// mean nothing.
#[tokio::test]
#[ignore = "a row of the table"]
async fn messages_that_keep_buffers() {
    survive("small messages that keep large buffers", &[], ANY, async |binary| {
        const CHANNELS: usize = 200;
        // A window that lets nothing of the echoes out: the handlers stop, and the messages wait.
        let mut wire = silent(&binary.server).await;
        wire.send(batch(&hello(&[(WINDOW, 16_384)]), "", &[])).await.expect("an open link");
        // One by one, so that each answer stands at the end of a message.
        for channel in 1..=CHANNELS {
            wire.send(opens(channel, 1, ECHO)).await.expect("an open link");
            while !next(&mut wire).await.into_data().ends_with(&frame(channel, ACCEPT, &[0])) {}
        }
        let junk = batch(&unknown(&[0; 60_000]), "", &[]);
        for _ in 0..10 {
            for channel in 1..=CHANNELS {
                let text = format!("{channel}:{}", "x".repeat(4100));
                for message in [ts::Message::text(text), junk.clone()] {
                    // The server may end the link.
                    if !matches!(timeout(STALLED, wire.send(message)).await, Ok(Ok(()))) {
                        return;
                    }
                }
            }
        }
    })
    .await;
}

/// Opens so many topics with names of so many bytes more, and keeps them.
async fn topics(server: &Server, count: usize, more: usize) -> (Link, Vec<u32>) {
    let mut link = Link::dial(server).await;
    let mut channels = Vec::new();
    for n in 0..count {
        channels.push(link.open(&format!("{INDEX}{n:05}{}", "n".repeat(more))).await);
    }
    (link, channels)
}

#[tokio::test]
#[ignore = "a row of the table"]
async fn topics_that_keep_messages() {
    survive("2,000 topics that keep two large messages each", &[], ANY, async |binary| {
        let (mut link, channels) = topics(&binary.server, 2000, 0).await;
        for _ in 0..2 {
            for &channel in &channels {
                link.endpoint.send(channel, Message::binary(vec![0; 65_500]));
                // The topic's own copy; a channel that is closed was refused by the limit.
                loop {
                    match link.event().await {
                        Ok(Event::Drained { .. }) => {}
                        Ok(Event::Message { channel, message }) => {
                            link.endpoint.consumed(channel, 1, message.units());
                            break;
                        }
                        Ok(Event::Closed { channel, close }) => {
                            link.endpoint.close(channel, close.code, "");
                            break;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "a row of the table"]
async fn event_streams() {
    survive("500 event streams of an index that changes", &[], ANY, async |binary| {
        let address = binary.server.address;
        let _names = topics(&binary.server, 1000, 100).await;
        let mut streams = Vec::new();
        for _ in 0..500 {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            let request =
                format!("GET {INDEX} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("a server");
            stream.read_u8().await.expect("an answer");
            streams.push(stream);
        }
        for _ in 0..20 {
            drop(topics(&binary.server, 20, 50).await);
        }
    })
    .await;
}

/// Makes a document of nested objects of the largest size; returns the refusal of the commit beyond it.
async fn fill(document: &mut Document<'_>, copies: usize) -> Value {
    let chain = (0..90).fold(json!({}), |inner, _| json!({ "": inner }));
    let copy = json!({"op": "copy", "from": "/g/0/0", "path": "/g/0/-"});
    document.commit(&json!([{"op": "add", "path": "", "value": {"g": [[chain]]}}])).await;
    document.commit(&Value::Array(vec![copy; 300])).await;
    for _ in 0..copies {
        let answer = document.commit(&json!([{"op": "copy", "from": "/g/0", "path": "/g/-"}])).await;
        if !answer["error"].is_null() {
            return answer;
        }
    }
    Value::Null
}

#[tokio::test]
#[ignore = "a row of the table"]
async fn nested_documents() {
    survive("documents of nested objects", &[], ANY, async |binary| {
        let mut link = Link::dial(&binary.server).await;
        for n in 0..4 {
            let answer = fill(&mut Document::open(&mut link, &format!("nested{n}")).await, 12).await;
            // Out of memory for documents.
            if answer["error"] == "storage" {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "a row of the table"]
async fn commits_that_fail() {
    survive("3,200 commits that fail on a heavy document", &[], ANY, async |binary| {
        let mut link = Link::dial(&binary.server).await;
        fill(&mut Document::open(&mut link, "heavy").await, 4).await;
        let mut tasks = JoinSet::new();
        for _ in 0..16 {
            let server = Server::at(binary.server.address);
            tasks.spawn(async move {
                let mut link = Link::dial(&server).await;
                let mut document = Document::open(&mut link, "heavy").await;
                for _ in 0..200 {
                    document.commit(&json!([{"op": "test", "path": "/none", "value": 1}])).await;
                }
            });
        }
        tasks.join_all().await;
    })
    .await;
}

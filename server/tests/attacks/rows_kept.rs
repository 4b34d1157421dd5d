//! Rows of the table of docs/security.md: attacks by what outlives a connection, a request or the server. The effect of each is
//! tested in resume.rs, topic_stored.rs and rpc_streams.rs.

use futures_util::SinkExt;
use manysocket_protocol::{Event, Message};
use serde_json::Value;
use tokio_tungstenite::tungstenite as ts;

use crate::common::binary::OWN_FOLDER;
use crate::common::resuming::{arrive, link, resume, resumed};
use crate::common::{Link, Server};
use crate::measure::survive;
use crate::wire::ECHO;

const ANY: usize = usize::MAX;

const RESUMPTIONS: usize = 2_000;

#[tokio::test]
#[ignore = "a row of the table"]
async fn resumptions_in_vain() {
    survive("2,000 resumptions of a link that takes nothing", &[], ANY, async |binary| {
        let (mut link, channel) = link(&binary.server, ECHO, &[]).await;
        for _ in 0..3 {
            link.endpoint.send(channel, Message::binary(vec![0; 60_000]));
        }
        link.flush().await;
        for _ in 0..RESUMPTIONS {
            resumed(&binary.server, &mut link, &[]).await;
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "a row of the table"]
async fn resumptions_with_progress() {
    survive("2,000 resumptions with an echo each", &[], ANY, async |binary| {
        let (mut link, channel) = link(&binary.server, ECHO, &[]).await;
        for _ in 0..RESUMPTIONS {
            resumed(&binary.server, &mut link, &[]).await;
            link.assert_echo(channel, "hello").await;
            link.endpoint.consumed(channel, 1, 5);
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "a row of the table"]
async fn resumptions_of_nothing() {
    survive("2,000 connections that resume no link", &[], ANY, async |binary| {
        let (mut link, _) = link(&binary.server, ECHO, &[]).await;
        let mut first = resume(&mut link);
        // Another token each time.
        for n in 0..RESUMPTIONS {
            let token = first.len() - 16;
            first[token..token + 8].copy_from_slice(&n.to_be_bytes());
            let mut wire = arrive(&binary.server, &[], first.clone()).await.expect("a connection");
            wire.close(None).await.expect("an open connection");
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "a row of the table"]
async fn parked_links() {
    survive("1,000 links that wait for their clients, with 20 KB each", &[], ANY, async |binary| {
        for _ in 0..1_000 {
            let (mut link, channel) = link(&binary.server, ECHO, &[]).await;
            link.assert_echo(channel, &"x".repeat(20_000)).await;
        }
    })
    .await;
}

/// The next message of a socket, as JSON.
async fn next(link: &mut Link) -> Value {
    let news = link.news().await;
    let Event::Message { channel, message } = news else { panic!("{news:?}") };
    link.endpoint.consumed(channel, 1, message.units());
    let Message::Text(text) = message else { panic!("{message:?}") };
    serde_json::from_slice(&text).expect("JSON")
}

const TOPIC: &str = "/demo/topics/stored";

/// Subscribes with positions and publishes so many messages; returns the epoch.
async fn publish(server: &Server, count: usize, bytes: usize) -> String {
    /// Messages on their way at once.
    const ROUND: usize = 64;
    let mut link = Link::dial(server).await;
    let channel = link.open(&format!("{TOPIC}?since=")).await;
    let greeting = next(&mut link).await;
    for _ in 0..count / ROUND {
        for _ in 0..ROUND {
            link.endpoint.send(channel, Message::text("x".repeat(bytes)));
        }
        let mut published = 0;
        while published < ROUND {
            published += usize::from(next(&mut link).await.get("published").is_some());
        }
    }
    greeting["epoch"].as_str().expect("an epoch").to_owned()
}

#[tokio::test]
#[ignore = "a row of the table"]
async fn messages_to_a_stored_topic() {
    survive("3,200 messages of 1 KB to a stored topic", &["--data", OWN_FOLDER], ANY, async |binary| {
        publish(&binary.server, 3_200, 1_000).await;
    })
    .await;
}

#[tokio::test]
#[ignore = "a row of the table"]
async fn subscribers_from_the_beginning() {
    survive(
        "2,000 subscribers of a stored topic from its beginning, unread",
        &["--data", OWN_FOLDER],
        ANY,
        async |binary| {
            let epoch = publish(&binary.server, 640, 1_000).await;
            let path = format!("{TOPIC}?since=0.{epoch}");
            let mut link = Link::dial(&binary.server).await;
            for _ in 0..2_000 {
                link.endpoint.open(&path, "").expect("a channel");
            }
            let mut opened = 0;
            while opened < 2_000 {
                opened += usize::from(matches!(link.news().await, Event::Accepted { .. }));
            }
        },
    )
    .await;
}

const PRIMES: &str = "/demo/rpc/primes/below";

#[tokio::test]
#[ignore = "a row of the table"]
async fn streams_that_are_not_taken() {
    survive("256 streams on each of 16 sockets, of which nothing is taken", &[], ANY, async |binary| {
        let mut link = Link::dial(&binary.server).await;
        let mut channels = Vec::new();
        for _ in 0..16 {
            channels.push(link.open(PRIMES).await);
        }
        for &channel in &channels {
            for _ in 0..256 {
                link.endpoint.send(channel, Message::text("[10000000]"));
            }
        }
        // Until the windows are full, or all streams wait.
        let mut started = 0;
        while started < channels.len() {
            let Event::Message { message, .. } = link.news().await else { panic!("no message") };
            started += usize::from(message == Message::text(r#"{"stream":0}"#));
        }
        link.wire.send(ts::Message::Ping(vec![].into())).await.expect("an open link");
        link.flush().await;
    })
    .await;
}

#[tokio::test]
#[ignore = "a row of the table"]
async fn streams_that_are_cancelled() {
    survive("2,000 streamed calls that are cancelled at once", &[], ANY, async |binary| {
        /// Calls on their way at once.
        const ROUND: usize = 100;
        let mut link = Link::dial(&binary.server).await;
        let channel = link.open(PRIMES).await;
        for round in 0..20 {
            for n in 0..ROUND {
                link.endpoint.send(channel, Message::text("[10000000]"));
                let cancel = format!(r#"{{"cancel":{}}}"#, round * ROUND + n);
                link.endpoint.send(channel, Message::text(cancel));
            }
            let mut ended = 0;
            while ended < ROUND {
                ended += usize::from(next(&mut link).await.get("error").is_some());
            }
        }
    })
    .await;
}

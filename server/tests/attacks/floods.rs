//! Very many very small things: messages, pieces of messages, frames without content.

use futures_util::SinkExt;
use manysocket_protocol::{Event, Message};
use tokio::io::AsyncWriteExt;

use crate::common::{Link, Server};
use crate::measure::survive;
use crate::wire::{
    BINARY_PART, ECHO, GRANT, PING, RAW, batch, batch_bytes, flood, frame, greeted, opened, physical,
    settled, unknown,
};

/// The first byte of a physical frame (RFC 6455 §5.2): a whole binary message, the beginning of one, a later piece, ping, pong.
const BINARY: u8 = 0x82;
const BINARY_BEGUN: u8 = 0x02;
const CONTINUATION: u8 = 0x00;
const PHYSICAL_PING: u8 = 0x89;
const PHYSICAL_PONG: u8 = 0x8a;

#[tokio::test]
async fn a_million_pieces_of_a_byte() {
    survive("a million pieces of one byte", &[], 64, async |binary| {
        let mut wire = opened(&binary.server, ECHO).await;
        // A window holds four thousand; a GRANT comes for half of that. Behind 16,389 the channel closes: no message needs more.
        let (headers, bytes) = (frame(1, BINARY_PART, &[1]).repeat(1000), [0; 1000]);
        for _ in 0..1000 {
            wire.send(batch(&headers, "", &bytes)).await.expect("an open link");
            settled(&mut wire).await;
        }
        binary.logged("a message larger than any may be").await;
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_empty_messages() {
    survive("200,000 empty messages", &[], 64, async |binary| {
        let mut link = Link::dial(&binary.server).await;
        let channel = link.open(ECHO).await;
        for _ in 0..20 {
            for _ in 0..10_000 {
                link.endpoint.send(channel, Message::binary(vec![]));
            }
            for _ in 0..10_000 {
                let news = link.news().await;
                assert!(matches!(news, Event::Message { .. }), "{news:?}");
                link.endpoint.consumed(channel, 1, 0);
            }
        }
    })
    .await;
}

/// As "ping flood" and "settings flood" of HTTP/2 (CVE-2019-9512, -9515).
#[tokio::test]
async fn a_flood_of_control_frames() {
    survive("20 million control frames in batches", &[], 64, async |binary| {
        let mut wire = opened(&binary.server, ECHO).await;
        let toggle = [frame(1, RAW, &[]), frame(0, RAW, &[])].concat();
        let kinds = [PING.to_vec(), frame(1, GRANT, &[0]), toggle, unknown(b"later")];
        for headers in kinds {
            let batch = batch(&headers.repeat(250_000), "", &[]);
            for _ in 0..20 {
                wire.send(batch.clone()).await.expect("an open link");
            }
            settled(&mut wire).await;
        }
    })
    .await;
}

/// Sends physical frames over a few links at once, so that the server's threads are all busy with them.
async fn flood_links(server: &Server, bytes: &[u8], times: usize) {
    let mut links = tokio::task::JoinSet::new();
    for _ in 0..4 {
        links.spawn(flood(greeted(server).await, bytes.to_vec(), times));
    }
    links.join_all().await;
}

#[tokio::test]
async fn a_flood_of_small_batches() {
    survive("4 links, a million batches of one PING", &[], 64, async |binary| {
        let ping = physical(BINARY, &batch_bytes(&PING, "", &[]));
        flood_links(&binary.server, &ping.repeat(1000), 250).await;
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_physical_pings() {
    survive("4 links, 400,000 physical pings", &[], 64, async |binary| {
        flood_links(&binary.server, &physical(PHYSICAL_PING, b"").repeat(1000), 100).await;
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_physical_pongs() {
    survive("4 links, a million physical pongs", &[], 64, async |binary| {
        flood_links(&binary.server, &physical(PHYSICAL_PONG, b"").repeat(1000), 250).await;
    })
    .await;
}

/// As HTTP/2's (CVE-2024-27316): one message, whose end never comes.
#[tokio::test]
async fn a_flood_of_continuations() {
    survive("4 links, a million empty continuations", &[], 64, async |binary| {
        let pieces = physical(CONTINUATION, b"").repeat(1000);
        let mut links = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let mut wire = greeted(&binary.server).await;
            wire.get_mut().write_all(&physical(BINARY_BEGUN, b"")).await.expect("an open link");
            links.spawn(flood(wire, pieces.clone(), 250));
        }
        links.join_all().await;
    })
    .await;
}

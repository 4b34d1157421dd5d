//! Memory that the server is made to keep: messages that do not end, and messages that nobody takes.

use manysocket_protocol::{Endpoint, Event, Message, Settings, Side};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::common::{Link, Server};
use crate::measure::survive;
use crate::wire::{ECHO, code, greeted};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn large_messages_wait_for_each_other() {
    survive("large messages on many sockets of a link", &[], 600, async |binary| {
        let mut link = Link::dial(&binary.server).await;
        for _ in 0..4 {
            let channel = link.open(ECHO).await;
            link.endpoint.send(channel, Message::binary(vec![0; 60 * MIB]));
        }
        // Together they are more than a link may hold: the server takes them one after the other.
        let mut echoes = 0;
        while echoes < 4 {
            match link.event().await {
                Ok(Event::Message { .. }) => echoes += 1,
                Ok(_) => {}
                Err(code) => panic!("the link ended with {code}"),
            }
        }
    })
    .await;
}

/// The server as a whole: no link crosses its own limit here.
#[tokio::test]
async fn links_that_together_fill_the_memory() {
    let arguments = ["--total-memory", "100000000"];
    survive("links that together fill the memory (100 MB)", &arguments, 400, async |binary| {
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let server = Server::at(binary.server.address);
            tasks.spawn(async move {
                let mut link = Link::dial(&server).await;
                let (one, two) = (link.open(ECHO).await, link.open(ECHO).await);
                // Neither is complete before the other.
                link.endpoint.send(one, Message::binary(vec![0; 50 * MIB]));
                link.endpoint.send(two, Message::binary(vec![0; 50 * MIB]));
                let mut echoes = 0;
                while echoes < 2 {
                    match link.event().await {
                        Ok(Event::Message { .. }) => echoes += 1,
                        Ok(_) => {}
                        Err(code) => return Some(code),
                    }
                }
                // Others have ended, and left it the room.
                None
            });
        }
        let codes = tasks.join_all().await;
        assert!(codes.iter().flatten().any(|code| matches!(code, 1013 | 1006)), "{codes:?}");
        binary.logged("the server's memory is full").await;
    })
    .await;
}

#[tokio::test]
async fn a_physical_message_of_any_size() {
    survive("a physical message of 1 GiB, announced", &[], 64, async |binary| {
        let mut wire = greeted(&binary.server).await;
        let stream = wire.get_mut();
        let mut header = vec![0x82, 0xff];
        header.extend((1_u64 << 30).to_be_bytes());
        header.extend([0; 4]);
        stream.write_all(&header).await.expect("a server");
        let chunk = vec![0; MIB];
        // The server hangs up long before the end.
        for _ in 0..1024 {
            if stream.write_all(&chunk).await.is_err() {
                break;
            }
        }
        let code = code(&mut wire).await;
        assert!(code == 1009 || code == 1006, "{code}");
    })
    .await;
}

/// Not complete, none of them is seen by the link that it comes to.
#[tokio::test]
async fn physical_messages_that_never_end() {
    let arguments = ["--total-memory", "100000000"];
    survive(
        "100 physical messages of 3 MiB without their last byte (100 MB)",
        &arguments,
        250,
        async |binary| {
            let mut wires = Vec::new();
            for _ in 0..100 {
                let mut wire = greeted(&binary.server).await;
                let mut bytes = vec![0x82, 0xff];
                bytes.extend((3 * MIB as u64).to_be_bytes());
                // The masking key, and all but the last byte.
                bytes.resize(bytes.len() + 4 + 3 * MIB - 1, 0);
                // One that the server ends does not take all of it.
                let _ = wire.get_mut().write_all(&bytes).await;
                wires.push(wire);
            }
            binary.logged("the server's memory is full").await;
        },
    )
    .await;
}

/// As "data dribble" and "internal data buffering" of HTTP/2 (CVE-2019-9511, -9517).
#[tokio::test]
async fn a_page_that_never_grants() {
    let arguments = ["--link-memory", "100000000"];
    survive("a page that never grants (100 MB a link)", &arguments, 300, async |binary| {
        // The page's own windows are the least, so most echoes stay with the server. The echoes that the
        // server's first windows admit cross the limit. It withholds later windows, so the link would only stall.
        let settings = Settings::new().window(16 * 1024);
        let small = |endpoint: &mut Endpoint| *endpoint = Endpoint::new(Side::Client, settings, 0);
        let mut link = Link::dial_with(&binary.server, &[], small).await.expect("a link");
        for _ in 0..1000 {
            link.endpoint.open(ECHO, "").expect("a channel");
        }
        // Echoes are read off the connection, and never taken.
        let mut sent = 0;
        let code = loop {
            match link.event().await {
                Ok(Event::Accepted { channel, .. }) => {
                    for _ in 0..20 {
                        link.endpoint.send(channel, Message::binary(vec![0; 60_000]));
                        sent += 1;
                    }
                }
                Ok(_) => {}
                Err(code) => break code,
            }
        };
        assert!(sent > 0);
        // It may be in the middle of a write, and then sees the connection end before the reason.
        assert!(matches!(code, 1008 | 1006), "{code}");
        binary.logged("more memory than one may").await;
    })
    .await;
}

/// Slow readers by the thousand: each has as much echoed as it may, and reads none of it.
#[tokio::test]
async fn pages_that_never_read() {
    survive("1,000 pages that never read", &[], 600, async |binary| {
        let mut links = Vec::new();
        for _ in 0..1000 {
            let mut link = Link::dial(&binary.server).await;
            let channel = link.open(ECHO).await;
            for _ in 0..20 {
                link.endpoint.send(channel, Message::binary(vec![0; 60_000]));
            }
            link.flush().await;
            links.push(link);
        }
    })
    .await;
}

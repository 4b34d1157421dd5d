//! A gateway's dials and flow: pages that give up, upstreams that do not answer, and either side that does not read.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::upstream::{accepted, gateway, pass, upstream};
use common::{KINDS, Link, Received, Socket, told};
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::{Event, Message, Physical};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite as ts;

/// An upstream that reads requests and never answers; it reports when one has come, and when its connection ends.
async fn silent(tell: mpsc::UnboundedSender<&'static str>) -> SocketAddr {
    upstream(move |mut stream, _| {
        let tell = tell.clone();
        async move {
            let _ = tell.send("asked");
            let _ = stream.read_to_end(&mut Vec::new()).await;
            let _ = tell.send("ended");
        }
    })
    .await
}

/// Waits for a report of the upstream while the link is served, which has no events.
async fn told_while(link: &mut Link, heard: &mut mpsc::UnboundedReceiver<&'static str>) -> &'static str {
    tokio::select! {
        word = told(heard) => word,
        event = link.event() => panic!("{event:?}"),
    }
}

#[tokio::test]
async fn a_page_that_gives_up_while_connecting_cancels_the_dial() {
    let (tell, mut heard) = mpsc::unbounded_channel();
    let server = gateway(silent(tell).await).await;

    let path = format!("ws://{}/up/", server.address);
    let native = tokio::spawn(async move { tokio_tungstenite::connect_async(path).await.is_ok() });
    assert_eq!(told(&mut heard).await, "asked");
    native.abort();
    assert_eq!(told(&mut heard).await, "ended");

    let mut link = Link::dial(&server).await;
    let channel = link.endpoint.open("/up/", "").expect("below the limit");
    assert_eq!(told_while(&mut link, &mut heard).await, "asked");
    link.endpoint.close(channel, None, "");
    assert_eq!(told_while(&mut link, &mut heard).await, "ended");

    link.endpoint.open("/up/", "").expect("below the limit");
    assert_eq!(told_while(&mut link, &mut heard).await, "asked");
    drop(link);
    assert_eq!(told(&mut heard).await, "ended");
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_in_time_is_given_up() {
    let (tell, mut heard) = mpsc::unbounded_channel();
    let server = gateway(silent(tell).await).await;

    let path = format!("ws://{}/up/", server.address);
    let native = tokio::spawn(tokio_tungstenite::connect_async(path));
    assert_eq!(told(&mut heard).await, "asked");
    pass(61).await;
    assert_eq!(told(&mut heard).await, "ended");
    match native.await.expect("a page") {
        Err(ts::Error::Http(response)) => assert_eq!(response.status(), 504),
        other => panic!("{other:?}"),
    }

    let mut link = Link::dial(&server).await;
    link.endpoint.open("/up/", "").expect("below the limit");
    assert_eq!(told_while(&mut link, &mut heard).await, "asked");
    pass(61).await;
    assert_eq!(told(&mut heard).await, "ended");
    let news = link.news().await;
    assert!(matches!(news, Event::Refused { status: 504, .. }), "{news:?}");
}

/// More than a stalled socket may hold on its way: the kernel's buffers of up to three connections (Linux: 4 and 6 MiB
/// each), one message at each hop, and a window.
const STALLED: usize = 48 * MIB;

/// The bytes that would be sent without backpressure.
const ALL: usize = 96 * MIB;
const MIB: usize = 1024 * 1024;
const MESSAGE: usize = 64 * 1024;

/// Waits until a count has not risen for a while. Ending too early lets a fault pass, and fails nothing.
async fn settled(count: &AtomicUsize) -> usize {
    let mut last = count.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = count.load(Ordering::Relaxed);
        if now == last && now > 0 {
            return now;
        }
        last = now;
    }
}

#[tokio::test]
async fn a_page_that_does_not_read_stalls_its_upstream() {
    for kind in KINDS {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let upstream = upstream(move |stream, head| {
            let sent = Arc::clone(&counted);
            async move {
                let mut wire = accepted(stream, &head).await;
                while sent.load(Ordering::Relaxed) < ALL {
                    wire.send(ts::Message::binary(vec![1; MESSAGE])).await.expect("a client");
                    sent.fetch_add(MESSAGE, Ordering::Relaxed);
                }
                while let Some(Ok(_)) = wire.next().await {}
            }
        })
        .await;
        let mut socket = Socket::open(kind, &gateway(upstream).await, "/up/", "", "").await.expect("open").0;
        let mut held = 0;
        if let Socket::Virtual(link, _) = &mut socket {
            // The link is read, as every page reads it; only the page's handler never ends.
            let reading = async {
                while let Event::Message { message, .. } = link.news().await {
                    held += message.units() as usize;
                }
            };
            tokio::select! {
                () = reading => panic!("another event"),
                _ = settled(&sent) => {}
            }
            assert!(held <= 9 * MIB, "the window and its growth: {held}");
        }
        let stalled = settled(&sent).await;
        eprintln!("{kind:?}: stalled after {} KiB, the page holds {} KiB", stalled / 1024, held / 1024);
        assert!(stalled < STALLED, "{kind:?}: {stalled}");
        if let Socket::Virtual(link, channel) = &mut socket {
            let messages = u32::try_from(held / MESSAGE).expect("few");
            link.endpoint.consumed(*channel, messages, u32::try_from(held).expect("few"));
        }
        while held < ALL {
            match socket.receive().await {
                Received::Message(message) => held += message.units() as usize,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_read_stalls_its_page() {
    for kind in KINDS {
        let (tell, mut heard) = mpsc::unbounded_channel();
        let (go, going) = tokio::sync::watch::channel(false);
        let upstream = upstream(move |stream, head| {
            let (tell, mut going) = (tell.clone(), going.clone());
            async move {
                let mut wire = accepted(stream, &head).await;
                going.wait_for(|&now| now).await.expect("the test goes on");
                let mut read = 0;
                while read < ALL {
                    read += wire.next().await.expect("a message").expect("a message").len();
                }
                let _ = tell.send(read);
            }
        })
        .await;
        let mut socket = Socket::open(kind, &gateway(upstream).await, "/up/", "", "").await.expect("open").0;
        let sent = AtomicUsize::new(0);
        let sending = async {
            match &mut socket {
                Socket::Native(wire) => {
                    while sent.load(Ordering::Relaxed) < ALL {
                        wire.send(ts::Message::binary(vec![1; MESSAGE])).await.expect("open");
                        sent.fetch_add(MESSAGE, Ordering::Relaxed);
                    }
                    std::future::pending::<()>().await;
                }
                Socket::Virtual(link, channel) => {
                    for _ in 0..ALL / MESSAGE {
                        link.endpoint.send(*channel, Message::binary(vec![1; MESSAGE]));
                    }
                    loop {
                        link.flush().await;
                        sent.store(ALL - link.endpoint.queued(*channel) as usize, Ordering::Relaxed);
                        let message = match link.wire.next().await {
                            Some(Ok(ts::Message::Binary(bytes))) => Physical::Binary(bytes),
                            Some(Ok(ts::Message::Text(text))) => Physical::Text(text.into()),
                            other => panic!("{other:?}"),
                        };
                        // Credit, as a rule.
                        link.endpoint.receive(0, message).expect("a correct server");
                    }
                }
            }
        };
        let mut sending = std::pin::pin!(sending);
        let stalled = tokio::select! {
            () = &mut sending => panic!("it ended"),
            stalled = settled(&sent) => stalled,
        };
        eprintln!("{kind:?}: stalled after {} KiB", stalled / 1024);
        assert!(stalled < STALLED, "{kind:?}: {stalled}");
        go.send_replace(true);
        tokio::select! {
            () = &mut sending => panic!("it ended"),
            read = told(&mut heard) => assert_eq!(read, ALL),
        }
    }
}

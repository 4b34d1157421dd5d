//! Channels opened, and given up, in every way that costs the server more than the page.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD as BASE64;
use futures_util::SinkExt;
use manysocket_protocol::{Event, HANDSHAKE_PARAMETER, SUBPROTOCOL};
use manysocket_server::Limits;
use tokio_tungstenite::tungstenite as ts;

use crate::common::binary::Binary;
use crate::common::upstream::{accepted, upstream};
use crate::common::{Link, dial};
use crate::measure::survive;
use crate::wire::{CLOSE, ECHO, OPEN, batch, batch_bytes, code, frame, greeted, hello, next, opens, settled};

const MIB: usize = 1 << 20;

/// The length of a batch's headers.
fn headers_of(batch: &[u8]) -> usize {
    let bytes = batch.iter().take_while(|&&byte| byte >= 0x80).count() + 1;
    batch[..bytes].iter().rev().fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f))
}

/// HTTP/2's "rapid reset" (CVE-2023-44487).
#[tokio::test]
async fn opens_taken_back_at_once() {
    survive("opens taken back at once", &[], 64, async |binary| {
        let mut wire = greeted(&binary.server).await;
        let (mut headers, mut answers) = (Vec::new(), 0);
        for channel in 1..=1000 {
            headers.extend(frame(channel, OPEN, &[ECHO.len(), 0]));
            headers.extend(frame(channel, CLOSE, &[1006, 0]));
            // A REFUSE has a tag, a status in two bytes, and an empty reason.
            answers += if channel < 8 { 4 } else { 5 };
        }
        let round = batch(&headers, &ECHO.repeat(1000), &[]);
        // The server's HELLO.
        next(&mut wire).await;
        let code = 'rounds: loop {
            wire.send(round.clone()).await.expect("an open link");
            let mut answered = 0;
            while answered < answers {
                match next(&mut wire).await {
                    ts::Message::Close(frame) => break 'rounds frame.map_or(1005, |frame| frame.code.into()),
                    ts::Message::Binary(bytes) => answered += headers_of(&bytes),
                    other => panic!("{other:?}"),
                }
            }
        };
        assert_eq!(code, 1008);
        binary.logged("too many opens that came to nothing").await;
    })
    .await;
}

/// Opens channels, at most 200 at a time, until so many have closed.
async fn reopen(link: &mut Link, path: &str, count: usize, is_to_close: bool) {
    let mut closed = 0;
    while closed < count {
        while link.endpoint.channels() < 200 {
            link.endpoint.open(path, "").expect("a channel");
        }
        match link.event().await.expect("the link lives") {
            Event::Accepted { channel, .. } if is_to_close => link.endpoint.close(channel, None, ""),
            Event::Accepted { .. } => {}
            Event::Closed { channel, close } => {
                link.endpoint.close(channel, close.code, "");
                closed += 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Each is answered, used and closed: that is ordinary work, which links must share.
#[tokio::test]
async fn channels_opened_and_closed_as_fast_as_possible() {
    survive("5,000 channels opened and closed by the page", &[], 64, async |binary| {
        let mut link = Link::dial(&binary.server).await;
        reopen(&mut link, ECHO, 5_000, true).await;
    })
    .await;
}

/// Arguments that put an upstream at `/up/`, and the neighbour's echo, from another server, where it always is.
fn gateway(upstream: SocketAddr, echo: &Binary) -> [String; 4] {
    let flag = || "--upstream".to_owned();
    [flag(), format!("/up=ws://{upstream}"), flag(), format!("{ECHO}=ws://{}{ECHO}", echo.server.address)]
}

/// The same from the other side: a handler that closes at once, here that of a gateway.
#[tokio::test]
async fn channels_that_the_server_closes_at_once() {
    let closing = upstream(async |stream, head| {
        let _ = accepted(stream, &head).await.close(None).await;
    })
    .await;
    let echo = Binary::start(&[], &[]).await;
    let arguments = gateway(closing, &echo);
    let arguments = arguments.each_ref().map(String::as_str);
    survive("1,000 channels closed by their upstream at once", &arguments, 64, async |binary| {
        let mut link = Link::dial(&binary.server).await;
        reopen(&mut link, "/up/", 1_000, false).await;
    })
    .await;
}

/// The dials that a page can cause at a gateway.
#[tokio::test]
async fn opens_of_what_never_answers() {
    let dialled = Arc::new(AtomicUsize::new(0));
    let dials = Arc::clone(&dialled);
    let silent = upstream(move |stream, _| {
        dials.fetch_add(1, Ordering::Relaxed);
        async move {
            std::future::pending::<()>().await;
            drop(stream);
        }
    })
    .await;
    let echo = Binary::start(&[], &[]).await;
    let arguments = gateway(silent, &echo);
    let arguments = arguments.each_ref().map(String::as_str);
    survive("10,000 opens that an upstream never answers, taken back", &arguments, 64, async |binary| {
        const COUNT: usize = 10_000;
        let mut wire = greeted(&binary.server).await;
        // The table runs the attack more than once.
        let all = dialled.load(Ordering::Relaxed) + Limits::default().max_opening;
        wire.send(opens(1, COUNT, "/up/")).await.expect("an open link");
        settled(&mut wire).await;
        while dialled.load(Ordering::Relaxed) < all {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let headers: Vec<u8> = (1..=COUNT).flat_map(|channel| frame(channel, CLOSE, &[1006, 0])).collect();
        wire.send(batch(&headers, "", &[])).await.expect("an open link");
        settled(&mut wire).await;
        assert_eq!(dialled.load(Ordering::Relaxed), all);
    })
    .await;
}

/// The first batch is in the URL, as long as the server takes the head of a request.
#[tokio::test]
async fn a_handshake_full_of_opens() {
    survive("4,000 opens in a handshake, three times", &[], 64, async |binary| {
        const COUNT: usize = 4_000;
        let headers: Vec<u8> = (1..=COUNT).flat_map(|channel| frame(channel, OPEN, &[1, 0])).collect();
        let first = BASE64.encode(&batch_bytes(&[hello(&[]), headers].concat(), &"/".repeat(COUNT), &[]));
        let path = format!("/multiplexer?{HANDSHAKE_PARAMETER}={first}");
        let origin = format!("http://{}", binary.server.address);
        let headers = [("origin", origin.as_str()), ("sec-websocket-protocol", SUBPROTOCOL)];
        for _ in 0..3 {
            let mut wire = dial(&binary.server, &path, &headers).await.expect("a link");
            let mut answered = 0;
            // There is no WebSocket at the root: a REFUSE each, of a tag, a status in two bytes and a reason's length.
            while answered < COUNT * 4 {
                answered += headers_of(&next(&mut wire).await.into_data());
            }
            settled(&mut wire).await;
        }
    })
    .await;
}

#[tokio::test]
async fn opens_without_end() {
    survive("opens without end", &[], 256, async |binary| {
        let mut wire = greeted(&binary.server).await;
        for thousand in 0..20 {
            // The link may have ended.
            let _ = wire.send(opens(1 + thousand * 1000, 1000, ECHO)).await;
        }
        assert_eq!(code(&mut wire).await, 1008);
        binary.logged("OPEN far beyond max_channels").await;
    })
    .await;
}

#[tokio::test]
async fn opens_of_any_length() {
    survive("opens of 1 MiB each", &[], 64, async |binary| {
        let mut link = Link::dial(&binary.server).await;
        for _ in 0..100 {
            link.endpoint.open(&format!("/{}", "x".repeat(MIB)), "").expect("a channel");
            let news = link.news().await;
            assert!(matches!(news, Event::Refused { status: 431, .. }), "{news:?}");
        }
    })
    .await;
}

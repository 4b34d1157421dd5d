//! The binary as its operators see it: figures, health, log, shutting down.
#![cfg(unix)]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::binary::Binary;
use common::http::Requests;
use common::{Link, PATIENCE, dial, get};
use manysocket_protocol::{Event, Message, SUBPROTOCOL};

/// The binary, and where its figures are.
async fn monitored(arguments: &[&str]) -> (Binary, SocketAddr) {
    let mut binary = Binary::start(&[&["--metrics", "127.0.0.1:0"], arguments].concat(), &[]).await;
    let line = binary.logged("metrics on http://").await;
    let (_, address) = line.split_once("http://").expect("a URL");
    let address = address.trim_end_matches("/metrics").parse().expect("an address");
    (binary, address)
}

/// The value of one figure, 0 if it is not there.
fn figure(figures: &str, name: &str) -> f64 {
    let mut lines = figures.lines().filter_map(|line| line.rsplit_once(' '));
    lines.find(|(given, _)| *given == name).map_or(0.0, |(_, value)| value.parse().expect("a number"))
}

/// Waits until a figure has a value.
async fn until(address: SocketAddr, name: &str, value: f64) -> String {
    let mut figures = String::new();
    let reached = async {
        loop {
            figures = get(address, "/metrics").await;
            if figure(&figures, name) == value {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let reached = tokio::time::timeout(PATIENCE, reached).await;
    assert!(reached.is_ok(), "{name} never was {value}:\n{figures}");
    figures
}

#[tokio::test]
async fn figures_tell_what_is_open_and_what_has_been_done() {
    let (binary, address) = monitored(&[]).await;
    let mut link = Link::dial(&binary.server).await;
    let channel = link.open("/demo/echo").await;
    for text in ["a", "é", "three"] {
        link.assert_echo(channel, text).await;
    }
    link.endpoint.open("/demo/nothing", "");
    assert!(matches!(link.news().await, Event::Refused { status: 404, .. }));
    let foreign = [("origin", "https://evil.example"), ("sec-websocket-protocol", SUBPROTOCOL)];
    assert_eq!(dial(&binary.server, "/multiplexer", &foreign).await.err(), Some(403));

    let figures = until(address, "manysocket_messages_sent_total", 3.0).await;
    for (name, expected) in [
        ("manysocket_links", 1.0),
        ("manysocket_channels", 1.0),
        ("manysocket_links_opened_total", 1.0),
        ("manysocket_links_refused_total{status=\"403\"}", 1.0),
        ("manysocket_channels_opened_total", 1.0),
        ("manysocket_channels_refused_total{status=\"404\"}", 1.0),
        ("manysocket_messages_received_total", 3.0),
        ("manysocket_bytes_received_total", 8.0),
        ("manysocket_bytes_sent_total", 8.0),
        ("manysocket_open_seconds_count", 2.0),
        ("manysocket_open_seconds_bucket{le=\"+Inf\"}", 2.0),
    ] {
        assert_eq!(figure(&figures, name), expected, "{name}:\n{figures}");
    }
    assert!(figures.contains("application/openmetrics-text") && figures.ends_with("# EOF\n"), "{figures}");

    drop(link);
    let lost = "manysocket_links_closed_total{code=\"1006\",reason=\"the connection was lost\"}";
    let figures = until(address, lost, 1.0).await;
    assert_eq!(figure(&figures, "manysocket_links"), 0.0);
    let public = get(binary.server.address, "/metrics").await;
    assert!(public.starts_with("HTTP/1.1 404"), "they are not for everybody: {public}");
}

#[tokio::test]
async fn http_carriers_are_counted_by_kind_and_their_refusals_by_status() {
    let (binary, address) = monitored(&[]).await;
    let requests = Requests::new(&binary.server);
    let (id, stream) = requests.open("stream").await.expect("a carrier");
    requests.open("poll").await.expect("a carrier");
    assert_eq!(requests.send(&"0".repeat(32), 0, vec![]).await, 410);
    assert_eq!(requests.send(&id, 1, vec![]).await, 409);
    let figures = get(address, "/metrics").await;
    for (name, expected) in [
        ("manysocket_links", 2.0),
        ("manysocket_http_streams", 1.0),
        ("manysocket_http_polls", 1.0),
        ("manysocket_http_refused_total{status=\"409\"}", 1.0),
        ("manysocket_http_refused_total{status=\"410\"}", 1.0),
    ] {
        assert_eq!(figure(&figures, name), expected, "{name}:\n{figures}");
    }
    drop(stream);
    let figures = until(address, "manysocket_http_streams", 0.0).await;
    assert_eq!(figure(&figures, "manysocket_http_polls"), 1.0);
}

#[tokio::test]
async fn limits_that_are_crossed_are_counted_by_name() {
    let (binary, address) =
        monitored(&["--max-links", "1", "--max-channels", "2", "--max-message", "1000"]).await;
    let counted = async |limit: &str| {
        until(address, &format!("manysocket_limits_crossed_total{{limit=\"{limit}\"}}"), 1.0).await;
    };
    let mut link = Link::dial(&binary.server).await;
    let refused = Link::dial_with(&binary.server, &[], |_| {}).await;
    assert_eq!(refused.err(), Some(503));
    counted("max_links").await;
    // Its own settings are larger than the server's; it only learns of these with the first message.
    link.endpoint.open(&format!("/demo/{}", "x".repeat(33 << 10)), "");
    assert!(matches!(link.news().await, Event::Refused { status: 431, .. }));
    counted("max_open").await;
    let channel = link.open("/demo/echo").await;
    link.endpoint.send(channel, Message::text("x".repeat(1001)));
    assert!(matches!(link.news().await, Event::Closed { .. }));
    counted("max_message").await;
    drop(link);
    until(address, "manysocket_links", 0.0).await;

    let mut early = Link::dial_with(&binary.server, &[], |endpoint| {
        for _ in 0..3 {
            endpoint.open("/demo/echo", "").expect("a channel");
        }
    })
    .await
    .expect("a link");
    while !matches!(early.news().await, Event::Refused { status: 503, .. }) {}
    counted("max_channels").await;
}

/// It used to: lines were written by the thread that serves.
#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() {
    let binary = Binary::start_unread(&[], &[("RUST_LOG", "debug")]).await;
    // A pipe holds 64 KiB, and each of these writes some hundred bytes.
    for _ in 0..1000 {
        drop(Link::dial(&binary.server).await);
    }
    let mut link = Link::dial(&binary.server).await;
    let channel = link.open("/demo/echo").await;
    link.assert_echo(channel, "still there").await;
}

/// The standard library reports a panic by a write of the thread that panics.
#[tokio::test]
async fn panics_that_nobody_reads_of_stop_nothing() {
    let binary = Binary::start_unread(&[], &[]).await;
    let mut link = Link::dial(&binary.server).await;
    let channel = link.open("/demo/rpc/panic").await;
    for _ in 0..1000 {
        link.endpoint.send(channel, Message::text("[]"));
        let answer = link.news().await;
        assert!(matches!(answer, Event::Message { .. }), "{answer:?}");
        link.endpoint.consumed(channel, 1, 2);
    }
}

#[tokio::test]
async fn one_peer_cannot_fill_the_log() {
    let mut binary = Binary::start(&[], &[]).await;
    let mut link = Link::dial(&binary.server).await;
    for _ in 0..1000 {
        link.endpoint.open("/%2f", "");
        assert!(matches!(link.news().await, Event::Refused { status: 400, .. }));
    }
    drop(link);
    let told = binary.logged("lines of the log were left out").await;
    assert!(told.contains("WARN"), "{told}");
}

fn is_serving(health: &str) -> bool {
    health.starts_with("HTTP/1.1 200")
}

#[tokio::test]
async fn health_tells_when_the_server_goes_away() {
    let (mut binary, address) = monitored(&[]).await;
    assert!(is_serving(&get(address, "/healthz").await));
    let mut link = Link::dial(&binary.server).await;
    let channel = link.open("/demo/echo").await;
    binary.signal("TERM").await;
    // The page has not answered yet, and is waited for.
    assert!(matches!(link.news().await, Event::Closed { .. }));
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 503"));
    link.endpoint.close(channel, Some(1001), "");
    assert_eq!(link.event().await, Err(1001));
    assert!(binary.ended().await);
}

/// The handler answers each message once. All answers until the server gets its signal to stop arrive, then the close:
/// nothing is lost without a word, nothing comes twice or out of order.
#[tokio::test]
async fn what_handlers_have_sent_arrives_before_the_server_goes() {
    let mut binary = Binary::start(&["--drain", "20"], &[]).await;
    let mut links = Vec::new();
    for _ in 0..4 {
        let mut link = Link::dial(&binary.server).await;
        for _ in 0..8 {
            link.open("/demo/echo").await;
        }
        links.push(link);
    }
    let (begun, all_begun) = (tokio::sync::mpsc::channel(32), links.len());
    let (busy, mut are_busy) = begun;
    let pages = links.into_iter().map(|link| tokio::spawn(echoes(link, busy.clone()))).collect::<Vec<_>>();
    for _ in 0..all_begun {
        are_busy.recv().await.expect("a page that is busy");
    }
    binary.signal("TERM").await;
    for page in pages {
        page.await.expect("a page that saw what it must");
    }
    assert!(binary.ended().await);
}

/// Keeps all channels of a link busy until the server closes them.
async fn echoes(mut link: Link, busy: tokio::sync::mpsc::Sender<()>) {
    const AHEAD: usize = 20;
    let channels = link.endpoint.channels();
    let mut answered = vec![0_usize; channels as usize + 1];
    for channel in 1..=channels {
        for number in 0..AHEAD {
            link.endpoint.send(channel, Message::text(number.to_string()));
        }
    }
    let mut open = channels;
    while open > 0 {
        match link.event().await.expect("channels close before the link") {
            Event::Message { channel, message } => {
                let count = &mut answered[channel as usize];
                assert_eq!(message, Message::text(count.to_string()), "in order, each once");
                *count += 1;
                if *count == 100 {
                    let _ = busy.try_send(());
                }
                link.endpoint.consumed(channel, 1, message.units());
                link.endpoint.send(channel, Message::text((*count + AHEAD - 1).to_string()));
            }
            Event::Closed { channel, close } => {
                assert_eq!(close.code, Some(1001));
                link.endpoint.close(channel, close.code, "");
                open -= 1;
            }
            Event::Drained { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(link.event().await, Err(1001));
}

//! Links as a whole: who may make one, how a peer can harm it, and how that affects others.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::Message as WsMessage;
use axum::routing::any;
use common::{KINDS, Kind, Link, Server, Socket, dial, told};
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::{Close, Event, MESSAGE_OVERHEAD, Message, SUBPROTOCOL, Settings};
use manysocket_server::{Multiplexer, WebSocketUpgrade};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite as ts;

fn app() -> Router {
    let echo = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| {
            while let Some(Ok(message)) = socket.recv().await {
                if matches!(message, WsMessage::Close(_)) || socket.send(message).await.is_err() {
                    return;
                }
            }
        })
    };
    let deaf = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |socket| {
            std::future::pending::<()>().await;
            drop(socket);
        })
    };
    Router::new().route("/echo", any(echo)).route("/deaf", any(deaf)).route("/sub/echo", any(echo))
}

#[tokio::test]
async fn only_pages_of_the_server_and_listed_ones_may_connect() {
    let server = Server::with(
        Multiplexer::new("/multiplexer").allow_origin("https://listed.example".parse().expect("an origin")),
        app(),
    )
    .await;
    let own = format!("http://{}", server.address);
    for (origin, expected) in [
        (own.as_str(), None),
        ("https://listed.example", None),
        ("http://evil.example", Some(403)),
        ("null", Some(403)),
        ("http://127.0.0.1", Some(403)),
    ] {
        let headers = [("origin", origin), ("sec-websocket-protocol", SUBPROTOCOL)];
        let dialled = dial(&server, "/multiplexer", &headers);
        assert_eq!(dialled.await.err(), expected, "{origin}");
    }
    let headers = [("sec-websocket-protocol", SUBPROTOCOL)];
    assert_eq!(dial(&server, "/multiplexer", &headers).await.err(), Some(403), "no origin");
    assert_eq!(dial(&server, "/multiplexer", &[("origin", &own)]).await.err(), Some(400), "no subprotocol");
}

#[tokio::test]
async fn a_multiplexer_reaches_its_own_part_of_the_site() {
    for (multiplexer, reached, refused) in [
        (Multiplexer::new("/multiplexer"), vec!["/echo", "/sub/echo"], vec![("/multiplexer", 400)]),
        (
            Multiplexer::new("/multiplexer").scope("/sub"),
            vec!["/sub/echo"],
            vec![
                ("/echo", 403),
                ("/subecho", 403),
                ("/sub/../echo", 400),
                ("/sub/%2e%2e/echo", 400),
                ("/sub%2f..%2fecho", 400),
                ("/sub/..\\echo", 400),
                ("//sub/echo", 403),
                ("http://127.0.0.1/echo", 400),
                ("", 400),
            ],
        ),
    ] {
        let server = Server::with(multiplexer, app()).await;
        let mut link = Link::dial(&server).await;
        for path in reached {
            let channel = link.open(path).await;
            link.assert_echo(channel, path).await;
        }
        for (path, expected) in refused {
            link.endpoint.open(path, "");
            let Event::Refused { status, reason, .. } = link.news().await else {
                panic!("{path} was accepted")
            };
            assert_eq!(status, expected, "{path}: {reason}");
            assert!(!reason.is_empty(), "the close has a reason");
        }
    }
}

/// Frames written by hand: a batch of these headers and text.
fn batch(headers: &[u8], text: &str) -> ts::Message {
    let mut bytes = vec![headers.len() as u8, text.len() as u8];
    bytes.extend(headers);
    bytes.extend(text.as_bytes());
    ts::Message::Binary(bytes.into())
}

#[tokio::test]
async fn bad_input_ends_its_link_with_a_code_and_no_other() {
    let server = Server::start(app()).await;
    let mut neighbour = Link::dial(&server).await;
    let channel = neighbour.open("/echo").await;
    let bad = [
        ("random bytes", ts::Message::Binary(vec![0xde, 0xad, 0xbe, 0xef, 0x00, 0x99].into()), 1002),
        ("nothing", ts::Message::Binary(vec![].into()), 1002),
        ("a truncated batch", ts::Message::Binary(vec![200, 1, 0].into()), 1002),
        ("an unknown frame", batch(&[1 << 4 | 15], ""), 1002),
        ("a text without a channel", ts::Message::Text("hello".into()), 1002),
        ("a channel that is not open", ts::Message::Text("99:hello".into()), 1002),
        ("an open that skips numbers", batch(&[7 << 4 | 6, 5, 0], "/echo"), 1002),
        ("a second HELLO", batch(&[0x0b, 0], ""), 1002),
        ("text that is not UTF-8", ts::Message::Binary(vec![2, 1, 1 << 4, 1, 0xff].into()), 1007),
        ("data beyond the credit", ts::Message::Text(format!("1:{}", "x".repeat(300_000)).into()), 1008),
        ("an oversize message", ts::Message::Binary(vec![0; 10_000_000].into()), 1009),
    ];
    for (what, message, code) in bad {
        let mut link = Link::dial(&server).await;
        link.open("/echo").await;
        // The server may have ended the connection before it has read all.
        let _ = link.wire.send(message).await;
        let ended = loop {
            match link.event().await {
                Ok(_) => {}
                Err(code) => break code,
            }
        };
        assert_eq!(ended, code, "{what}");
        neighbour.assert_echo(channel, what).await;
    }
    assert_eq!(server.stats.links(), 1, "only the neighbour is left");
}

/// Links and native sockets answer a breach of RFC 6455 with its code (§7.1.7).
#[tokio::test]
async fn breaches_of_rfc_6455_are_answered_with_a_code() {
    use tokio::io::AsyncWriteExt;

    let echo = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| while let Some(Ok(_)) = socket.recv().await {})
    };
    let server = Server::start(Router::new().route("/native", any(echo))).await;
    let origin = format!("http://{}", server.address);
    let breaches: [(&str, &[u8], u16); 4] = [
        ("a reserved bit", &[0xc2, 0x80, 0, 0, 0, 0], 1002),
        ("a frame without a mask", &[0x82, 0], 1002),
        ("a close reason that is not UTF-8", &[0x88, 0x83, 0, 0, 0, 0, 3, 232, 0xff], 1007),
        ("a message too large", &[0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], 1009),
    ];
    for (what, bytes, code) in breaches {
        for (path, protocol) in [("/multiplexer", SUBPROTOCOL), ("/native", "")] {
            let headers = [("origin", origin.as_str()), ("sec-websocket-protocol", protocol)];
            let headers = if protocol.is_empty() { &headers[..1] } else { &headers[..] };
            let mut wire = dial(&server, path, headers).await.expect("a 101");
            wire.get_mut().write_all(bytes).await.expect("a connection");
            let frame = loop {
                match wire.next().await {
                    Some(Ok(ts::Message::Close(Some(frame)))) => break frame,
                    Some(Ok(_)) => {}
                    other => panic!("{what} at {path}: {other:?}"),
                }
            };
            assert_eq!(u16::from(frame.code), code, "{what} at {path}");
        }
    }
}

#[tokio::test]
async fn a_handshake_with_a_bad_first_batch_ends_the_link() {
    let server = Server::start(app()).await;
    let origin = format!("http://{}", server.address);
    // The last two are a HELLO, percent-encoded and given twice.
    for bad in ["!!!", "AA", "_____w", "%41gALAA", "AgALAA&manysocket=AgALAA"] {
        let headers = [("origin", origin.as_str()), ("sec-websocket-protocol", SUBPROTOCOL)];
        let mut wire =
            dial(&server, &format!("/multiplexer?manysocket={bad}"), &headers).await.expect("a 101");
        let frame = loop {
            match wire.next().await {
                Some(Ok(ts::Message::Close(Some(frame)))) => break frame,
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(u16::from(frame.code), 1002, "{bad}");
    }
}

#[tokio::test]
async fn a_handler_that_does_not_read_stalls_its_own_channel_only() {
    let server = Server::start(app()).await;
    let mut link = Link::dial(&server).await;
    let (deaf, echo) = (link.open("/deaf").await, link.open("/echo").await);
    for _ in 0..1000 {
        link.endpoint.send(deaf, Message::binary(vec![0; 10_000]));
    }
    for n in 0..100 {
        link.assert_echo(echo, &format!("message {n}")).await;
    }
    let window = Settings::default().window;
    let passed = 10_000_000 - link.endpoint.queued(deaf);
    assert!(passed <= window && passed > window - 2 * (10_000 + MESSAGE_OVERHEAD), "{passed} of a window");
}

#[tokio::test]
async fn a_page_that_does_not_read_stalls_its_own_channel_only() {
    let server = Server::start(app()).await;
    let mut link = Link::dial(&server).await;
    let (unread, echo) = (link.open("/echo").await, link.open("/echo").await);
    for _ in 0..200 {
        link.endpoint.send(unread, Message::binary(vec![1; 10_000]));
    }
    for n in 0..100 {
        link.endpoint.send(echo, Message::text(n.to_string()));
        loop {
            // Messages on the other channel are never consumed.
            match link.news().await {
                Event::Message { channel, message } if channel == echo => {
                    assert_eq!(message, Message::text(n.to_string()));
                    break;
                }
                Event::Message { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(link.endpoint.queued(unread) > 0, "the echo handler waits in send, and so does not read");
}

/// Such a handler learns from its sends that its page has gone. It did not, and went on for ever.
#[tokio::test]
async fn a_handler_that_only_sends_ends_with_its_page() {
    let (tell, mut heard) = mpsc::unbounded_channel();
    let pour = async move |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |mut socket| {
            while socket.send(WsMessage::text("more")).await.is_ok() {
                tokio::task::yield_now().await;
            }
            let _ = tell.send(());
        })
    };
    let server = Server::start(Router::new().route("/pour", any(pour))).await;
    let open = async |kind| Socket::open(kind, &server, "/pour", "", "").await.expect("open").0;
    for kind in KINDS {
        open(kind).await.vanish();
        told(&mut heard).await;
    }
    // A native page that closes, and is not answered, vanishes in the end; a virtual one cannot.
    let mut socket = open(Kind::Virtual).await;
    socket.close(Some(1000), "").await;
    told(&mut heard).await;
}

/// And one that reads comes to the close, however much it sends until then to a page that has closed.
#[tokio::test]
async fn a_handler_that_answers_what_came_before_a_close_answers_the_close() {
    let (go, going) = tokio::sync::watch::channel(false);
    let late_echo = async move |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |mut socket| {
            let _ = going.clone().wait_for(|&now| now).await;
            while let Some(Ok(message)) = socket.recv().await {
                if matches!(message, WsMessage::Close(_)) || socket.send(message).await.is_err() {
                    return;
                }
            }
        })
    };
    let mut link = Link::dial(&Server::start(app().route("/late", any(late_echo))).await).await;
    let (late, other) = (link.open("/late").await, link.open("/echo").await);
    for _ in 0..4 {
        link.endpoint.send(late, Message::binary(vec![0; 60_000]));
    }
    link.endpoint.close(late, Some(4321), "");
    link.assert_echo(other, "all that has come").await;
    go.send_replace(true);
    let news = link.news().await;
    assert!(
        matches!(&news, Event::Closed { channel, close: Close { code: Some(4321), .. } } if *channel == late),
        "{news:?}"
    );
}

#[tokio::test]
async fn a_page_that_gives_up_an_open_cancels_it() {
    let (running, cancelled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (begun, ended) = (Arc::clone(&running), Arc::clone(&cancelled));
    struct OnDrop(Arc<AtomicUsize>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let slow = async move |_: WebSocketUpgrade| {
        begun.fetch_add(1, Ordering::SeqCst);
        let _on_drop = OnDrop(Arc::clone(&ended));
        std::future::pending::<()>().await;
    };
    let server = Server::start(app().route("/slow", any(slow))).await;
    let mut link = Link::dial(&server).await;
    let slow = link.endpoint.open("/slow", "").expect("a channel");
    // One that is being answered does not hold up others.
    let echo = link.endpoint.open("/echo", "").expect("a channel");
    assert_eq!(link.news().await, Event::Accepted { channel: echo, protocol: String::new() });
    assert_eq!((running.load(Ordering::SeqCst), cancelled.load(Ordering::SeqCst)), (1, 0));
    link.endpoint.abort(slow);
    link.assert_echo(echo, "still here").await;
    while cancelled.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(link.open("/echo").await, slow, "its number is free again");
}

#[tokio::test]
async fn a_handler_that_panics_refuses_its_open_only() {
    let broken = async |_: WebSocketUpgrade| -> &'static str { panic!("a bug in a handler") };
    let server = Server::start(app().route("/broken", any(broken))).await;
    let mut link = Link::dial(&server).await;
    let echo = link.open("/echo").await;
    link.endpoint.open("/broken", "");
    assert!(matches!(link.news().await, Event::Refused { status: 500, .. }));
    link.assert_echo(echo, "still here").await;
}

#[tokio::test]
async fn a_message_past_the_limit_closes_its_channel_only() {
    let settings = Settings::new().max_message(100_000);
    let server = Server::with(Multiplexer::new("/multiplexer").settings(settings), app()).await;
    let mut link = Link::dial(&server).await;
    let (big, echo) = (link.open("/echo").await, link.open("/echo").await);
    link.endpoint.send(big, Message::binary(vec![0; 100_001]));
    let Event::Closed { channel, close: Close { code: Some(1009), .. } } = link.news().await else {
        panic!("not closed with 1009")
    };
    assert_eq!(channel, big);
    link.endpoint.close(big, Some(1009), "");
    link.assert_echo(echo, "still here").await;
}

#[tokio::test]
async fn channels_beyond_the_limit_are_refused() {
    let settings = Settings::new().max_channels(3);
    let server = Server::with(Multiplexer::new("/multiplexer").settings(settings), app()).await;
    let mut link = Link::dial_with(&server, &[], |endpoint| {
        for _ in 0..5 {
            endpoint.open("/echo", "");
        }
    })
    .await
    .expect("a link");
    let mut answers = vec![];
    while answers.len() < 5 {
        match link.news().await {
            Event::Accepted { .. } => answers.push(101),
            Event::Refused { status, .. } => answers.push(status),
            other => panic!("{other:?}"),
        }
    }
    answers.sort_unstable();
    assert_eq!(answers, [101, 101, 101, 503, 503]);
}

#[tokio::test]
async fn on_shutdown_channels_get_what_was_sent_then_1001() {
    let server = Server::start(app()).await;
    let mut link = Link::dial(&server).await;
    let channel = link.open("/echo").await;
    link.assert_echo(channel, "before").await;
    server.shutdown.cancel();
    let event = link.news().await;
    assert!(matches!(&event, Event::Closed { close, .. } if close.code == Some(1001)), "{event:?}");
    link.endpoint.close(channel, Some(1001), "");
    assert_eq!(link.event().await, Err(1001), "the link follows, without waiting for its deadline");
}

#[tokio::test]
async fn nothing_is_left_of_channels_that_have_closed() {
    let server = Server::start(app()).await;
    let mut link = Link::dial(&server).await;
    for _ in 0..200 {
        let channel = link.open("/echo").await;
        assert_eq!(channel, 1, "the number is free again");
        link.assert_echo(channel, "x").await;
        link.endpoint.close(channel, Some(1000), "");
        assert!(matches!(link.news().await, Event::Closed { .. }));
    }
    while server.stats.channels() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((server.stats.links(), link.endpoint.channels()), (1, 0));
}

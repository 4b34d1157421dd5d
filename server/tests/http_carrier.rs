//! Links over HTTP carriers: streams and polls (docs/protocol.md §3.3).

mod common;

use std::future::IntoFuture;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message as WsMessage};
use axum::http::HeaderMap;
use axum::routing::any;
use common::http::{self, KINDS};
use common::upstream::pass;
use common::{Link, PATIENCE, Server, Wire, dial, told};
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::{
    Endpoint, Event, HANDSHAKE_PARAMETER, Message, Physical, RESUME_PARAMETER, SUBPROTOCOL, Settings, Side,
};
use manysocket_server::{Multiplexer, Proxies, WebSocketUpgrade, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite as ts;
use tokio_util::sync::CancellationToken;

fn app() -> Router {
    let echo = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| {
            while let Some(Ok(message)) = socket.recv().await {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
        })
    };
    let closes = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| {
            let close = CloseFrame { code: 4001, reason: "enough".into() };
            let _ = socket.send(WsMessage::Close(Some(close))).await;
            while let Some(Ok(_)) = socket.recv().await {}
        })
    };
    let pings = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| {
            let _ = socket.send(WsMessage::Ping("are you there".into())).await;
            while let Some(Ok(message)) = socket.recv().await {
                if let WsMessage::Pong(payload) = message {
                    let _ = socket.send(WsMessage::Binary(payload)).await;
                }
            }
        })
    };
    Router::new().route("/echo", any(echo)).route("/closes", any(closes)).route("/pings", any(pings))
}

/// A handler that reports how its sockets end.
fn watched() -> (Router, mpsc::UnboundedReceiver<String>) {
    let (tell, ends) = mpsc::unbounded_channel();
    let watched = async move |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |mut socket| {
            loop {
                match socket.recv().await {
                    Some(Ok(message @ WsMessage::Text(_))) => drop(socket.send(message).await),
                    other => return drop(tell.send(format!("{other:?}"))),
                }
            }
        })
    };
    (Router::new().route("/echo", any(watched)), ends)
}

/// A link over an HTTP carrier, with a socket to a path.
async fn opened(server: &Server, kind: &str, path: &str) -> (Link, u32) {
    let mut channel = None;
    let link = http::link(server, kind, &[], |endpoint| channel = endpoint.open(path, "")).await;
    let mut link = link.expect("a link");
    let event = link.news().await;
    assert!(matches!(event, Event::Accepted { .. }), "{event:?}");
    (link, channel.expect("below the limit"))
}

async fn until(what: impl Fn() -> bool) {
    let looking = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("in time");
}

/// Reads again, so that the library answers the server's Close.
async fn answer_close(link: &mut Link) {
    let _ = tokio::time::timeout(PATIENCE, link.wire.next()).await.expect("an end");
}

/// Waits until nothing is left of any link.
async fn until_empty(server: &Server) {
    until(|| server.stats.links() == 0 && server.stats.channels() == 0 && server.stats.memory() == 0).await;
}

#[tokio::test]
async fn messages_pass_over_each_kind() {
    let server = Server::start(app()).await;
    for kind in KINDS {
        let (mut link, channel) = opened(&server, kind, "/echo").await;
        for n in 0..100 {
            let text = format!("{kind} {n}");
            link.assert_echo(channel, &text).await;
            link.endpoint.consumed(channel, 1, text.len() as u32);
        }
        let large = Message::binary((0..1 << 20).map(|at| (at / 7) as u8).collect::<Vec<_>>());
        link.endpoint.send(channel, large.clone());
        assert!(link.news().await == Event::Message { channel, message: large });
        // The connection ends in good order.
        link.wire.close(None).await.expect("an open connection");
        let rest = tokio::time::timeout(PATIENCE, link.wire.next()).await.expect("an answer");
        assert!(matches!(rest, Some(Ok(ts::Message::Close(None)))), "{rest:?}");
        until_empty(&server).await;
    }
    assert_eq!(server.stats.totals().links_opened, 2);
}

#[tokio::test]
async fn close_codes_pass_both_ways() {
    let multiplexer = Multiplexer::new("/multiplexer");
    let links = multiplexer.links();
    let server = Server::with(multiplexer, app()).await;
    for kind in KINDS {
        let (mut link, channel) = opened(&server, kind, "/closes").await;
        let Event::Closed { close, .. } = link.news().await else { panic!("{kind}") };
        assert_eq!((close.code, &*close.reason), (Some(4001), "enough"));
        link.endpoint.close(channel, Some(4001), "");
        let close = CloseFrame { code: 4401, reason: "logged out".into() };
        links.close_where(|_| true, &close);
        assert_eq!(link.event().await, Err(4401), "{kind}");
        answer_close(&mut link).await;
        until_empty(&server).await;
    }
}

#[tokio::test]
async fn a_page_that_leaves_closes_its_sockets() {
    let (app, mut ends) = watched();
    let server = Server::start(app).await;
    for kind in KINDS {
        let (mut link, channel) = opened(&server, kind, "/echo").await;
        link.assert_echo(channel, "here").await;
        let frame = ts::protocol::CloseFrame { code: 1001.into(), reason: "".into() };
        link.wire.send(ts::Message::Close(Some(frame))).await.expect("an open connection");
        let end = told(&mut ends).await;
        assert!(end.contains("1001"), "{kind}: {end}");
        until_empty(&server).await;
    }
}

#[tokio::test]
async fn pings_of_handlers_are_answered() {
    let server = Server::start(app()).await;
    for kind in KINDS {
        let (mut link, channel) = opened(&server, kind, "/pings").await;
        let pong = Message::binary("are you there");
        assert_eq!(link.news().await, Event::Message { channel, message: pong }, "{kind}");
    }
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_given_up() {
    let multiplexer = Multiplexer::new("/multiplexer").resume_timeout(Duration::ZERO);
    let server = Server::with(multiplexer, app()).await;
    for kind in KINDS {
        let requests = http::Requests::new(&server).query(&early("/echo"));
        let (id, answer) = requests.open(kind).await.expect("a carrier");
        // It reads, and answers nothing.
        let reading = tokio::spawn(async move {
            if kind == "stream" {
                return answer.rest().await;
            }
            let mut all = Vec::new();
            while let Ok(bytes) = requests.receive(&id, all.len() as u64).await {
                all.extend(bytes);
            }
            all
        });
        until(|| server.stats.channels() == 1).await;
        // Two intervals and 10 s, and the time for the answer to the Close.
        for _ in 0..8 {
            pass(10).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let all = tokio::time::timeout(PATIENCE, reading).await.expect("an end").expect("no panic");
        // A ping, whose payload is a number, and the Close with 1008.
        assert!(all.windows(2).any(|frame| frame == [0x89, 8]), "{kind}: {all:?}");
        assert!(has_close(&all), "{kind}: {all:?}");
        until_empty(&server).await;
    }
}

/// Whether the server has closed with 1008.
fn has_close(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|frame| frame[0] == 0x88 && frame[2..] == 1008_u16.to_be_bytes())
}

/// The query of a handshake whose first batch opens a socket.
fn early(path: &str) -> String {
    let mut endpoint = Endpoint::new(Side::Client, Settings::default(), 0);
    endpoint.open(path, "").expect("below the limit");
    format!("{HANDSHAKE_PARAMETER}={}", endpoint.handshake())
}

#[tokio::test]
async fn a_shutdown_closes_channels_first() {
    for kind in KINDS {
        let server = Server::start(app()).await;
        let (mut link, channel) = opened(&server, kind, "/echo").await;
        server.shutdown.cancel();
        let event = link.event().await.expect("the channel closes first");
        assert!(
            matches!(&event, Event::Closed { close, .. } if close.code == Some(1001)),
            "{kind}: {event:?}"
        );
        link.endpoint.close(channel, Some(1001), "");
        assert_eq!(link.event().await, Err(1001), "{kind}");
        answer_close(&mut link).await;
        until_empty(&server).await;
    }
}

/// Opens the next connection of a link, and resumes the link over it.
async fn resumed(server: &Server, link: &mut Link, carrier: &str) {
    assert!(link.endpoint.carrier_lost(0), "the link can be resumed");
    link.endpoint.redialled(0);
    let Some(Physical::Binary(first)) = link.endpoint.poll_transmit() else { panic!("RESUME") };
    let mut wire = connect(server, carrier, &format!("{RESUME_PARAMETER}=0")).await;
    wire.send(ts::Message::Binary(first)).await.expect("an open connection");
    link.wire = wire;
}

async fn connect(server: &Server, carrier: &str, query: &str) -> Wire {
    if carrier == "websocket" {
        let origin = format!("http://{}", server.address);
        let headers = [("sec-websocket-protocol", SUBPROTOCOL), ("origin", origin.as_str())];
        return dial(server, &format!("/multiplexer?{query}"), &headers).await.expect("a connection");
    }
    http::carry(server, carrier, query, &[]).await.expect("a connection")
}

/// A link that can be resumed, with a socket to `/echo`.
async fn resumable(server: &Server, carrier: &str) -> (Link, u32) {
    let mut endpoint = Endpoint::new(Side::Client, Settings::new().resume_timeout(1), 0);
    let channel = endpoint.open("/echo", "").expect("below the limit");
    let query = format!("{HANDSHAKE_PARAMETER}={}", endpoint.handshake());
    let wire = connect(server, carrier, &query).await;
    let mut link = Link { wire, endpoint };
    let event = link.news().await;
    assert!(matches!(event, Event::Accepted { .. }), "{event:?}");
    // The server knows that the client has its token.
    link.assert_echo(channel, "ready").await;
    (link, channel)
}

#[tokio::test]
async fn a_link_changes_its_carrier_a_hundred_times_in_mid_traffic_and_loses_nothing() {
    const CHANGES: usize = 100;
    /// Messages between two changes, and messages under way.
    const EVERY: usize = 15;
    const UNDER_WAY: usize = 20;
    let server = Server::start(app()).await;
    let (mut link, channel) = resumable(&server, "websocket").await;
    let text = |n: usize| format!("{n} {}", "x".repeat([10, 3_000, 70_000][n % 41 % 3]));
    let carriers = ["stream", "poll", "websocket", "poll", "stream", "stream", "poll", "poll", "websocket"];
    let (mut sent, mut echoed) = (0, 0);
    while echoed < CHANGES * EVERY {
        // Always some under way, in both directions, when the connection changes.
        while sent < CHANGES * EVERY && sent < echoed + UNDER_WAY {
            link.endpoint.send(channel, Message::text(text(sent)));
            sent += 1;
        }
        let event = link.news().await;
        assert!(
            event == Event::Message { channel, message: Message::text(text(echoed)) },
            "message {echoed}"
        );
        link.endpoint.consumed(channel, 1, text(echoed).len() as u32);
        echoed += 1;
        if echoed % EVERY == 7 {
            resumed(&server, &mut link, carriers[echoed / EVERY % carriers.len()]).await;
        }
    }
    assert_eq!(server.stats.totals().links_resumed, CHANGES as u64);
    assert_eq!((server.stats.links(), server.stats.totals().links_opened), (1, 1));
}

#[tokio::test]
async fn a_client_that_is_gone_has_its_link_parked() {
    let server = Server::start(app()).await;
    for kind in KINDS {
        let (link, _) = resumable(&server, kind).await;
        drop(link);
        let parked = async {
            while server.stats.parked() == 0 {
                // The server detects the loss of polls by the time without a request.
                tokio::time::sleep(Duration::from_millis(20)).await;
                pass(3).await;
            }
        };
        tokio::time::timeout(2 * PATIENCE, parked).await.expect("in time");
        pass(31).await;
        until_empty(&server).await;
    }
}

#[tokio::test]
async fn headers_that_name_a_user_count_from_trusted_proxies_only() {
    let seen = async |headers: HeaderMap, upgrade: WebSocketUpgrade| {
        let names = ["x-user", "x-own", "cookie", "user-agent", "traceparent", "manysocket-carrier"];
        let all = names.map(|name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-"));
        let all = all.join(" ");
        upgrade.on_upgrade(async move |mut socket| {
            let _ = socket.send(WsMessage::Text(all.into())).await;
            while let Some(Ok(_)) = socket.recv().await {}
        })
    };
    let app = Router::new().route("/seen", any(seen));
    let loopback: Proxies = "loopback".parse().expect("a range");
    let headers =
        [("x-user", "ada"), ("x-own", "o"), ("cookie", "c=1"), ("user-agent", "u"), ("traceparent", "t")];
    for (proxies, expected) in [(vec![], "- - c=1 u t -"), (vec![loopback], "ada o c=1 u t -")] {
        let multiplexer = Multiplexer::new("/multiplexer")
            .trust_forwarded(proxies)
            .inherit_headers([axum::http::HeaderName::from_static("x-own")]);
        let server = Server::with(multiplexer, app.clone()).await;
        for kind in KINDS {
            let mut link = http::link(&server, kind, &headers, |endpoint| {
                endpoint.open("/seen", "");
            })
            .await
            .expect("a link");
            let event = link.news().await;
            let Event::Accepted { channel, .. } = event else { panic!("{event:?}") };
            assert_eq!(link.news().await, Event::Message { channel, message: Message::text(expected) });
        }
    }
}

/// A server of [`serve`](manysocket_server::serve()), which ends with its links.
async fn serving(app: Router) -> (Server, tokio::task::JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let multiplexer = Multiplexer::new("/multiplexer");
    let (stats, shutdown) = (multiplexer.stats(), CancellationToken::new());
    let running =
        serve(listener, multiplexer.serve(app)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    (Server { address, stats, shutdown }, tokio::spawn(running.into_future()))
}

#[tokio::test]
async fn a_server_that_stops_closes_its_links_in_good_order_and_then_returns() {
    for kind in KINDS {
        let (server, running) = serving(app()).await;
        let (mut link, channel) = opened(&server, kind, "/echo").await;
        link.assert_echo(channel, "here").await;
        let requests = http::Requests::new(&server).with(&[(http::CARRIER, kind)]);
        let mut sender = requests.connect().await;
        let unknown = requests.clone().with(&[(http::CARRIER, &format!("send {} 0", "0".repeat(32)))]);
        assert_eq!(unknown.over(&mut sender, "POST", Body::empty()).await.expect("an answer").status, 410);
        server.shutdown.cancel();
        let event = link.event().await.expect("the channel closes first");
        assert!(
            matches!(&event, Event::Closed { close, .. } if close.code == Some(1001)),
            "{kind}: {event:?}"
        );
        assert!(!running.is_finished(), "the server waits for the page");
        // Over a connection that is still open, too.
        assert_eq!(requests.over(&mut sender, "POST", Body::empty()).await.expect("an answer").status, 503);
        link.endpoint.close(channel, Some(1001), "");
        assert_eq!(link.event().await, Err(1001), "{kind}");
        answer_close(&mut link).await;
        tokio::time::timeout(PATIENCE, running).await.expect("in time").expect("no panic").expect("no error");
        until_empty(&server).await;
    }
}

#[tokio::test]
async fn a_page_that_leaves_may_drop_the_stream_before_its_last_request() {
    let (app, mut ends) = watched();
    let server = Server::start(app).await;
    let requests = http::Requests::new(&server).query(&early("/echo"));
    let (id, answer) = requests.open("stream").await.expect("a carrier");
    until(|| server.stats.channels() == 1).await;
    drop(answer);
    // The server learns of it, in the same thread, before it answers others.
    for _ in 0..3 {
        assert_eq!(requests.send(&"0".repeat(32), 0, vec![]).await, 410);
    }
    assert_eq!(requests.send(&id, 0, http::frame(0x88, &1001_u16.to_be_bytes())).await, 204);
    let end = told(&mut ends).await;
    assert!(end.contains("1001"), "{end}");
    until_empty(&server).await;
}

/// More than the buffers of a connection take, which nobody reads.
#[tokio::test]
async fn a_client_that_never_reads_its_stream_is_given_up() {
    const SOCKETS: usize = 64;
    let flood = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(
            async |mut socket| {
                while socket.send(WsMessage::Binary(vec![0; 60_000].into())).await.is_ok() {}
            },
        )
    };
    let (server, _running) = serving(Router::new().route("/flood", any(flood))).await;
    let mut endpoint = Endpoint::new(Side::Client, Settings::default(), 0);
    for _ in 0..SOCKETS {
        endpoint.open("/flood", "").expect("below the limit");
    }
    let query = format!("{HANDSHAKE_PARAMETER}={}", endpoint.handshake());
    let address = server.address;
    let head = format!(
        "POST /multiplexer?{query} HTTP/1.1\r\nhost: {address}\r\norigin: http://{address}\r\n\
         manysocket-carrier: stream\r\ncontent-length: 0\r\n\r\n"
    );
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(head.as_bytes()).await.expect("a server");
    until(|| server.stats.channels() == SOCKETS).await;
    assert_eq!((server.stats.http_streams(), server.stats.http_polls()), (1, 0));
    // Until all that it may send waits.
    let (mut before, mut held) = (0, server.stats.memory());
    while held != before || held < 1 << 20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        (before, held) = (held, server.stats.memory());
    }
    pass(125).await;
    until_empty(&server).await;
    until(|| server.stats.http_streams() == 0).await;
    // And the connection ends, with as much as was on its way.
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("an end");
    assert!(!rest.is_empty());
}

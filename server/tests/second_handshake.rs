//! A client dials again while its first handshake may have reached the server: its opens run once (docs/protocol.md §3.4).

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::Message as WsMessage;
use axum::http::HeaderMap;
use axum::routing::any;
use common::upstream::pass;
use common::{Link, PATIENCE, Server, Wire, dial, http, told};
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::{
    Endpoint, Event, HANDSHAKE_PARAMETER, Message, NONCE_PARAMETER, SUBPROTOCOL, Settings, Side,
};
use manysocket_server::{Multiplexer, WebSocketUpgrade};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite as ts;

/// How a second handshake gets through.
const WAYS: [&str; 3] = ["stream", "poll", "websocket"];

/// The fate of the first handshake's connection.
const FATES: [Fate; 3] = [Fate::Silent, Fate::Lost, Fate::Abandoned];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// No byte of the server arrives, and neither end notices.
    Silent,
    Lost,
    /// The client goes on otherwise, before the server has noticed.
    Abandoned,
}

/// An application that counts its sockets, and reports how they end. Its sockets begin with messages.
struct App {
    server: Server,
    opens: Arc<AtomicUsize>,
    ends: mpsc::UnboundedReceiver<String>,
}

impl App {
    async fn start(multiplexer: Multiplexer) -> Self {
        let opens = Arc::new(AtomicUsize::new(0));
        let (tell, ends) = mpsc::unbounded_channel();
        let count = Arc::clone(&opens);
        let greets = async move |upgrade: WebSocketUpgrade| {
            count.fetch_add(1, Ordering::SeqCst);
            upgrade.on_upgrade(async move |mut socket| {
                for text in ["one", "two"] {
                    let _ = socket.send(WsMessage::Text(text.into())).await;
                }
                loop {
                    match socket.recv().await {
                        Some(Ok(message @ WsMessage::Text(_))) => drop(socket.send(message).await),
                        other => return drop(tell.send(format!("{other:?}"))),
                    }
                }
            })
        };
        let server = Server::with(multiplexer, Router::new().route("/greets", any(greets))).await;
        Self { server, opens, ends }
    }

    /// How often the handler has run, once it has for a first handshake.
    async fn opened(&self) -> usize {
        until(|| self.opens.load(Ordering::SeqCst) > 0).await;
        self.opens.load(Ordering::SeqCst)
    }
}

fn multiplexer() -> Multiplexer {
    Multiplexer::new("/multiplexer")
}

async fn until(what: impl Fn() -> bool) {
    let looking = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("in time");
}

/// A client with a socket, before it has dialled.
struct Client {
    endpoint: Endpoint,
    channel: u32,
    batch: String,
    nonce: &'static str,
}

impl Client {
    fn new(nonce: &'static str) -> Self {
        Self::with(nonce, Settings::new().resume_timeout(1))
    }

    fn with(nonce: &'static str, settings: Settings) -> Self {
        let mut endpoint = Endpoint::new(Side::Client, settings, 0);
        let channel = endpoint.open("/greets", "").expect("below the limit");
        let batch = endpoint.handshake();
        Self { endpoint, channel, batch, nonce }
    }

    /// The handshake of a WebSocket, with the first batch.
    async fn first(&self, app: &App) -> Result<Wire, u16> {
        let Self { batch, nonce, .. } = self;
        let query = format!("{NONCE_PARAMETER}={nonce}&{HANDSHAKE_PARAMETER}={batch}");
        websocket(&app.server, &query, &[]).await
    }

    /// The second one, by another way, with the first batch as a message.
    async fn second(self, app: &App, way: &str, headers: &[(&'static str, &str)]) -> (Link, u32) {
        let Self { endpoint, channel, batch, nonce } = self;
        let query = format!("{NONCE_PARAMETER}={nonce}");
        let mut wire = match way {
            "websocket" => websocket(&app.server, &query, headers).await.expect("a connection"),
            kind => http::carry(&app.server, kind, &query, headers).await.expect("a carrier"),
        };
        let batch = data_encoding::BASE64URL_NOPAD.decode(batch.as_bytes()).expect("base64url");
        wire.send(ts::Message::Binary(batch.into())).await.expect("an open connection");
        (Link { wire, endpoint }, channel)
    }
}

async fn websocket(server: &Server, query: &str, headers: &[(&'static str, &str)]) -> Result<Wire, u16> {
    let origin = format!("http://{}", server.address);
    let mut all = vec![("sec-websocket-protocol", SUBPROTOCOL), ("origin", origin.as_str())];
    all.extend(headers);
    dial(server, &format!("/multiplexer?{query}"), &all).await
}

/// The socket of a link opens, has its messages in order, and works.
async fn assert_works(link: &mut Link, channel: u32, what: &str) {
    let accepted = link.news().await;
    assert!(matches!(accepted, Event::Accepted { .. }), "{what}: {accepted:?}");
    for text in ["one", "two"] {
        assert_eq!(link.news().await, Event::Message { channel, message: Message::text(text) }, "{what}");
    }
    link.assert_echo(channel, "works").await;
}

#[tokio::test]
async fn a_second_handshake_goes_on_with_the_opens_of_the_first() {
    for way in WAYS {
        for fate in FATES {
            let what = format!("{way}, {fate:?}");
            let mut app = App::start(multiplexer()).await;
            let client = Client::new("0.123");
            let mut first = client.first(&app).await.expect("a link");
            assert_eq!(app.opened().await, 1, "{what}");
            match fate {
                Fate::Silent => {}
                Fate::Lost => {
                    // In the middle of the server's bytes.
                    let _ = first.next().await;
                    drop(first);
                    until(|| app.server.stats.parked() == 1).await;
                    first = websocket(&app.server, "", &[]).await.expect("a connection of no use");
                }
                Fate::Abandoned => drop(std::mem::replace(
                    &mut first,
                    websocket(&app.server, "", &[]).await.expect("a connection of no use"),
                )),
            }
            let (mut link, channel) = client.second(&app, way, &[]).await;
            assert_works(&mut link, channel, &what).await;
            assert_eq!(app.opens.load(Ordering::SeqCst), 1, "{what}");
            // It is a link as any other: it can be resumed.
            assert!(link.endpoint.carrier_lost(0), "{what}");
            assert!(app.ends.try_recv().is_err(), "{what}: the socket has not ended");
            drop(first);
        }
    }
}

#[tokio::test]
async fn a_first_handshake_that_arrives_late_is_refused() {
    for way in WAYS {
        let mut app = App::start(multiplexer()).await;
        let (first, second) = (Client::new("0.5"), Client::new("0.5"));
        let (mut link, channel) = second.second(&app, way, &[]).await;
        assert_works(&mut link, channel, way).await;
        assert_eq!(first.first(&app).await.err(), Some(409), "{way}");
        link.assert_echo(channel, "unharmed").await;
        assert_eq!(app.opens.load(Ordering::SeqCst), 1, "{way}");
        // The nonce is free again after the link.
        let close = ts::protocol::CloseFrame { code: 1001.into(), reason: "".into() };
        link.wire.send(ts::Message::Close(Some(close))).await.expect("an open connection");
        told(&mut app.ends).await;
        until(|| app.server.stats.links() == 0).await;
        first.first(&app).await.expect("a link");
    }
}

/// A client that has had an answer knows that its first handshake was good.
#[tokio::test]
async fn a_link_whose_client_has_an_answer_is_not_taken_over() {
    for way in WAYS {
        let app = App::start(multiplexer()).await;
        let (first, second) = (Client::new("0.5"), Client::new("0.5"));
        let wire = first.first(&app).await.expect("a link");
        let mut link = Link { wire, endpoint: first.endpoint };
        assert_works(&mut link, first.channel, way).await;
        let (mut other, channel) = second.second(&app, way, &[]).await;
        assert_works(&mut other, channel, way).await;
        link.assert_echo(first.channel, "unharmed").await;
        assert_eq!((app.opens.load(Ordering::SeqCst), app.server.stats.links()), (2, 2), "{way}");
    }
}

/// A nonce stands in URLs, which others may see.
#[tokio::test]
async fn another_user_takes_no_link_over() {
    let user = |parts: &axum::http::request::Parts| {
        let cookie = |headers: &HeaderMap| headers.get("cookie")?.to_str().ok().map(str::to_owned);
        cookie(&parts.headers)
    };
    let of_other = "https://other.example";
    let multiplexer = multiplexer().resume_identity(user).allow_origin(of_other.parse().expect("an origin"));
    let app = App::start(multiplexer).await;
    let client = Client::new("0.5");
    let _first = client.first(&app).await.expect("a link");
    assert_eq!(app.opened().await, 1);
    for (n, headers) in [[("cookie", "user=eve")], [("origin", of_other)]].iter().enumerate() {
        let (mut link, channel) = Client::new("0.5").second(&app, "stream", headers).await;
        assert_works(&mut link, channel, "a link of its own").await;
        assert_eq!(app.opens.load(Ordering::SeqCst), n + 2);
    }
    let (mut link, channel) = client.second(&app, "stream", &[]).await;
    assert_works(&mut link, channel, "the owner's").await;
    assert_eq!(app.opens.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn where_links_end_with_their_connections_each_handshake_has_its_own() {
    let none = multiplexer().resume_timeout(Duration::ZERO);
    for (multiplexer, settings) in
        [(none, Settings::new().resume_timeout(1)), (multiplexer(), Settings::new())]
    {
        let app = App::start(multiplexer).await;
        let client = Client::with("0.5", settings);
        let _first = client.first(&app).await.expect("a link");
        assert_eq!(app.opened().await, 1);
        let (mut link, channel) = client.second(&app, "stream", &[]).await;
        assert_works(&mut link, channel, "no opens are lost").await;
    }
}

#[tokio::test]
async fn a_link_waits_for_a_second_handshake_for_ten_seconds() {
    let mut app = App::start(multiplexer()).await;
    let client = Client::new("0.5");
    drop(client.first(&app).await.expect("a link"));
    assert_eq!(app.opened().await, 1);
    until(|| app.server.stats.parked() == 1).await;
    assert!(app.ends.try_recv().is_err());
    pass(11).await;
    told(&mut app.ends).await;
    until(|| app.server.stats.links() == 0 && app.server.stats.memory() == 0).await;
    let (mut link, channel) = client.second(&app, "poll", &[]).await;
    assert_works(&mut link, channel, "a link of its own").await;
}

/// A page that goes away while it dials, and one that never sends the first batch.
#[tokio::test]
async fn handshakes_that_are_given_up_leave_nothing() {
    let app = App::start(multiplexer()).await;
    for way in ["stream", "poll"] {
        let query = format!("{NONCE_PARAMETER}=0.5");
        let wire = http::carry(&app.server, way, &query, &[]).await.expect("a carrier");
        assert_eq!(app.server.stats.links(), 1);
        drop(wire);
        pass(31).await;
        until(|| app.server.stats.links() == 0 && app.server.stats.memory() == 0).await;
    }
    assert_eq!(app.server.stats.totals().links_opened, 0);
}

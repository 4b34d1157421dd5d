//! Every limit of a link, crossed: the peer gets a code and a reason, the log and the figures by its name, and nobody
//! else notices.

use std::time::Duration;

use axum::Router;
use axum::extract::ws::Message as WsMessage;
use axum::routing::any;
use futures_util::SinkExt;
use manysocket_protocol::{Close, Event, Message};
use manysocket_server::{Limits, Multiplexer, Settings, Stats, WebSocketUpgrade};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite as ts;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::common::upstream::pass;
use crate::common::{Link, PATIENCE, Server, Wire, told};
use crate::log;
use crate::wire::{
    BINARY_PART, MAX_CREDIT, WINDOW, batch, end, frame, greeted, hello, opened, opens, settled, silent,
};

/// The neighbour's text.
const WORDS: &str = "still here";

const DOCUMENT: &str = include_str!("../../../docs/security.md");

/// A server with one of its limits set low, and a page that does nothing wrong.
struct Limited {
    server: Server,
    neighbour: Link,
    channel: u32,
}

impl Limited {
    async fn start(settings: Settings, limits: Limits, app: Router) -> Self {
        log::begin();
        let server =
            Server::with(Multiplexer::new("/multiplexer").settings(settings).limits(limits), app).await;
        let mut neighbour = Link::dial(&server).await;
        let channel = neighbour.open("/echo").await;
        Self { server, neighbour, channel }
    }

    /// The neighbour goes on.
    async fn is_served(&mut self) {
        self.neighbour.assert_echo(self.channel, WORDS).await;
        self.neighbour.endpoint.consumed(self.channel, 1, WORDS.len() as u32);
    }

    /// It goes on until something has come about.
    async fn is_served_until(&mut self, has_come: impl Fn(&Stats) -> bool) {
        let stats = self.server.stats.clone();
        let waiting = async {
            while !has_come(&stats) {
                self.is_served().await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("in time");
    }

    /// A limit has been crossed once; the peer learned it by `code`, the operator by a count and a line of the log.
    async fn crossed(&mut self, limit: &str, code: u16) {
        let crossed = self.server.stats.totals().limits_crossed;
        assert_eq!(crossed.iter().map(|(&name, &count)| (name, count)).collect::<Vec<_>>(), [(limit, 1)]);
        let log = log::text();
        let named = format!("limit=\"{limit}\"");
        assert!(log.lines().any(|line| line.contains("WARN") && line.contains(&named)), "{log}");
        let row = DOCUMENT.lines().find(|line| line.starts_with(&format!("| `{limit}`")));
        assert!(row.is_some_and(|row| row.contains(&code.to_string())), "docs/security.md: {row:?}");
        self.is_served().await;
    }

    /// A limit has been crossed once, and the link it was crossed on is ended.
    async fn ended(&mut self, wire: &mut Wire, limit: &str, code: u16, reason: &'static str) {
        assert_eq!(end(wire).await, (code, reason.to_owned()));
        assert_eq!(self.server.stats.totals().links_closed.get(&(code, reason)), Some(&1));
        self.crossed(limit, code).await;
    }
}

fn app() -> Router {
    let echo = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| {
            while let Some(Ok(message)) = socket.recv().await {
                let _ = socket.send(message).await;
            }
        })
    };
    Router::new().route("/echo", any(echo))
}

#[tokio::test]
async fn max_links() {
    let limits = Limits::new().max_links(1);
    let mut limited = Limited::start(Settings::default(), limits, app()).await;
    assert_eq!(Link::dial_with(&limited.server, &[], |_| {}).await.err(), Some(503));
    limited.crossed("max_links", 503).await;
}

#[tokio::test]
async fn max_channels() {
    let settings = Settings::new().max_channels(2);
    let mut limited = Limited::start(settings, Limits::default(), app()).await;
    let mut link = Link::dial_with(&limited.server, &[], |endpoint| {
        for _ in 0..3 {
            endpoint.open("/echo", "").expect("a channel");
        }
    })
    .await
    .expect("a link");
    while !matches!(link.news().await, Event::Refused { status: 503, .. }) {}
    limited.crossed("max_channels", 503).await;
}

#[tokio::test]
async fn max_channels_by_far() {
    let settings = Settings::new().max_channels(2);
    let mut limited = Limited::start(settings, Limits::default(), app()).await;
    let mut wire = greeted(&limited.server).await;
    wire.send(opens(1, 2 + 1024 + 1, "/echo")).await.expect("an open link");
    assert_eq!(end(&mut wire).await, (1008, "OPEN far beyond max_channels".into()));
    // Each of the 1,024 was refused, too.
    assert_eq!(limited.server.stats.totals().limits_crossed["max_channels"], 1024 + 1);
    limited.is_served().await;
}

#[tokio::test]
async fn max_open() {
    let settings = Settings::new().max_open(100);
    let mut limited = Limited::start(settings, Limits::default(), app()).await;
    let mut link = Link::dial(&limited.server).await;
    link.endpoint.open(&format!("/{}", "x".repeat(100)), "").expect("a channel");
    assert!(matches!(link.news().await, Event::Refused { status: 431, .. }));
    limited.crossed("max_open", 431).await;
}

#[tokio::test]
async fn max_opening() {
    let (tell, mut asked) = mpsc::unbounded_channel();
    let thinking = async move |_: WebSocketUpgrade| {
        let _ = tell.send(());
        std::future::pending::<()>().await;
    };
    let limits = Limits::new().max_opening(2);
    let app = app().route("/thinking", any(thinking));
    let mut limited = Limited::start(Settings::default(), limits, app).await;
    let mut link = Link::dial(&limited.server).await;
    link.open("/echo").await;
    let [first, second, _, last] = ["/thinking", "/thinking", "/thinking", "/echo"]
        .map(|path| link.endpoint.open(path, "").expect("a channel"));
    link.flush().await;
    for _ in 0..2 {
        told(&mut asked).await;
    }
    limited.is_served().await;
    assert!(asked.try_recv().is_err(), "two at a time");
    // No fault of the page's, so nothing is logged.
    assert_eq!(limited.server.stats.totals().limits_crossed["max_opening"], 2);
    link.endpoint.abort(first);
    link.flush().await;
    told(&mut asked).await;
    link.endpoint.abort(second);
    assert_eq!(link.news().await, Event::Accepted { channel: last, protocol: String::new() });
}

#[tokio::test]
async fn max_churn() {
    let settings = Settings::new().max_churn(5);
    let mut limited = Limited::start(settings, Limits::default(), app()).await;
    let mut link = Link::dial(&limited.server).await;
    for _ in 0..5 {
        link.endpoint.open("/nothing", "").expect("a channel");
        assert!(matches!(link.news().await, Event::Refused { status: 404, .. }));
    }
    link.endpoint.open("/echo", "").expect("a channel");
    link.flush().await;
    limited.ended(&mut link.wire, "max_churn", 1008, "too many opens that came to nothing").await;
}

#[tokio::test]
async fn window() {
    let mut limited = Limited::start(Settings::default(), Limits::default(), app()).await;
    let mut wire = opened(&limited.server, "/echo").await;
    let text = format!("1:{}", "x".repeat(Settings::default().window as usize));
    wire.send(ts::Message::text(text)).await.expect("an open link");
    limited.ended(&mut wire, "window", 1008, "data beyond the credit").await;
}

#[tokio::test]
async fn max_message() {
    let settings = Settings::new().max_message(1000);
    let mut limited = Limited::start(settings, Limits::default(), app()).await;
    let mut link = Link::dial(&limited.server).await;
    let (large, small) = (link.open("/echo").await, link.open("/echo").await);
    link.endpoint.send(large, Message::binary(vec![0; 1001]));
    let reason = "the message is larger than the receiver allows".into();
    let closed = Event::Closed { channel: large, close: Close { code: Some(1009), reason } };
    assert_eq!(link.news().await, closed);
    link.assert_echo(small, "still here").await;
    limited.crossed("max_message", 1009).await;
}

#[tokio::test]
async fn physical_message() {
    let settings = Settings::new().max_fragment(4096);
    // 64 KiB are for the headers of a batch; text takes at most three bytes a unit.
    let most = 3 * 4096 + 64 * 1024;
    let part = |last| Frame::message(vec![0; most / 2 + 1], OpCode::Data(Data::Continue), last);
    let mut first = part(false);
    first.header_mut().opcode = OpCode::Data(Data::Binary);
    let whole = vec![ts::Message::binary(vec![0; most + 1])];
    for message in [whole, vec![ts::Message::Frame(first), ts::Message::Frame(part(true))]] {
        let mut limited = Limited::start(settings, Limits::default(), app()).await;
        let mut wire = greeted(&limited.server).await;
        for part in message {
            wire.send(part).await.expect("an open link");
        }
        let (code, _) = end(&mut wire).await;
        // Input that the server has not read resets the connection, and then the code may not arrive.
        assert!(matches!(code, 1009 | 1006), "{code}");
        limited.crossed("physical_message", 1009).await;
    }
}

/// A message of which the last piece does not come.
fn unfinished(bytes: usize) -> ts::Message {
    batch(&frame(1, BINARY_PART, &[bytes]), "", &vec![0; bytes])
}

#[tokio::test]
async fn link_memory() {
    let limits = Limits::new().link_memory(150_000);
    let mut limited = Limited::start(Settings::default(), limits, app()).await;
    let mut wire = opened(&limited.server, "/echo").await;
    wire.send(unfinished(150_001)).await.expect("an open link");
    limited.ended(&mut wire, "link_memory", 1008, "the link holds more memory than one may").await;
}

#[tokio::test]
async fn total_memory() {
    let limits = Limits::new().total_memory(150_000);
    let mut limited = Limited::start(Settings::default(), limits, app()).await;
    let (mut less, mut more) =
        (opened(&limited.server, "/echo").await, opened(&limited.server, "/echo").await);
    less.send(unfinished(5_000)).await.expect("an open link");
    settled(&mut less).await;
    more.send(unfinished(149_000)).await.expect("an open link");
    limited.ended(&mut more, "total_memory", 1013, "the server's memory is full").await;
    settled(&mut less).await;
}

/// The link that holds most is idle, so the growth of others must make the server check it.
#[tokio::test]
async fn total_memory_of_an_idle_link() {
    let limits = Limits::new().total_memory(400_000);
    // No ping is due that would have the server look at the link.
    let settings = Settings::new().ping_interval(600_000);
    let mut limited = Limited::start(settings, limits, app()).await;
    let mut idle = opened(&limited.server, "/echo").await;
    let mut others = Vec::new();
    for _ in 0..8 {
        others.push(opened(&limited.server, "/echo").await);
    }
    idle.send(unfinished(250_000)).await.expect("an open link");
    settled(&mut idle).await;
    for other in &mut others {
        other.send(unfinished(12_000)).await.expect("an open link");
        settled(other).await;
    }
    limited.ended(&mut idle, "total_memory", 1013, "the server's memory is full").await;
    for other in &mut others {
        settled(other).await;
    }
}

#[tokio::test]
async fn ping_interval() {
    let settings = Settings::new().ping_interval(1000);
    let mut limited = Limited::start(settings, Limits::default(), app()).await;
    let mut wire = greeted(&limited.server).await;
    settled(&mut wire).await;
    // Suspected after two intervals, and dead ten seconds later: nobody reads the server's pings.
    pass(3).await;
    limited.is_served().await;
    // In steps: a server whose timer is late asks again first, since it may have slept.
    for _ in 0..11 {
        pass(1).await;
        limited.is_served().await;
    }
    limited.ended(&mut wire, "ping_interval", 1008, "the peer has been silent for too long").await;
}

#[tokio::test]
async fn stall_timeout() {
    let pour = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(
            async |mut socket| {
                while socket.send(WsMessage::binary(vec![0; 64 * 1024])).await.is_ok() {}
            },
        )
    };
    let limits = Limits::new().stall_timeout(Duration::from_millis(200));
    let app = app().route("/pour", any(pour));
    let mut limited = Limited::start(Settings::default(), limits, app).await;
    // The largest possible credit, so that the connection itself is full first.
    let mut wire = silent(&limited.server).await;
    wire.send(batch(&hello(&[(WINDOW, MAX_CREDIT)]), "", &[])).await.expect("an open link");
    wire.send(opens(1, 1, "/pour")).await.expect("an open link");
    limited.is_served_until(|stats| !stats.totals().links_closed.is_empty()).await;
    limited.ended(&mut wire, "stall_timeout", 1008, "the peer takes nothing of what it is sent").await;
}

#[tokio::test]
async fn idle_timeout() {
    let limits = Limits::new().idle_timeout(Duration::from_secs(10));
    let mut limited = Limited::start(Settings::default(), limits, app()).await;
    let mut wire = greeted(&limited.server).await;
    settled(&mut wire).await;
    pass(11).await;
    limited.ended(&mut wire, "idle_timeout", 1000, "the link has had no channel for long").await;
}

/// The time for which a link waits for the answer to its physical close.
#[tokio::test]
async fn a_physical_close_that_is_never_answered() {
    let mut limited = Limited::start(Settings::default(), Limits::default(), app()).await;
    let mut wire = greeted(&limited.server).await;
    wire.send(ts::Message::text("nonsense")).await.expect("an open link");
    limited.is_served_until(|stats| !stats.totals().links_closed.is_empty()).await;
    assert_eq!(limited.server.stats.links(), 2);
    pass(6).await;
    limited.is_served_until(|stats| stats.links() == 1).await;
}

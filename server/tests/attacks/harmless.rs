//! Harmless traffic of the size of an attack: an attack's row compares a neighbour's latency with that beside this traffic.

use manysocket_protocol::{Event, Message};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::common::{Link, Server, get};
use crate::wire::ECHO;

/// Traffic that a well-behaved page may cause.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// Messages that are echoed, read and answered with credit, over some links with some channels each.
    Echoes { links: usize, channels: usize, messages: usize, bytes: usize },
    /// Channels that are opened and closed in good order, ten at a time.
    Opens(usize),
    /// Links that are dialled, used once, and kept.
    Dials(usize),
    /// Plain requests, one after the other.
    Gets(&'static str, usize),
    /// Commits that succeed, over so many sockets to as many documents, one after the other on each.
    Commits { sockets: usize, commits: usize },
}

use Load::{Commits, Dials, Echoes, Gets, Opens};

/// The bytes that may be on their way on a channel before their echoes are read: below the window.
const IN_FLIGHT: usize = 128 * 1024;

/// The traffic that is as large as an attack, by the attack's name: as many messages, bytes, opens, links or requests. It
/// stays below the limits that the attack crosses.
const LOADS: &[(&str, Load)] = &[
    ("a million pieces of one byte", echoes(1, 1, 1000, 4000)),
    ("200,000 empty messages", echoes(1, 1, 200_000, 0)),
    ("20 million control frames in batches", echoes(1, 1, 80, 500_000)),
    ("4 links, a million batches of one PING", echoes(4, 1, 25_000, 100)),
    ("4 links, 400,000 physical pings", echoes(4, 1, 25_000, 24)),
    ("4 links, a million physical pongs", echoes(4, 1, 25_000, 60)),
    ("4 links, a million empty continuations", echoes(4, 1, 25_000, 60)),
    ("pings whose pongs are never read", echoes(1, 1, 1000, 100_000)),
    ("2,000 handshakes that never end", Dials(2000)),
    ("200 heads of 1 MiB each", Gets("/demo/", 200)),
    ("links without end", Dials(499)),
    ("3,000 links that only sit", Dials(3000)),
    ("1,000 links with heads of 30 KB", Dials(1000)),
    ("35 lies about limits, credit and channels", Dials(35)),
    ("messages that never end", echoes(1, 4, 60, 1 << 20)),
    ("links that together fill the memory (100 MB)", echoes(8, 2, 6, 1 << 20)),
    ("a physical message of 1 GiB, announced", echoes(1, 1, 3, 1 << 20)),
    ("100 physical messages of 3 MiB without their last byte (100 MB)", echoes(10, 1, 30, 1 << 20)),
    ("a page that never grants (100 MB a link)", echoes(1, 100, 20, 60_000)),
    ("1,000 pages that never read", echoes(1000, 1, 4, 60_000)),
    ("small messages that keep large buffers", echoes(1, 200, 10, 64_000)),
    ("opens taken back at once", Opens(16_384)),
    ("5,000 channels opened and closed by the page", Opens(5_000)),
    ("1,000 channels closed by their upstream at once", Opens(1_000)),
    ("10,000 opens that an upstream never answers, taken back", Opens(10_000)),
    ("4,000 opens in a handshake, three times", Opens(12_000)),
    ("opens without end", Opens(16_384)),
    ("opens of 1 MiB each", echoes(1, 1, 100, 1 << 20)),
    ("2,000 topics that keep two large messages each", echoes(1, 2000, 2, 65_500)),
    ("3,000 opens of an index of 1 MiB", Opens(4_000)),
    ("500 requests of an index of 1 MiB, unread", Gets("/demo/", 500)),
    ("500 event streams of an index that changes", Dials(500)),
    ("documents of nested objects", Commits { sockets: 1, commits: 200 }),
    ("3,200 commits that fail on a heavy document", Commits { sockets: 16, commits: 200 }),
    ("64 sockets with calls of 249 KB, four times", echoes(1, 64, 4, 249_000)),
    ("4,000 requests of another site to HTTP carriers", Gets("/demo/", 4000)),
    ("4,000 guessed ids of HTTP carriers", Gets("/demo/", 4000)),
    ("lengths of requests that contradict each other", Gets("/demo/", 20)),
    ("1,000 requests of HTTP carriers that never end", Dials(1000)),
    ("4,000 repeated requests of an HTTP carrier", Gets("/demo/", 4000)),
    ("300 HTTP carriers that are never read", echoes(300, 1, 20, 60_000)),
    ("3,000 HTTP carriers without a request to receive", Dials(3000)),
    ("1,000 streams whose clients read nothing", Dials(1000)),
    ("2,000 resumptions of a link that takes nothing", Dials(2000)),
    ("2,000 resumptions with an echo each", Dials(2000)),
    ("2,000 connections that resume no link", Dials(2000)),
    ("1,000 links that wait for their clients, with 20 KB each", Dials(1000)),
    ("3,200 messages of 1 KB to a stored topic", echoes(1, 1, 3_200, 1_000)),
    ("2,000 subscribers of a stored topic from its beginning, unread", Opens(2_000)),
    ("256 streams on each of 16 sockets, of which nothing is taken", echoes(1, 16, 256, 1_000)),
    ("2,000 streamed calls that are cancelled at once", echoes(1, 1, 4_000, 50)),
];

/// Returns the traffic to compare an attack with.
pub(crate) fn like(attack: &str) -> Option<Load> {
    LOADS.iter().find(|(name, _)| *name == attack).map(|&(_, load)| load)
}

const fn echoes(links: usize, channels: usize, messages: usize, bytes: usize) -> Load {
    Echoes { links, channels, messages, bytes }
}

impl Load {
    pub(crate) async fn run(self, server: &Server) {
        match self {
            Echoes { links, channels, messages, bytes } => {
                let mut tasks = JoinSet::new();
                for _ in 0..links {
                    let server = Server::at(server.address);
                    tasks.spawn(async move { echo(&server, channels, messages, bytes).await });
                }
                // Kept to the end, as an attack keeps its own.
                tasks.join_all().await;
            }
            Opens(count) => open(server, count).await,
            Dials(count) => {
                let mut links = Vec::new();
                for _ in 0..count {
                    let mut link = Link::dial(server).await;
                    let channel = link.open(ECHO).await;
                    link.assert_echo(channel, "hello").await;
                    links.push(link);
                }
            }
            Gets(path, count) => {
                for _ in 0..count {
                    get(server.address, path).await;
                }
            }
            Commits { sockets, commits } => {
                let mut tasks = JoinSet::new();
                for socket in 0..sockets {
                    let server = Server::at(server.address);
                    tasks.spawn(async move { commit(&server, socket, commits).await });
                }
                tasks.join_all().await;
            }
        }
    }
}

/// Sends messages on each channel and awaits the echoes; returns the link, which is still open.
async fn echo(server: &Server, channels: usize, messages: usize, bytes: usize) -> Link {
    let mut link = Link::dial(server).await;
    let mut numbers = Vec::new();
    for _ in 0..channels {
        numbers.push(link.open(ECHO).await);
    }
    // Each message costs 64 more (docs/protocol.md §6).
    let round = (IN_FLIGHT / (bytes + 64)).clamp(1, messages);
    let (mut sent, content) = (0, Message::binary(vec![0; bytes]));
    while sent < messages {
        let count = round.min(messages - sent);
        for &channel in &numbers {
            for _ in 0..count {
                link.endpoint.send(channel, content.clone());
            }
        }
        for _ in 0..count * channels {
            let news = link.news().await;
            let Event::Message { channel, message } = news else { panic!("{news:?}") };
            link.endpoint.consumed(channel, 1, message.units());
        }
        sent += count;
    }
    link
}

async fn open(server: &Server, count: usize) {
    let mut link = Link::dial(server).await;
    let (mut opened, mut closed) = (0, 0);
    while closed < count {
        while opened < count && link.endpoint.channels() < 10 {
            link.endpoint.open(ECHO, "").expect("a channel");
            opened += 1;
        }
        match link.event().await.expect("the link lives") {
            Event::Accepted { channel, .. } => link.endpoint.close(channel, None, ""),
            Event::Closed { .. } => closed += 1,
            other => panic!("{other:?}"),
        }
    }
}

async fn commit(server: &Server, name: usize, count: usize) {
    let mut link = Link::dial(server).await;
    let mut document = Document::open(&mut link, &format!("harmless{name}")).await;
    for n in 0..count {
        document.commit(&json!([{"op": "add", "path": "", "value": {"n": n}}])).await;
    }
}

/// A document over a channel of a link that nobody else uses.
pub(crate) struct Document<'a> {
    pub(crate) link: &'a mut Link,
    channel: u32,
    version: Value,
}

impl<'a> Document<'a> {
    pub(crate) async fn open(link: &'a mut Link, name: &str) -> Self {
        let channel = link.open(&format!("/demo/state/{name}")).await;
        let mut document = Self { link, channel, version: Value::Null };
        document.version = document.next().await["version"].take();
        document
    }

    /// Commits to the latest version; returns the answer.
    pub(crate) async fn commit(&mut self, delta: &Value) -> Value {
        let text = json!({"id": "c", "base": self.version, "delta": delta}).to_string();
        self.link.endpoint.send(self.channel, Message::text(text));
        let answer = self.next().await;
        if answer["error"].is_null() {
            self.version = answer["version"].clone();
        }
        answer
    }

    /// The next message of the server.
    async fn next(&mut self) -> Value {
        let news = self.link.news().await;
        let Event::Message { channel, message } = news else { panic!("{news:?}") };
        self.link.endpoint.consumed(channel, 1, message.units());
        let Message::Text(text) = message else { panic!("{message:?}") };
        serde_json::from_slice(&text).expect("JSON")
    }
}

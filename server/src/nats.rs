//! Connects to NATS, over which topics, calls and documents cross from one server process to another.

mod address;
mod outbox;
mod peers;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, PublishError, Subject};
use percent_encoding::percent_decode_str;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use address::Address;
use outbox::Outbox;
pub(crate) use outbox::Outgoing;
use peers::Peers;

/// The interval of pings on a silent connection. The client drops the connection when the second ping in a row has no
/// answer, so it notices a vanished NATS within half a minute, as it does a vanished page.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// The timeout of a call: below the minute that proxies usually allow a request.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest pause between two attempts to reconnect. After an outage, messages wait for the servers that were
/// connected before, so all must return quickly.
const RETRY: Duration = Duration::from_millis(200);

/// The time that [`Nats::close`] waits for a NATS that does not read.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of unread messages of one topic; the client drops further ones and reports the gap to the topic's
/// subscribers. At the usual size of a few hundred bytes, 16 MiB.
const SUBSCRIPTION_CAPACITY: usize = 64 * 1024;

/// The longest subject, in bytes. NATS closes a connection on which a line of its protocol is longer than 4096 bytes.
const MAX_SUBJECT: usize = 1024;

/// A connection to NATS that reconnects automatically. Clones share it.
///
/// All programs with an account on that NATS are trusted: the server treats a message published on its subjects by
/// another program as if one of its own processes had published it. Use separate accounts for different sites on one
/// NATS.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use manysocket_server::{Nats, topic::Topics};
///
/// let nats = Nats::connect("nats://127.0.0.1:4222").await?;
/// let rooms = Topics::new().nats(&nats);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Nats {
    shared: Arc<Shared>,
}

/// The state that the clones share.
#[derive(Debug)]
struct Shared {
    client: Client,
    /// Changes when messages may have been missed.
    gaps: watch::Receiver<()>,
    /// Published messages that cannot be sent yet.
    outbox: Arc<Outbox>,
    /// The id of this process among the servers on this NATS.
    id: String,
    /// Listens to the others until the last clone is dropped.
    _peers: AbortOnDropHandle<()>,
}

impl Nats {
    /// Connects to a server, or to one of several in a cluster, separated by commas. The URL may contain credentials:
    /// `nats://USER:PASSWORD@HOST:PORT` or `nats://TOKEN@HOST:PORT`, percent-encoded: `%40` for `@`, `%2C` for a
    /// comma.
    ///
    /// # Errors
    /// Returns an error if the URL is invalid, no server answers there, or NATS refuses the credentials. Later outages
    /// are not errors: the client reconnects until it succeeds.
    pub async fn connect(url: &str) -> io::Result<Self> {
        let mut address = Address::parse(url)?;
        let ((gap, gaps), (connected, reconnected)) = (watch::channel(()), watch::channel(0));
        let outbox = Arc::new(Outbox::default());
        let holding = Arc::clone(&outbox);
        let options = ConnectOptions::new()
            .name("manysocket")
            .ping_interval(PING_INTERVAL)
            .request_timeout(Some(CALL_TIMEOUT))
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            .reconnect_delay_callback(retry_after)
            .event_callback(move |event| {
                tell(&event);
                match event {
                    Event::Disconnected => holding.hold(),
                    // The first connection has no outage before it.
                    Event::Connected if holding.outages() > 0 => {
                        gap.send_replace(());
                        connected.send_replace(holding.outages());
                    }
                    Event::SlowConsumer(_) => {
                        gap.send_replace(());
                    }
                    _ => {}
                }
                async {}
            });
        let client = address.authenticate(options).connect(&address.servers[..]).await;
        // Omit the URL: it may contain a password.
        let client = client.map_err(|error| io::Error::other(format!("cannot connect to NATS: {error}")))?;
        let id = format!("{:016x}", getrandom::u64()?);
        let peers = Peers::new(client.clone(), Arc::clone(&outbox), id.clone());
        let _peers = AbortOnDropHandle::new(tokio::spawn(peers.run(reconnected)));
        Ok(Self { shared: Arc::new(Shared { client, gaps, outbox, id, _peers }) })
    }

    /// Sends all published messages, and announces to the other servers that this one leaves. Call it at the end of a
    /// program; otherwise the others wait five seconds for this server after the next outage.
    pub async fn close(&self) {
        let goodbye = async {
            peers::say(self.client(), "bye", &self.shared.id).await;
            self.client().flush().await
        };
        if timeout(CLOSE_TIMEOUT, goodbye).await.is_err() {
            warn!("NATS does not read: the last messages may be lost");
        }
    }

    /// Publishes a message, or queues it while NATS is away and until the other servers are back. Waits if the queue
    /// is full.
    pub(crate) async fn publish(&self, message: Outgoing) -> Result<(), PublishError> {
        self.shared.outbox.publish(self.client(), message).await
    }

    pub(crate) fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Returns a receiver that changes whenever messages may have been lost: after a reconnection, or when more
    /// arrived than the client could read.
    pub(crate) fn gaps(&self) -> watch::Receiver<()> {
        self.shared.gaps.clone()
    }

    /// Returns an error while NATS is disconnected: the client would buffer a request, and send it unexpectedly later.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.is_connected() { Ok(()) } else { Err(io::Error::other("NATS is away")) }
    }

    /// Waits for an answer, or fails when the connection to NATS is lost.
    pub(crate) async fn ask<T>(&self, request: impl Future<Output = T>) -> io::Result<T> {
        let mut gaps = self.gaps();
        gaps.mark_unchanged();
        tokio::select! {
            answer = request => Ok(answer),
            Ok(()) = gaps.changed() => Err(io::Error::other("the connection to NATS was lost meanwhile")),
        }
    }

    /// Returns the id of this process among the servers on this NATS.
    pub(crate) fn id(&self) -> &str {
        &self.shared.id
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.client().connection_state() == async_nats::connection::State::Connected
    }
}

/// Returns the pause before an attempt to reconnect: none before the first.
fn retry_after(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    match doublings {
        0 => Duration::ZERO,
        _ => RETRY.min(Duration::from_millis(2_u64.saturating_pow(doublings))),
    }
}

fn tell(event: &Event) {
    match event {
        Event::Connected => info!("connected to NATS"),
        Event::Disconnected => warn!("lost the connection to NATS; reconnecting until it is back"),
        Event::SlowConsumer(_) => {
            warn!(
                "NATS sent messages faster than the server reads: some were dropped, and subscribers get a gap"
            );
        }
        Event::ServerError(error) => warn!("NATS: {error}"),
        // The client reports each attempt to reconnect.
        event => debug!("NATS: {event}"),
    }
}

/// Returns the subject of a URL's path: `/rooms/a` in `manysocket.topic` is `manysocket.topic.rooms.a`. The mapping is
/// unique, and no subject contains a wildcard or a blank: every byte except letters, digits, `-` and `_` becomes `=`
/// and two hexadecimal digits, and an empty segment becomes `=`. JetStream keys allow these characters, too. Returns
/// `None` if the path is too long.
pub(crate) fn subject(prefix: &str, path: &str) -> Option<Subject> {
    let mut subject = prefix.to_owned();
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        subject.push('.');
        if segment.is_empty() {
            subject.push('=');
        }
        for byte in segment.bytes() {
            match byte {
                b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' => subject.push(byte.into()),
                _ => {
                    let _ = write!(subject, "={byte:02X}");
                }
            }
        }
    }
    (subject.len() <= MAX_SUBJECT).then(|| subject.into())
}

/// Returns the path of a subject, without the leading slash; `None` if the subject is invalid.
pub(crate) fn path(prefix: &str, subject: &str) -> Option<String> {
    let tokens = subject.strip_prefix(prefix)?.strip_prefix('.')?.split('.');
    let segments = tokens.map(|token| {
        let segment = if token == "=" { String::new() } else { token.replace('=', "%") };
        percent_decode_str(&segment).decode_utf8().map(Cow::into_owned).ok()
    });
    Some(segments.collect::<Option<Vec<_>>>()?.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_a_subject_of_its_own_without_wildcards() {
        let paths = [
            "/",
            "//",
            "/a",
            "/a/",
            "/a//",
            "//a",
            "/a/b",
            "/a.b",
            "/a%2Eb",
            "/a%2Fb",
            "/*",
            "/>",
            "/a/*/b",
            "/a/>",
            "/a b",
            "/a\tb",
            "/a\r\nPUB x 0\r\n",
            "/ä",
            "/%",
            "/%25",
            "/a*",
            "/$SYS",
            "/_INBOX",
            "/A",
            "/=",
            "/a=2E",
            "/~",
        ];
        let subjects: Vec<_> = paths.iter().map(|path| subject("p", path).expect("short")).collect();
        for (index, subject) in subjects.iter().enumerate() {
            assert!(!subjects[..index].contains(subject), "{subject} twice: {}", paths[index]);
            let path = path("p", subject).expect("a path");
            assert_eq!(format!("/{path}"), paths[index]);
            for token in subject.split('.') {
                assert!(!token.is_empty(), "{subject}");
                let is_safe = |c: char| c.is_ascii_alphanumeric() || "-_=".contains(c);
                assert!(token.chars().all(is_safe), "{subject}");
            }
        }
        assert_eq!(subject("manysocket.topic", "/rooms/a").as_deref(), Some("manysocket.topic.rooms.a"));
    }

    #[test]
    fn a_path_that_would_break_the_connection_has_none() {
        assert!(subject("p", &format!("/{}", "a".repeat(MAX_SUBJECT - 2))).is_some());
        assert!(subject("p", &format!("/{}", "a".repeat(MAX_SUBJECT - 1))).is_none());
        assert!(subject("p", &"/é".repeat(200)).is_none());
    }
}

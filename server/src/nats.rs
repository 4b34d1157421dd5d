//! A connection to NATS, for topics, calls and documents that cross from one server process to another.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, Subject};
use percent_encoding::percent_decode_str;
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// How often the connection is tried while it is silent. It is taken for dead when the second in a row has no answer: a NATS
/// that vanished without a word is noticed within half a minute, as a vanished page is.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How long a call waits for its answer: below the minute that proxies usually give a request.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Messages of one topic that NATS may be ahead of us; what comes then is dropped, and the topic's subscribers are told. At
/// the usual size of some hundred bytes, 16 MiB.
const SUBSCRIPTION_CAPACITY: usize = 64 * 1024;

/// The longest subject, in bytes. NATS itself ends a connection on which a line of its protocol has more than 4096.
const MAX_SUBJECT: usize = 1024;

/// A connection to NATS that comes back by itself when it is lost. Clones share it.
///
/// It belongs to whoever has an account there: what is published on its subjects by other programs is taken as if a process of
/// this server had published it. Different sites on one NATS want accounts of their own.
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
    client: Client,
    /// Changes when messages may have been missed.
    gaps: watch::Receiver<()>,
}

impl Nats {
    /// Connects to a server, or to one of several in a cluster, separated by commas; credentials may stand in the URL.
    ///
    /// # Errors
    /// The URL is none, or nobody answers there. Once connected, a lost connection is no error: it is tried again until
    /// it is back.
    pub async fn connect(url: &str) -> io::Result<Self> {
        let (gap, gaps) = watch::channel(());
        let (gap, was_lost) = (Arc::new(gap), Arc::new(AtomicBool::new(false)));
        let options = ConnectOptions::new()
            .name("manysocket")
            .ping_interval(PING_INTERVAL)
            .request_timeout(Some(CALL_TIMEOUT))
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            .event_callback(move |event| {
                tell(&event);
                let is_gap = match event {
                    Event::Disconnected => {
                        was_lost.store(true, Ordering::Relaxed);
                        false
                    }
                    Event::Connected => was_lost.swap(false, Ordering::Relaxed),
                    Event::SlowConsumer(_) => true,
                    _ => false,
                };
                if is_gap {
                    gap.send_replace(());
                }
                async {}
            });
        let servers = url.split(',').map(str::trim).collect::<Vec<_>>();
        let client = options.connect(servers).await;
        // Not the URL: it may have a password in it.
        let client = client.map_err(|error| io::Error::other(format!("cannot connect to NATS: {error}")))?;
        Ok(Self { client, gaps })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Changes each time that messages may have been missed: the connection was lost and is back, or more came than was read.
    pub(crate) fn gaps(&self) -> watch::Receiver<()> {
        self.gaps.clone()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }
}

fn tell(event: &Event) {
    match event {
        Event::Connected => info!("connected to NATS"),
        Event::Disconnected => warn!("the connection to NATS is lost; it is tried again until it is back"),
        Event::SlowConsumer(_) => {
            warn!("NATS sent more than could be taken: messages were dropped, and subscribers are told");
        }
        Event::ServerError(error) => warn!("NATS: {error}"),
        // One for each attempt to connect again.
        event => debug!("NATS: {event}"),
    }
}

/// The subject of a URL's path: `/rooms/a` in `manysocket.topic` is `manysocket.topic.rooms.a`. No two paths have the same, and
/// none has a wildcard or a blank in it: but for letters, digits, `-` and `_`, every byte stands as `=` and two digits, and a
/// segment with nothing in it as `=`. Keys of JetStream may have these, too. `None` if the path is too long.
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

/// The path of such a subject, without the slash before it; `None` if the subject is none.
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

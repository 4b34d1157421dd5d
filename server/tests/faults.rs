//! The binary while its machine fails it: no file descriptors, clocks that jump, peers that do not let it go. docs/faults.md
//! has the promises.
#![cfg(target_os = "linux")]

mod common;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::binary::{Binary, processor_time};
use common::program::is_installed;
use common::{Link, PATIENCE, Server, get};
use manysocket_protocol::{Event, Message};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

/// How many files a process may have open from now on.
async fn limit_files(process: u32, limit: &str) {
    let limit = format!("--nofile={limit}:");
    let set = Command::new("prlimit").args(["--pid", &process.to_string(), &limit]).status().await;
    assert!(set.expect("prlimit").success());
}

const FULL: &str = "no connection can be accepted for now";

#[tokio::test]
async fn without_file_descriptors_it_waits_and_then_serves_again() {
    let mut binary = Binary::start(&[], &[]).await;
    let mut link = Link::dial(&binary.server).await;
    let channel = link.open("/demo/echo").await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", binary.id())).expect("its files").count();
    limit_files(binary.id(), &(open + 4).to_string()).await;

    // The kernel takes them; the server cannot.
    let mut connections = Vec::new();
    for _ in 0..20 {
        connections.push(TcpStream::connect(binary.server.address).await.expect("a connection"));
    }
    binary.logged(FULL).await;
    let (before, begun) = (processor_time(binary.id()), Instant::now());
    while begun.elapsed() < Duration::from_secs(1) {
        link.assert_echo(channel, "still served").await;
        link.endpoint.consumed(channel, 1, 12);
        sleep(Duration::from_millis(20)).await;
    }
    let used = processor_time(binary.id()) - before;
    assert!(used < Duration::from_millis(300), "it waits, and uses {used:?} of a second");
    let again = binary.unread().into_iter().filter(|line| line.contains(FULL)).count();
    assert_eq!(again, 0, "it has been said");

    // Within the limit, once others have gone.
    drop(connections);
    let mut next = timeout(PATIENCE, Link::dial(&binary.server)).await.expect("a link in time");
    let its_own = next.open("/demo/echo").await;
    next.assert_echo(its_own, "served again").await;
    link.assert_echo(channel, "all the time").await;
}

/// The drain that the tests below allow.
const DRAIN: &str = "1";

/// A page that reads nothing, while more is to be sent to it than its connection holds.
async fn stalled(server: &Server) -> Link {
    let mut link = Link::dial(server).await;
    let mut channels = Vec::new();
    for _ in 0..100 {
        channels.push(link.open("/demo/echo").await);
    }
    // Within its windows of 256 KiB: 19 MB, and the kernel keeps a few for one that does not read.
    for channel in channels.into_iter().cycle().take(300) {
        link.endpoint.send(channel, Message::binary(vec![0; 64 << 10]));
    }
    link.flush().await;
    link
}

#[tokio::test]
async fn it_ends_in_time_though_peers_do_not_let_go() {
    let mut binary = Binary::start(&["--drain", DRAIN], &[]).await;
    let address = binary.server.address;
    let _stalled = stalled(&binary.server).await;
    let mut silent = Link::dial(&binary.server).await;
    silent.open("/demo/echo").await;
    let mut half = TcpStream::connect(address).await.expect("a connection");
    half.write_all(b"GET /multiplexer HTTP/1.1\r\nHost: ").await.expect("open");
    // A connection that is kept after its first request.
    let mut kept = TcpStream::connect(address).await.expect("a connection");
    kept.write_all(b"GET /demo/ HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("open");
    kept.read_u8().await.expect("an answer");

    binary.signal("TERM").await;
    // Draining: nobody new gets in, neither to the server nor to a link.
    let refusing = async {
        while TcpStream::connect(address).await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, refusing).await.expect("it listens no more");
    let _ = kept.write_all(b"GET /multiplexer HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, kept.read_to_end(&mut rest)).await.expect("an end");
    assert_eq!(String::from_utf8_lossy(&rest).matches("HTTP/1.1 ").count(), 0, "no second answer");
    let refused = silent.endpoint.open("/demo/echo", "").expect("a channel");
    let mut news = Vec::new();
    for _ in 0..2 {
        news.push(silent.news().await);
    }
    let is_refused =
        |event: &Event| matches!(event, Event::Refused { channel, status: 503, .. } if *channel == refused);
    assert!(news.iter().any(is_refused), "{news:?}");
    // And it does not answer the close. A stalled link alone would last for `stall_timeout`, which is longer than the patience.
    assert!(binary.ended().await, "exit code 0");
}

/// The wall clock of a program, which a library that is loaded into it reads from a file.
struct Clock {
    _folder: tempfile::TempDir,
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// `None` where the library is not installed, which is said.
    async fn new() -> Option<Self> {
        if !is_installed("faketime").await {
            return None;
        }
        let mut folders = std::fs::read_dir("/usr/lib").expect("a folder").flatten();
        let library = folders.find_map(|folder| {
            let library = folder.path().join("faketime/libfaketimeMT.so.1");
            library.exists().then_some(library)
        });
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Self { file: folder.path().join("clock"), library: library?, _folder: folder };
        clock.set("+0d");
        Some(clock)
    }

    /// Sets it off the true one.
    fn set(&self, offset: &str) {
        std::fs::write(&self.file, offset).expect("a file");
    }

    async fn start(&self, arguments: &[&str]) -> Binary {
        let (library, file) = (self.library.to_str().expect("UTF-8"), self.file.to_str().expect("UTF-8"));
        let variables = [
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", file),
            ("FAKETIME_NO_CACHE", "1"),
            // As when an administrator or NTP sets a clock.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("RUST_LOG", "debug"),
        ];
        Binary::start(arguments, &variables).await
    }
}

/// Opens a document, commits to it, and returns its id.
async fn commit(link: &mut Link, name: &str) -> String {
    let channel = link.open(&format!("/demo/state/{name}")).await;
    let mut next = async || match link.news().await {
        Event::Message { message: Message::Text(text), .. } => {
            serde_json::from_slice::<Value>(&text).expect("JSON")
        }
        other => panic!("{other:?}"),
    };
    let document = next().await;
    let delta = json!([{"op": "add", "path": "/a", "value": 1}]);
    let message = json!({"id": "c1", "base": document["version"], "delta": delta});
    link.endpoint.send(channel, Message::text(message.to_string()));
    let mut next = async || link.news().await;
    let answer = next().await;
    assert!(
        matches!(&answer, Event::Message { message: Message::Text(text), .. } if text.ends_with(b"\"version\":1}")),
        "{answer:?}"
    );
    document["document"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_clock_that_jumps_moves_nothing() {
    let Some(clock) = Clock::new().await else { return };
    let mut binary = clock.start(&["--drain", DRAIN]).await;
    let mut link = Link::dial(&binary.server).await;
    let channel = link.open("/demo/echo").await;
    binary.logged("link up").await;
    let mut documents = Vec::new();
    // The last are before 1970, where Unix time begins.
    for (jump, century) in
        [("+0d", "20"), ("+36500d", "21"), ("-14600d", "19"), ("-25000d", "19"), ("-25000d", "19")]
    {
        clock.set(jump);
        drop(Link::dial(&binary.server).await);
        let line = binary.logged("link up").await;
        assert!(line.starts_with(century), "it sees the jump: {line}");
        link.assert_echo(channel, jump).await;
        documents.push(commit(&mut link, &documents.len().to_string()).await);
    }
    documents.sort_unstable();
    documents.dedup();
    assert_eq!(documents.len(), 5, "ids differ: {documents:?}");
    assert!(get(binary.server.address, "/demo/").await.starts_with("HTTP/1.1 200"));

    binary.signal("TERM").await;
    assert!(matches!(link.news().await, Event::Closed { .. }));
    clock.set("-3650d");
    assert!(binary.ended().await, "exit code 0");
}

//! Attacks on multiplexers, run against the binary: what each comes to, and what the link beside it and the server's
//! memory feel of it. With `--nocapture` each prints a line for the table in `docs/security.md`.
#![cfg(target_os = "linux")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::binary::Binary;
use common::{Link, Server, dial};
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::{Event, Message, SUBPROTOCOL};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite as ts;

const MIB: usize = 1 << 20;

/// Slower than this no well-behaved neighbour's echo may get, at the 99th percentile. It is far above what is
/// measured: attacker, server and neighbour may share two cores with other tests, and the build is not optimised.
const P99: Duration = Duration::from_millis(500);

/// What the neighbour says.
const WORDS: &str = "are you there";

/// A page that exchanges messages on a link of its own, in a thread of its own, until it is stopped.
struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Neighbour {
    fn watch(server: &Server) -> Self {
        let (address, stop) = (server.address, Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let mut link = Link::dial(&Server::at(address)).await;
                let channel = link.open("/demo/echo").await;
                let mut times = Vec::new();
                while !stopped.load(Ordering::Relaxed) || times.len() < 100 {
                    let begun = Instant::now();
                    link.assert_echo(channel, WORDS).await;
                    link.endpoint.consumed(channel, 1, WORDS.len() as u32);
                    times.push(begun.elapsed());
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                times
            })
        });
        Self { stop, thread }
    }

    /// Its 99th percentile.
    async fn p99(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await.expect("a thread");
        let mut times = joined.expect("a neighbour that was served");
        times.sort_unstable();
        times[times.len() * 99 / 100]
    }
}

/// Runs an attack, and holds the server to its promises: the neighbours' latency before, during and after, and the
/// most memory, in MiB, above what it had before.
async fn survive(name: &str, arguments: &[&str], memory: usize, attack: impl AsyncFnOnce(&mut Binary)) {
    let mut binary = Binary::start(arguments, &[]).await;
    let before = Neighbour::watch(&binary.server).p99().await;
    let had = binary.memory("VmRSS");
    let neighbour = Neighbour::watch(&binary.server);
    let begun = Instant::now();
    attack(&mut binary).await;
    let took = begun.elapsed();
    let during = neighbour.p99().await;
    let after = Neighbour::watch(&binary.server).p99().await;
    let most = (binary.memory("VmHWM") - had) / 1024;
    eprintln!(
        "| {name} | {:.1} s | {:.1} / {:.1} / {:.1} ms | {most} MiB |",
        took.as_secs_f64(),
        before.as_secs_f64() * 1e3,
        during.as_secs_f64() * 1e3,
        after.as_secs_f64() * 1e3,
    );
    assert!(during < P99 && after < P99, "{name}: a neighbour waited {during:?}, and {after:?} afterwards");
    assert!(most <= memory, "{name}: {most} MiB");
}

/// Reads what comes until the server ends the link; with which code.
async fn ended(link: &mut Link) -> u16 {
    loop {
        match link.event().await {
            Ok(_) => {}
            Err(code) => return code,
        }
    }
}

/// A physical connection for frames made by hand, which has said HELLO.
async fn raw(server: &Server) -> common::Wire {
    let origin = format!("http://{}", server.address);
    let headers = [("origin", origin.as_str()), ("sec-websocket-protocol", SUBPROTOCOL)];
    let mut wire = dial(server, "/multiplexer", &headers).await.expect("a link");
    wire.send(batch(&[0x0b, 0], "", &[])).await.expect("an open link");
    wire
}

fn integer(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A batch of these headers, text and binary contents.
fn batch(headers: &[u8], text: &str, binary: &[u8]) -> ts::Message {
    let mut bytes = Vec::new();
    integer(headers.len(), &mut bytes);
    integer(text.len(), &mut bytes);
    bytes.extend([headers, text.as_bytes(), binary].concat());
    ts::Message::Binary(bytes.into())
}

/// The code with which the server ends a link.
async fn code(wire: &mut common::Wire) -> u16 {
    let reading = async {
        loop {
            match wire.next().await {
                Some(Ok(ts::Message::Close(frame))) => return frame.map_or(1005, |frame| frame.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return 1006,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("an end in time")
}

/// HTTP/2's "rapid reset" (CVE-2023-44487).
#[tokio::test]
async fn opens_taken_back_at_once() {
    survive("opens taken back at once", &[], 64, async |binary| {
        let mut wire = raw(&binary.server).await;
        let (mut headers, mut answers) = (Vec::new(), 0);
        for channel in 1..=1000 {
            integer(channel << 4 | 6, &mut headers);
            headers.extend([10, 0]);
            integer(channel << 4 | 9, &mut headers);
            headers.extend([0xee, 0x07, 0]);
            // A REFUSE has a tag, a status in two bytes, and an empty reason.
            answers += if channel < 8 { 4 } else { 5 };
        }
        let round = batch(&headers, &"/demo/echo".repeat(1000), &[]);
        // The server's HELLO.
        wire.next().await.expect("a message").expect("a message");
        let code = 'rounds: loop {
            wire.send(round.clone()).await.expect("an open link");
            let mut answered = 0;
            while answered < answers {
                match wire.next().await.expect("a message").expect("a message") {
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

/// The length of a batch's headers.
fn headers_of(batch: &[u8]) -> usize {
    let bytes = batch.iter().take_while(|&&byte| byte >= 0x80).count() + 1;
    batch[..bytes].iter().rev().fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f))
}

/// Each is answered, used and closed: that is what the server is there for, and only has to be shared.
#[tokio::test]
async fn channels_opened_and_closed_as_fast_as_possible() {
    survive("channels opened and closed as fast as possible", &[], 64, async |binary| {
        let mut link = Link::dial(&binary.server).await;
        let mut closed = 0;
        while closed < 10_000 {
            while link.endpoint.channels() < 200 {
                link.endpoint.open("/demo/echo", "").expect("a channel");
            }
            match link.event().await.expect("the link lives") {
                Event::Accepted { channel, .. } => link.endpoint.close(channel, None, ""),
                Event::Closed { .. } => closed += 1,
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn opens_without_end() {
    survive("opens without end", &[], 256, async |binary| {
        let mut wire = raw(&binary.server).await;
        let mut channel = 0;
        for _ in 0..20 {
            let (mut headers, mut text) = (Vec::new(), String::new());
            for _ in 0..1000 {
                channel += 1;
                integer(channel << 4 | 6, &mut headers);
                headers.extend([10, 0]);
                text += "/demo/echo";
            }
            // The link may have ended.
            let _ = wire.send(batch(&headers, &text, &[])).await;
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

/// "Slowloris", by the thousand.
#[tokio::test]
async fn handshakes_that_never_end() {
    survive("a thousand handshakes that never end", &[], 64, async |binary| {
        let mut streams = Vec::new();
        for _ in 0..1000 {
            let Ok(mut stream) = TcpStream::connect(binary.server.address).await else { break };
            stream.write_all(b"GET /multiplexer HTTP/1.1\r\nX: ").await.expect("a server");
            streams.push(stream);
        }
        let begun = Instant::now();
        let mut left = streams;
        while !left.is_empty() {
            let mut open = Vec::new();
            for mut stream in left {
                if stream.write_all(b"x").await.is_ok() {
                    open.push(stream);
                }
            }
            left = open;
            assert!(begun.elapsed() < Duration::from_secs(20), "{} are still open", left.len());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn messages_that_never_end() {
    survive("messages that never end", &[], 600, async |binary| {
        let mut link = Link::dial(&binary.server).await;
        for _ in 0..10 {
            let channel = link.open("/demo/echo").await;
            link.endpoint.send(channel, Message::binary(vec![0; 60 * MIB]));
        }
        let code = ended(&mut link).await;
        assert!(matches!(code, 1008 | 1006), "{code}");
        binary.logged("more memory than one may").await;
    })
    .await;
}

/// The server as a whole: no link crosses its own limit here.
#[tokio::test]
async fn links_that_together_fill_the_memory() {
    let arguments = ["--total-memory", "100000000"];
    survive("links that together fill the memory (100 MB)", &arguments, 400, async |binary| {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let server = Server::at(binary.server.address);
            tasks.spawn(async move {
                let mut link = Link::dial(&server).await;
                let (one, two) = (link.open("/demo/echo").await, link.open("/demo/echo").await);
                // Neither is complete before the other.
                link.endpoint.send(one, Message::binary(vec![0; 50 * MIB]));
                link.endpoint.send(two, Message::binary(vec![0; 50 * MIB]));
                let deadline = tokio::time::timeout(Duration::from_secs(8), ended(&mut link));
                deadline.await.unwrap_or(0)
            });
        }
        let codes = tasks.join_all().await;
        assert!(codes.iter().any(|code| matches!(code, 1013 | 1006)), "{codes:?}");
        binary.logged("the server's memory is full").await;
    })
    .await;
}

#[tokio::test]
async fn a_physical_message_of_any_size() {
    survive("a physical message of 1 GiB, announced", &[], 64, async |binary| {
        let mut wire = raw(&binary.server).await;
        let ts_stream = wire.get_mut();
        let mut header = vec![0x82, 0xff];
        header.extend((1_u64 << 30).to_be_bytes());
        header.extend([0; 4]);
        ts_stream.write_all(&header).await.expect("a server");
        let chunk = vec![0; MIB];
        // The server hangs up long before the end.
        for _ in 0..1024 {
            if ts_stream.write_all(&chunk).await.is_err() {
                break;
            }
        }
        let code = code(&mut wire).await;
        assert!(code == 1009 || code == 1006, "{code}");
    })
    .await;
}

/// Accepts channel 1, and reads what comes with it.
async fn open_raw(server: &Server) -> common::Wire {
    let mut wire = raw(server).await;
    wire.send(batch(&[1 << 4 | 6, 10, 0], "/demo/echo", &[])).await.expect("an open link");
    // HELLO may come in a message of its own.
    while !wire.next().await.expect("an ACCEPT").expect("an ACCEPT").into_data().ends_with(&[1 << 4 | 7, 0]) {
    }
    wire
}

#[tokio::test]
async fn a_million_pieces_of_a_byte() {
    survive("a million pieces of one byte", &[], 64, async |binary| {
        let mut wire = open_raw(&binary.server).await;
        // A window holds four thousand; a GRANT comes for half of that.
        let (headers, bytes) = ([1 << 4 | 3, 1].repeat(1000), [0; 1000]);
        for _ in 0..1000 {
            wire.send(batch(&headers, "", &bytes)).await.expect("an open link");
            while let Some(Some(Ok(_))) = futures_util::FutureExt::now_or_never(wire.next()) {}
            if wire.send(ts::Message::Ping(vec![].into())).await.is_err() {
                panic!("the link ended: {}", code(&mut wire).await);
            }
            // A pong says that the server has taken all before it.
            loop {
                match wire.next().await {
                    Some(Ok(ts::Message::Pong(_))) => break,
                    Some(Ok(ts::Message::Close(frame))) => panic!("{frame:?}"),
                    Some(Ok(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_empty_messages() {
    survive("200,000 empty messages", &[], 64, async |binary| {
        let mut link = Link::dial(&binary.server).await;
        let channel = link.open("/demo/echo").await;
        for _ in 0..20 {
            for _ in 0..10_000 {
                link.endpoint.send(channel, Message::binary(vec![]));
            }
            for _ in 0..10_000 {
                let news = link.news().await;
                assert!(matches!(news, Event::Message { .. }), "{news:?}");
                link.endpoint.consumed(channel, 1, 0);
            }
        }
    })
    .await;
}

/// As "ping flood" and "settings flood" of HTTP/2 (CVE-2019-9512, -9515).
#[tokio::test]
async fn a_flood_of_control_frames() {
    survive("ten million control frames", &[], 64, async |binary| {
        let mut wire = open_raw(&binary.server).await;
        let pings = [0x1b, 0].repeat(250_000);
        let grants = [1 << 4 | 10, 0].repeat(250_000);
        for _ in 0..20 {
            for headers in [&pings, &grants] {
                wire.send(batch(headers, "", &[])).await.expect("an open link");
            }
            wire.send(ts::Message::Ping(vec![].into())).await.expect("an open link");
            while !matches!(wire.next().await, Some(Ok(ts::Message::Pong(_)))) {}
        }
    })
    .await;
}

/// As "data dribble" and "internal data buffering" of HTTP/2 (CVE-2019-9511, -9517).
#[tokio::test]
async fn a_page_that_never_grants() {
    survive(
        "a page that never grants (100 MB a link)",
        &["--link-memory", "100000000"],
        300,
        async |binary| {
            let mut link = Link::dial(&binary.server).await;
            let channels = 1000;
            for _ in 0..channels {
                link.endpoint.open("/demo/echo", "").expect("a channel");
            }
            // Echoes are read off the connection, and never taken.
            let mut sent = 0;
            let code = loop {
                match link.event().await {
                    Ok(Event::Accepted { channel, .. }) => {
                        for _ in 0..20 {
                            link.endpoint.send(channel, Message::binary(vec![0; 60_000]));
                            sent += 1;
                        }
                    }
                    Ok(_) => {}
                    Err(code) => break code,
                }
            };
            assert!(sent > 0);
            // It may be in the middle of a write, and then sees the connection end before the reason.
            assert!(matches!(code, 1008 | 1006), "{code}");
            binary.logged("more memory than one may").await;
        },
    )
    .await;
}

#[tokio::test]
async fn pages_that_never_read() {
    survive("200 pages that never read", &[], 400, async |binary| {
        let mut links = Vec::new();
        for _ in 0..200 {
            let mut link = Link::dial(&binary.server).await;
            let channel = link.open("/demo/echo").await;
            for _ in 0..20 {
                link.endpoint.send(channel, Message::binary(vec![0; 60_000]));
            }
            link.flush().await;
            links.push(link);
        }
    })
    .await;
}

#[tokio::test]
async fn links_without_end() {
    survive("links without end", &["--max-links", "500"], 64, async |binary| {
        let mut links = Vec::new();
        let refused = loop {
            match Link::dial_with(&binary.server, &[], |_| {}).await {
                Ok(link) => links.push(link),
                Err(status) => break status,
            }
        };
        // One is the neighbour's.
        assert_eq!((refused, links.len()), (503, 499));
        binary.logged("there are 500 links already").await;
    })
    .await;
}

#[tokio::test]
async fn lies_and_nonsense() {
    let hello = |key: u8, value: usize| {
        let mut body = vec![key];
        integer(value, &mut body);
        [vec![0x0b, body.len() as u8], body].concat()
    };
    let mut credit = vec![1 << 4 | 10];
    integer(u32::MAX as usize, &mut credit);
    let frame = |channel: u8, kind: u8, rest: &[u8]| [&[channel << 4 | kind], rest].concat();
    let cases = [
        ("a window of 4 GiB", hello(2, u32::MAX as usize), false),
        ("a window of nothing", hello(2, 0), false),
        ("pieces of one byte", hello(4, 1), false),
        ("a second HELLO", vec![0x0b, 0], true),
        ("credit past the end of numbers", credit, true),
        ("credit for nobody", frame(5, 10, &[1]), true),
        ("a close for nobody", frame(5, 9, &[0, 0]), true),
        ("an open of what is open", frame(1, 6, &[0, 0]), true),
        ("an answer from a client", frame(1, 7, &[0]), true),
        ("a close that must not be sent", frame(1, 9, &[0xed, 0x07, 0]), true),
        ("more than the batch holds", frame(1, 0, &[100]), true),
        ("an integer without end", vec![0xff; 20], true),
    ];
    survive("lies and nonsense", &[], 64, async |binary| {
        for (name, headers, greeted) in &cases {
            let mut wire = if *greeted {
                open_raw(&binary.server).await
            } else {
                let origin = format!("http://{}", binary.server.address);
                let headers = [("origin", origin.as_str()), ("sec-websocket-protocol", SUBPROTOCOL)];
                dial(&binary.server, "/multiplexer", &headers).await.expect("a link")
            };
            wire.send(batch(headers, "", &[])).await.expect("an open link");
            assert_eq!(code(&mut wire).await, 1002, "{name}");
            binary.logged("link closed").await;
        }
    })
    .await;
}

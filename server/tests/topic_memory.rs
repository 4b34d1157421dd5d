//! The memory that the process holds for topics, beside the counted memory. Each pattern runs in a separate process, so that none
//! finds memory that another has left.
#![cfg(target_os = "linux")]

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::Message;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use manysocket_server::topic::Topics;
use manysocket_server::{Multiplexer, Site, Stats};
use tower::ServiceExt;

/// The variable that names the pattern.
const PATTERN: &str = "MANYSOCKET_PATTERN";

/// The limit on the memory of topics here.
const LIMIT: usize = 16 << 20;

/// The memory that the process may hold besides: its own code and heap change by less.
const SLACK: usize = 4 << 20;

/// A name, and an action.
type Pattern = (&'static str, fn(&mut World));

const PATTERNS: [Pattern; 8] = [
    ("many topics with two large messages", |world| {
        for n in 0..800 {
            world.subscribe(&format!("/rooms/{n}"));
            for _ in 0..2 {
                world.topics.publish(&format!("/rooms/{n}"), "x".repeat(65_500));
            }
        }
    }),
    ("one topic with many large messages", |world| {
        world.subscribe("/rooms/one");
        for _ in 0..600 {
            world.topics.publish("/rooms/one", "x".repeat(65_500));
        }
    }),
    ("subscribers that lag, messages of 6,000 bytes", |world| {
        for n in 0..60 {
            world.subscribe(&format!("/rooms/{n}"));
            for _ in 0..100 {
                world.topics.publish(&format!("/rooms/{n}"), "x".repeat(6_000));
            }
        }
    }),
    ("messages of one byte", |world| {
        for n in 0..250 {
            world.subscribe(&format!("/rooms/{n}"));
            for _ in 0..300 {
                world.topics.publish(&format!("/rooms/{n}"), "x");
            }
        }
    }),
    ("empty messages", |world| {
        for n in 0..250 {
            world.subscribe(&format!("/rooms/{n}"));
            for _ in 0..300 {
                world.topics.publish(&format!("/rooms/{n}"), Message::Binary(Bytes::new()));
            }
        }
    }),
    ("small parts of large buffers", |world| {
        world.subscribe("/rooms/one");
        for _ in 0..300 {
            let buffer = Bytes::from(vec![1; 1 << 20]);
            world.topics.publish("/rooms/one", Message::Binary(buffer.slice(1000..1100)));
        }
    }),
    ("topics in which nothing is said", |world| {
        for n in 0..4_000 {
            world.subscribe(&format!("/rooms/{n}"));
        }
    }),
    ("topics with long names that are listed", |world| {
        for n in 0..4_000 {
            world.subscribe(&format!("/rooms/{n}{}", "n".repeat(900)));
        }
        for accept in ["application/json", "text/html", "text/event-stream"] {
            let listed = world.get("/rooms/", accept);
            assert_eq!(listed.status(), StatusCode::OK);
            world.readers.push(listed);
        }
    }),
];

struct World {
    topics: Topics,
    app: Router,
    stats: Stats,
    runtime: tokio::runtime::Runtime,
    /// Each is a subscriber or a reader that does not read.
    readers: Vec<Response>,
}

impl World {
    fn get(&self, path: &str, accept: &str) -> Response {
        let request = Request::get(path).header("host", "example.com").header("accept", accept);
        let request = request.body(Body::empty()).expect("a request");
        self.runtime.block_on(self.app.clone().oneshot(request)).expect("an answer")
    }

    fn subscribe(&mut self, path: &str) {
        let response = self.get(path, "text/event-stream");
        if response.status() == StatusCode::OK {
            self.readers.push(response);
        } else {
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        }
    }
}

/// The memory that this process has, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("its status");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a line");
    1024 * line.split_whitespace().nth(1).and_then(|number| number.parse::<usize>().ok()).expect("a number")
}

#[test]
fn one_pattern() {
    let Ok(name) = std::env::var(PATTERN) else { return };
    let (_, pattern) = PATTERNS.iter().find(|(known, _)| *known == name).expect("a known pattern");
    let topics = Topics::new().history(20).max_memory(LIMIT);
    let multiplexer = Multiplexer::new("/multiplexer");
    let stats = multiplexer.stats();
    let app = multiplexer.serve(Site::new().endpoint("/rooms/{room}", topics.endpoint()).into_router());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut world = World { topics, app, stats, runtime, readers: Vec::new() };
    world.subscribe("/rooms/first");
    let before = resident();
    pattern(&mut world);
    let (held, counted) = (resident().saturating_sub(before), world.stats.topic_memory());
    // The cost of a reader without its topic: an HTTP response, which its connection has to count.
    let responses = world.readers.len() * 1_500;
    let held = held.saturating_sub(responses);
    eprintln!("{name}: counted {} KiB, held {} KiB", counted / 1024, held / 1024);
    assert!(counted <= LIMIT, "{name}: {counted} bytes are counted");
    assert!(2 * held <= 3 * counted + 2 * SLACK, "{name}: {held} bytes are held, {counted} counted");
    world.readers.clear();
    assert!(world.topics.topics().is_empty() && world.stats.topic_memory() == 0, "{name}: all is given back");
}

#[test]
fn what_topics_hold_is_counted_and_bounded() {
    for (name, _) in PATTERNS {
        let program = std::env::current_exe().expect("this program");
        let mut command = std::process::Command::new(program);
        let output = command.args(["--exact", "one_pattern", "--nocapture"]).env(PATTERN, name).output();
        let output = output.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("counted"), "{name}: {said}");
        eprint!("{}", said.lines().filter(|line| line.contains("counted")).collect::<String>() + "\n");
    }
}

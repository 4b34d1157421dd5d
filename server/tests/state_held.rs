//! Documents hold at most 1.5 times the counted memory, whatever their shape. Each shape fills a
//! store in a separate process: an allocator keeps memory that another one has freed.
#![cfg(target_os = "linux")]

mod common;

use std::process::Command;

use common::document::Page;
use common::nats::NatsServer;
use common::program::is_installed;
use common::{Kind, Server, Socket};
use manysocket_protocol::Message;
use manysocket_server::Site;
use manysocket_server::state::{Documents, Store};

/// Names the shape and the place for the process that fills a store.
const SHAPE: &str = "MANYSOCKET_SHAPE";
const PLACE: &str = "MANYSOCKET_PLACE";

/// The limit of the store, in bytes. A debug build fills it in about a second.
const LIMIT: usize = 12 << 20;

/// The memory of server and client beside documents, in bytes: sockets, messages under way, and one commit that is being read.
const SLACK: usize = 12 << 20;

/// The bytes of each value that is added to a document.
const VALUE: usize = 60_000;

const SHAPES: [&str; 9] = [
    "nested objects",
    "nested arrays",
    "empty arrays",
    "empty objects",
    "short keys",
    "long keys",
    "long texts",
    "short texts",
    "numbers",
];

/// A value of a shape, as JSON.
fn value(shape: &str) -> String {
    let list = |element: &dyn Fn(usize) -> String| {
        let count = VALUE / (element(100).len() + 1);
        (0..count).map(element).collect::<Vec<_>>().join(",")
    };
    match shape {
        "nested objects" => format!("[{}]", list(&|_| r#"{"":"#.repeat(80) + "{}" + &"}".repeat(80))),
        "nested arrays" => format!("[{}]", list(&|_| "[".repeat(80) + &"]".repeat(80))),
        "empty arrays" => format!("[{}]", list(&|_| "[]".into())),
        "empty objects" => format!("[{}]", list(&|_| "{}".into())),
        "short keys" => format!("{{{}}}", list(&|n| format!(r#""{n}":0"#))),
        "long keys" => format!("{{{}}}", list(&|n| format!(r#""{n}{}":0"#, "k".repeat(5000)))),
        "long texts" => format!("\"{}\"", "x".repeat(VALUE)),
        "short texts" => format!("[{}]", list(&|n| format!("\"{n}\""))),
        "numbers" => format!("[{}]", list(&|n| n.to_string())),
        other => panic!("no shape {other}"),
    }
}

#[tokio::test]
async fn what_is_held_is_at_most_one_and_a_half_times_what_is_counted() {
    let mut cases: Vec<(&str, &str)> = SHAPES.into_iter().map(|shape| (shape, "memory")).collect();
    cases.push(("nested objects", "disk"));
    if is_installed("nats-server").await {
        cases.push(("nested objects", "nats"));
    }
    for (shape, place) in cases {
        let process = std::env::current_exe().expect("this program");
        let mut command = Command::new(process);
        command.args(["--exact", "fill_a_store", "--ignored", "--nocapture"]);
        let output = command.env(SHAPE, shape).env(PLACE, place).output().expect("a process");
        let text = String::from_utf8_lossy(&output.stdout);
        let held = text.lines().find_map(|line| line.strip_prefix("held ")?.parse::<usize>().ok());
        let held = held.unwrap_or_else(|| panic!("{shape}, {place}: {text}"));
        eprintln!("{shape}, {place}: {} MiB held, {} MiB counted", held >> 20, LIMIT >> 20);
        assert!(held <= LIMIT * 3 / 2 + SLACK, "{shape}, {place}: {held} bytes held for {LIMIT}");
    }
}

/// The memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

#[tokio::test]
#[ignore = "the test above runs it in a separate process"]
async fn fill_a_store() {
    let shape = std::env::var(SHAPE).expect("a shape");
    let folder = tempfile::tempdir().expect("a folder");
    let mut nats = None;
    let store = match std::env::var(PLACE).expect("a place").as_str() {
        "memory" => Store::in_memory(),
        "disk" => Store::open(folder.path().join("state.redb")),
        _ => {
            let server = nats.insert(NatsServer::start().await.expect("nats-server"));
            Store::nats(&server.connect().await, "documents").await
        }
    };
    let store = store.expect("a store").max_memory(LIMIT);
    let documents = Documents::new(&store, "test").initial(serde_json::json!([]));
    let server = Server::start(Site::new().endpoint("/{name}", documents.endpoint()).into_router()).await;
    let value = value(&shape);
    let before = resident();
    let mut pages = Vec::new();
    'fill: for number in 0.. {
        let opened = Socket::open(Kind::Virtual, &server, &format!("/{number}"), "", "").await;
        let Ok((socket, _)) = opened else {
            assert_eq!(opened.err(), Some(503));
            break;
        };
        let mut page = Page(socket);
        page.whole().await;
        for version in 0.. {
            let delta = format!(r#"[{{"op":"add","path":"/-","value":{value}}}]"#);
            let commit = format!(r#"{{"id":"{version}","base":{version},"delta":{delta}}}"#);
            page.0.send(Message::text(commit)).await;
            let answer = page.answer().await;
            match answer["error"].as_str() {
                None => {}
                // NATS has its own limit on the bytes of a document.
                Some("too-large") => break,
                Some("storage") => break 'fill,
                Some(_) => panic!("{answer}"),
            }
        }
        pages.push(page);
    }
    println!("held {}", resident().saturating_sub(before));
}

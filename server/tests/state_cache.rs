//! The memory of a store on disk beside its documents, measured in a separate process.
#![cfg(target_os = "linux")]

mod common;

use axum::Router;
use axum::extract::Path;
use axum::http::Uri;
use axum::routing::any;
use common::document::{Page, set};
use common::{Kind, Server, Socket};
use manysocket_server::WebSocketUpgrade;
use manysocket_server::state::{Documents, Store};

const MIB: usize = 1 << 20;

/// The most memory that this process has had (proc_pid_status(5)).
fn most_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

#[tokio::test]
async fn the_cache_of_a_file_does_not_grow_with_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path().join("state.redb")).expect("a store").max_memory(4 * MIB);
    let documents = Documents::new(&store, "test");
    let serve = async move |Path(name): Path<String>, uri: Uri, upgrade: WebSocketUpgrade| {
        documents.serve(&name, &uri, upgrade).await
    };
    let server = Server::start(Router::new().route("/{name}", any(serve))).await;
    let text = "x".repeat(250_000);
    let before = most_memory();
    for name in 0..240 {
        let mut page = loop {
            // Until the memory of those before is given back.
            if let Ok((socket, _)) = Socket::open(Kind::Virtual, &server, &format!("/{name}"), "", "").await {
                break Page(socket);
            }
        };
        page.whole().await;
        page.commit("c", 0, &set("/text", text.as_str())).await;
        let answer = page.answer().await;
        assert_eq!(answer["version"], 1, "{answer}");
    }
    // The file is 60 MB by now. Documents may take 4 MiB, which may be half as much again in memory, the file's cache 16 MiB,
    // and the copies of a commit under way, on both sides, a few.
    let held = (most_memory() - before) / MIB;
    assert!(held <= 36, "{held} MiB");
}

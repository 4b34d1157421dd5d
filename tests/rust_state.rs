//! Replicas of documents in Rust programs, against a real server.
#![cfg(not(target_arch = "wasm32"))]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use manysocket::{Carriers, Commit, MultiWebSocket, State, StateError, state};
use manysocket_server::state::{Documents, Store};
use manysocket_server::{Multiplexer, Site, serve};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Turns a hang into a failure; much longer than any test takes.
const HANG: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Sheet {
    cells: BTreeMap<String, u32>,
    lines: Vec<String>,
}

struct Server {
    address: SocketAddr,
    documents: Documents,
}

impl Server {
    async fn start() -> Self {
        let store = Store::in_memory().expect("a store");
        let documents = Documents::new(&store, "test")
            .initial(json!({ "cells": {}, "lines": [], "other": [1] }))
            .max_commit(4096)
            .validate(
                |data: Value| if data["cells"]["bad"].is_null() { Ok(()) } else { Err("no bad cells") },
            );
        let app = Site::new().endpoint("/sheets/{name}", documents.clone().endpoint()).into_router();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, Multiplexer::new("/multiplexer").serve(app)).into_future());
        Self { address, documents }
    }

    fn client(&self) -> MultiWebSocket {
        client_of(self.address)
    }

    /// Waits until the replicas have the server's data.
    async fn converge(&self, name: &str, replicas: &[&State<Value>]) -> Value {
        let document = self.documents.get(name).await.expect("a store").expect("a document");
        let data: Value = document.data().expect("JSON");
        for replica in replicas {
            until(replica, |seen| *seen == data).await;
        }
        data
    }
}

/// A client whose links do not outlive their connections, by way of a proxy.
fn client_of(proxy: SocketAddr) -> MultiWebSocket {
    let origin = format!("http://{proxy}").parse().expect("an origin");
    MultiWebSocket::new(&format!("ws://{proxy}/multiplexer"))
        .expect("a URL")
        .resume(false)
        .carriers(Carriers::WebSocket)
        .header(axum::http::header::ORIGIN, origin)
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, future).await.expect("no hang")
}

async fn until<T: serde::de::DeserializeOwned + Send + 'static>(
    replica: &State<T>,
    is_there: impl Fn(&T) -> bool,
) -> T {
    let mut seen = replica.watch();
    in_time(async {
        loop {
            let data = seen.next().await.expect("an open document").expect("data of the type");
            if is_there(&data) {
                return data;
            }
        }
    })
    .await
}

/// An edit that sets a cell.
fn set(cell: &str, value: u32) -> impl FnOnce(&mut Sheet) {
    move |sheet| {
        sheet.cells.insert(cell.to_owned(), value);
    }
}

async fn committed(commit: Result<Commit, StateError>) -> Result<u64, StateError> {
    in_time(commit?.committed()).await
}

/// Starts a proxy; each change of the number cuts all connections.
async fn proxy(server: SocketAddr) -> (SocketAddr, watch::Sender<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let cuts = watch::Sender::new(0);
    let connections = cuts.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut cut = connections.subscribe();
            tokio::spawn(async move {
                let Ok(mut far) = TcpStream::connect(server).await else { return };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = cut.changed() => {}
                }
            });
        }
    });
    (address, cuts)
}

#[test]
fn replicas_may_cross_threads() {
    fn crosses<T: Send + Sync>(_: T) {}
    fn future(multi: &MultiWebSocket) -> impl Future<Output = Result<State<Sheet>, StateError>> + Send {
        state(multi, "/")
    }
    let _ = future;
    let _ = crosses::<State<Sheet>>;
    let _ = crosses::<Commit>;
}

#[tokio::test]
async fn edits_are_committed_and_reach_the_others() {
    let server = Server::start().await;
    let client = server.client();
    let ours: State<Sheet> = in_time(state(&client, "/sheets/a")).await.expect("a document");
    let theirs: State<Sheet> = in_time(state(&client, "/sheets/a")).await.expect("a document");
    assert_eq!(ours.get(), Ok(Sheet::default()));

    // At the same time, in different places.
    let first = ours.update(set("A1", 1));
    let second = theirs.update(set("B1", 2));
    let versions = [committed(first).await.expect("a version"), committed(second).await.expect("a version")];
    assert_eq!(versions.iter().max(), Some(&2));
    for replica in [&ours, &theirs] {
        let sheet = until(replica, |sheet| sheet.cells.len() == 2).await;
        assert_eq!(sheet.cells.values().sum::<u32>(), 3);
        assert_eq!(replica.version(), 2);
    }

    // A member that the type does not have stays.
    let document = server.documents.get("a").await.expect("a store").expect("a document");
    assert_eq!(document.data::<Value>().expect("JSON")["other"], json!([1]));
}

#[tokio::test]
async fn conflicts_have_both_sides_and_the_next_commit_overwrites() {
    let server = Server::start().await;
    let client = server.client();
    let ours: State<Sheet> = in_time(state(&client, "/sheets/a")).await.expect("a document");
    let theirs: State<Sheet> = in_time(state(&client, "/sheets/a")).await.expect("a document");
    let results = [ours.update(set("A1", 1)), theirs.update(set("A1", 2))];
    let mut failures = Vec::new();
    for (replica, result) in [&ours, &theirs].into_iter().zip(results) {
        if let Err(StateError::Conflict(conflicts)) = committed(result).await {
            failures.push((replica, conflicts));
        }
    }
    let [(loser, conflicts)] = &failures[..] else { panic!("{failures:?}") };
    assert_eq!(conflicts[0].path, "/cells/A1");
    let kept = loser.get().expect("a sheet").cells["A1"];
    assert_eq!(conflicts[0].mine, Some(json!(kept)));
    assert_eq!(conflicts[0].theirs, Some(json!(3 - kept)));

    // The server's value again.
    until(loser, |_| loser.version() == 1).await;
    loser.discard();
    assert_eq!(loser.get().expect("a sheet").cells["A1"], 3 - kept);
    committed(loser.update(set("A1", 7))).await.expect("a version");
    for replica in [&ours, &theirs] {
        until(replica, |sheet| sheet.cells["A1"] == 7).await;
    }
}

#[tokio::test]
async fn refusals_have_their_codes() {
    let server = Server::start().await;
    let client = server.client();
    let sheet: State<Sheet> = in_time(state(&client, "/sheets/a")).await.expect("a document");
    let refused = committed(sheet.update(set("bad", 1))).await;
    assert!(
        matches!(&refused, Err(StateError::Refused { code, message, .. }) if code == "refused" && message.contains("bad")),
        "{refused:?}"
    );
    sheet.discard();

    // Too large for a message: the server closes the socket with 1009. The next commit goes on without it.
    let refused = committed(sheet.update(|sheet| sheet.lines.push("x".repeat(10_000)))).await;
    let Err(StateError::Withheld { code, paths, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((code.as_str(), &paths[..]), ("too-large", &["/lines".to_owned()][..]));
    assert_eq!(committed(sheet.update(set("A1", 1))).await, Ok(1));

    let other: State<Vec<u32>> = in_time(state(&client, "/sheets/a")).await.expect("a document");
    assert!(matches!(other.get(), Err(StateError::Json(_))));
    assert!(matches!(in_time(state::<Sheet>(&client, "/none")).await, Err(StateError::Unreachable(_))));

    sheet.close();
    assert!(matches!(sheet.update(set("A2", 1)), Err(StateError::Closed)));
    let mut ended = sheet.watch();
    assert_eq!(in_time(ended.next()).await, None);
}

#[tokio::test]
async fn replicas_converge_whatever_is_cut() {
    let server = Server::start().await;
    let (address, cuts) = proxy(server.address).await;
    let [near, far] = [client_of(address), client_of(address)];
    let ours: State<Value> = in_time(state(&near, "/sheets/a")).await.expect("a document");
    let theirs: State<Value> = in_time(state(&far, "/sheets/a")).await.expect("a document");
    for round in 0..12 {
        let commits = [(&ours, "ours"), (&theirs, "theirs")].map(|(replica, name)| {
            replica.update(|data| {
                data["cells"][format!("{name}{round}")] = json!(round);
                if let Some(lines) = data["lines"].as_array_mut() {
                    lines.push(json!(format!("{name}{round}")));
                }
            })
        });
        if round % 2 == 0 {
            cuts.send_modify(|cuts| *cuts += 1);
        }
        for commit in commits {
            committed(commit).await.expect("a version");
        }
    }
    let data = server.converge("a", &[&ours, &theirs]).await;
    assert_eq!(data["cells"].as_object().map(serde_json::Map::len), Some(24));
    // Each line once: no commit was lost, or applied twice.
    let mut lines: Vec<_> =
        data["lines"].as_array().expect("lines").iter().filter_map(Value::as_str).collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!((lines.len(), data["lines"].as_array().map(Vec::len)), (24, Some(24)));
}

#[tokio::test]
async fn a_dropped_commit_goes_on_and_a_dropped_replica_gives_up() {
    let server = Server::start().await;
    let client = server.client();
    let ours: State<Sheet> = in_time(state(&client, "/sheets/a")).await.expect("a document");
    let theirs: State<Sheet> = in_time(state(&client, "/sheets/a")).await.expect("a document");
    drop(ours.update(set("A1", 1)));
    until(&theirs, |sheet| sheet.cells.contains_key("A1")).await;

    let clone = ours.clone();
    drop(ours);
    assert_eq!(committed(clone.update(set("A1", 2))).await, Ok(2));
    let commit = clone.update(set("A1", 3));
    drop(clone);
    assert_eq!(committed(commit).await, Err(StateError::Closed));
}

#[tokio::test]
async fn a_deleted_document_is_replaced_by_the_next_of_its_name() {
    let server = Server::start().await;
    let sheet: State<Sheet> = in_time(state(&server.client(), "/sheets/a")).await.expect("a document");
    committed(sheet.update(set("A1", 1))).await.expect("a version");
    in_time(server.documents.delete("a")).await.expect("a deletion");
    until(&sheet, |sheet| sheet.cells.is_empty()).await;
    assert_eq!(sheet.version(), 0);
    assert_eq!(committed(sheet.update(set("B1", 2))).await, Ok(1));
}

#[tokio::test]
async fn a_socket_that_sends_no_document_is_refused() {
    let server = Server::start().await;
    let index = in_time(state::<Value>(&server.client(), "/sheets/")).await;
    assert!(matches!(&index, Err(StateError::Unreachable(why)) if why.contains("no document")), "{index:?}");
}

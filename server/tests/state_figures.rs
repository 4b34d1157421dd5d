//! The figures of `docs/state.md`, and a comparison of a large store with a small one, each measured alone:
//! `cargo test --release -p manysocket-server --test state_figures figures -- --ignored --nocapture`, or `a_million_documents`.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::nats::NatsServer;
use common::{Link, Server};
use manysocket_protocol::{Event, Message};
use manysocket_server::Site;
use manysocket_server::state::{Documents, Store, StoreFile};
use serde::Deserialize;
use serde_json::json;

/// Lets the virtual sockets of all links commit, each one after the other; returns the commits a second in all.
async fn measure(server: &Arc<Server>, links: usize, sockets: usize, path: fn(usize) -> String) -> usize {
    #[derive(Deserialize)]
    struct Received {
        id: Option<String>,
        /// Not there if the last commit of the measurement before, which nobody waited for, was in the way.
        version: Option<u64>,
    }
    const SECONDS: u64 = 3;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..links {
        let server = Arc::clone(server);
        tasks.spawn(async move {
            let mut link = Link::dial(&server).await;
            let first = number * sockets;
            let mut channels = std::collections::HashMap::new();
            for socket in first..first + sockets {
                let channel = link.endpoint.open(&path(socket), "").expect("below the limit");
                channels.insert(channel, (socket, 0, false));
            }
            let mut commits = 0;
            let end = tokio::time::Instant::now() + Duration::from_secs(SECONDS);
            while tokio::time::Instant::now() < end {
                let Event::Message { channel, message } = link.event().await.expect("the link lives") else {
                    continue;
                };
                link.endpoint.consumed(channel, 1, message.units());
                let Message::Text(text) = message else { panic!("not text") };
                let received: Received = serde_json::from_slice(&text).expect("JSON");
                let (socket, version, has_begun) = channels.get_mut(&channel).expect("a channel");
                *version = received.version.unwrap_or_default().max(*version);
                let is_greeting = !std::mem::replace(has_begun, true);
                if received.id.is_none() && !is_greeting {
                    continue;
                }
                commits += usize::from(!is_greeting && received.version.is_some());
                // 256 bytes of delta, as in the figures of the stores alone.
                let delta = json!([{"op": "add", "path": format!("/cells/{socket}"), "value": format!("{commits:0>200}")}]);
                let commit =
                    json!({"id": format!("{socket}.{commits}.{version}"), "base": *version, "delta": delta});
                assert!(link.endpoint.send(channel, Message::text(commit.to_string())));
            }
            commits
        });
    }
    let total: usize = tasks.join_all().await.into_iter().sum();
    total / usize::try_from(SECONDS).expect("few")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures, and asserts nothing"]
async fn figures() {
    let folder = tempfile::tempdir().expect("a folder");
    // Hundreds of documents, each with all the commits that it remembers, take more than the default.
    let durable = Store::open(folder.path().join("state.redb")).expect("a store").max_memory(usize::MAX);
    let in_memory = Store::in_memory().expect("a thread").max_memory(usize::MAX);
    let nats = NatsServer::start().await.expect("nats-server");
    let on_nats = Store::nats(&nats.connect().await, "documents").await.expect("a bucket");
    let mut figures: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for round in 1..=5 {
        for (name, store) in [("durable", &durable), ("in memory", &in_memory), ("on NATS", &on_nats)] {
            let documents = Documents::new(store, format!("round {round}")).initial(json!({"cells": {}}));
            let site = Site::new().endpoint("/any/{name}", documents.endpoint());
            let server = Arc::new(Server::start(site.into_router()).await);
            let own: fn(usize) -> String = |number| format!("/any/own-{number}");
            let one = measure(&server, 1, 1, own).await;
            let many = measure(&server, 1, 64, own).await;
            let most = measure(&server, 4, 64, own).await;
            let shared = measure(&server, 1, 64, |_| "/any/shared".into()).await;
            for (which, rate) in
                [("1 socket", one), ("64", many), ("256", most), ("64 on one document", shared)]
            {
                figures.entry((which, name)).or_default().push(rate);
            }
        }
    }
    for ((which, name), mut rates) in figures {
        rates.sort_unstable();
        println!("{which}, {name}: {} ({}–{}) commits/s", rates[2], rates[0], rates[4]);
    }
}

/// The factor by which an operation may take longer in the large store.
const FACTOR: u32 = 2;

/// Returns the time that 99 of 100 calls of `act` take at most.
async fn p99(count: usize, mut act: impl AsyncFnMut(usize)) -> Duration {
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let begun = Instant::now();
        act(number).await;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times[count * 99 / 100]
}

/// Compares a store of a million documents with one of a thousand, in turns: in an optimised build, on a machine at rest.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures, for seconds"]
async fn a_million_documents() {
    const ROUNDS: usize = 5;
    /// The names, of which each round opens and deletes its share.
    const SAMPLES: usize = 1000;
    let folder = tempfile::tempdir().expect("a folder");
    let mut stores = Vec::new();
    for count in [1000, 1_000_000] {
        let path = folder.path().join(format!("{count}.redb"));
        let lines = (0..count).map(|number| {
            let (name, data) = (format!("{number:07}"), json!({"cells": {"a": number}}));
            let document = json!({"collection": "many", "name": name, "data": data});
            format!("{document}\n")
        });
        let lines: String = lines.collect();
        let imported = StoreFile::create(&path).expect("a file").import(lines.as_bytes(), false);
        assert_eq!(imported.expect("documents"), count);
        let store = Store::open(&path).expect("a store");
        let documents = Documents::new(&store, "many").max_documents(usize::MAX);
        stores.push((count, documents, [const { Vec::new() }; 3]));
    }
    for round in 0..ROUNDS {
        let deleted = round * SAMPLES / ROUNDS;
        for (count, documents, figures) in &mut stores {
            // A prime, so that the samples differ.
            let of = |sample: usize| format!("{:07}", (sample * 7919) % *count);
            let list = p99(SAMPLES, async |sample| {
                documents.list(&of(sample), 100).await.expect("names");
            });
            figures[0].push(list.await);
            // Documents that nobody has opened before, which the store then deletes.
            let open = p99(SAMPLES / ROUNDS, async |sample| {
                assert!(documents.get(&of(deleted + sample)).await.expect("a store").is_some());
            });
            figures[1].push(open.await);
            let delete = p99(SAMPLES / ROUNDS, async |sample| {
                documents.delete(&of(deleted + sample)).await.expect("deleted");
            });
            figures[2].push(delete.await);
        }
    }
    for (which, operation) in ["a page of 100 names", "open", "delete"].into_iter().enumerate() {
        let [small, large] = [0, 1].map(|store| {
            let (count, _, figures) = &mut stores[store];
            let times = &mut figures[which];
            times.sort_unstable();
            println!("{operation}, {count} documents, p99: {times:.2?}");
            times[ROUNDS / 2]
        });
        assert!(large <= small * FACTOR, "{operation}: {large:?} in place of {small:?}");
    }
}

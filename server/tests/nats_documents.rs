//! Documents of several servers on one NATS: changes, conflicts, and the effects of an outage of NATS.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::binary::Binary;
use common::document::{Page, set};
use common::nats::NatsServer;
use common::{KINDS, Kind, Received, Server, Socket};
use manysocket_server::state::{Documents, Store};
use manysocket_server::{Nats, Site};
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::time::sleep;

const BUCKET: &str = "documents";

/// A server whose documents begin as that value.
async fn start(nats: &Nats, initial: Value) -> Server {
    let store = Store::nats(nats, BUCKET).await.expect("a bucket");
    let documents = Documents::new(&store, "test").initial(initial).max_document(4 << 20).max_commit(4 << 20);
    Server::start(Site::new().endpoint("/docs/{name}", documents.endpoint()).into_router()).await
}

/// Long enough for deltas to be shorter.
fn initial() -> Value {
    json!({"list": [], "text": "text ".repeat(50)})
}

/// Commits until NATS takes it; the version.
async fn commit_when_back(page: &mut Page, id: &str, base: u64, delta: &Value) -> u64 {
    for attempt in 0.. {
        page.commit(&format!("{id}.{attempt}"), base, delta).await;
        let answer = page.answer().await;
        if let Some(version) = answer["version"].as_u64() {
            return version;
        }
        assert_eq!(answer["error"], "storage", "{answer}");
        sleep(Duration::from_millis(10)).await;
    }
    unreachable!()
}

#[tokio::test]
async fn a_document_crosses_and_again_after_nats_was_killed() {
    let Some(mut nats) = NatsServer::start().await else { return };
    let (one, two) =
        (start(&nats.connect().await, initial()).await, start(&nats.connect().await, initial()).await);
    for kind in KINDS {
        let path = format!("/docs/{kind:?}");
        let mut index = Page::open(kind, &two, "/docs/").await;
        index.receive().await;
        let (mut ada, mut bob) = (Page::open(kind, &one, &path).await, Page::open(kind, &two, &path).await);
        assert_eq!(ada.whole().await.1, 0);
        assert_eq!(bob.whole().await.1, 0);
        let append = |n: u64| set("/list/-", n);
        let mut version = 0;
        for round in 0..2 {
            for _ in 0..10 {
                ada.commit(&format!("a{version}"), version, &append(version)).await;
                assert_eq!(ada.receive().await, json!({"id": format!("a{version}"), "version": version + 1}));
                let heard = bob.receive().await;
                assert_eq!(heard, json!({"version": version + 1, "delta": append(version)}), "{kind:?}");
                version += 1;
                std::mem::swap(&mut ada, &mut bob);
            }
            if round == 0 {
                let name = format!("{kind:?}");
                assert_eq!(index.receive().await, json!({"added": [name], "removed": []}));
            }

            // Sent again, at the other server.
            let last = version - 1;
            ada.commit(&format!("a{last}"), last, &append(last)).await;
            assert_eq!(ada.receive().await, json!({"id": format!("a{last}"), "version": version}));
            // Against the other server's commits.
            ada.commit("late", version - 1, &json!([{"op": "remove", "path": "/list/0"}])).await;
            assert_eq!(ada.receive().await["error"], "conflict");
            if round == 1 {
                break;
            }

            nats.kill().await;
            // Once the server has noticed: commits under way wait until NATS is back.
            while Socket::open(kind, &one, &format!("/docs/not-open-{kind:?}"), "", "").await.err()
                != Some(503)
            {}
            ada.commit("away", version, &append(0)).await;
            let away = ada.receive().await;
            assert_eq!(away["error"], "storage");
            assert!(away["message"].as_str().expect("a text").contains("NATS is away"), "{away}");
            let data = Page::open(kind, &one, &path).await.whole().await.2;
            assert_eq!(data["list"].as_array().map(Vec::len), Some(10), "an open document can be read");
            nats.restart().await;
            let made = commit_when_back(&mut ada, "back", version, &append(version)).await;
            assert_eq!(made, version + 1);
            assert_eq!(bob.receive().await, json!({"version": made, "delta": append(version)}), "{kind:?}");
            version = made;
        }
        // A page that comes back at the other server gets the missed commits.
        let document = Page::open(kind, &one, &path).await.whole().await.0;
        for server in [&one, &two] {
            let back = format!("{path}?document={document}&since={}", version - 1);
            let greeting = Page::open(kind, server, &back).await.receive().await;
            let expected = json!({"document": document, "version": version, "delta": append(version - 1)});
            assert_eq!(greeting, expected, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn what_others_commit_meanwhile_is_heard_when_nats_is_back() {
    let Some(mut nats) = NatsServer::start().await else { return };
    let server = start(&nats.connect().await, initial()).await;
    for kind in KINDS {
        let (path, name) = (format!("/docs/{kind:?}"), format!("new-{kind:?}"));
        let mut index = Page::open(kind, &server, "/docs/").await;
        index.receive().await;
        let mut page = Page::open(kind, &server, &path).await;
        page.whole().await;
        page.commit("c", 0, &set("/list/-", 1)).await;
        page.receive().await;
        index.receive().await;

        nats.kill().await;
        let other = Nats::connect(&nats.restart_elsewhere().await).await.expect("it answers");
        let other = start(&other, initial()).await;
        for (path, version) in [(&path, 1), (&format!("/docs/{name}"), 0)] {
            let mut page = Page::open(kind, &other, path).await;
            assert_eq!(page.whole().await.1, version);
            page.commit("d", version, &set("/list/-", 2)).await;
            assert_eq!(page.receive().await["version"], version + 1);
        }
        nats.kill().await;
        nats.restart().await;
        assert_eq!(page.receive().await, json!({"version": 2, "delta": set("/list/-", 2)}), "{kind:?}");
        assert_eq!(index.receive().await, json!({"added": [name], "removed": []}), "{kind:?}");
    }
}

/// The acknowledged commits of a writer: versions and deltas.
type Acknowledged = Vec<(u64, Value)>;

/// Writes to its own places and counts up a counter that all share, so many times, whatever is in the way.
async fn write(mut page: Page, writer: usize, commits: usize, start: Arc<Barrier>) -> Acknowledged {
    let (_, mut version, data) = page.whole().await;
    let mut shared = data["shared"].as_u64();
    let mut acknowledged = Vec::new();
    start.wait().await;
    for attempt in 0.. {
        let mut delta = set(&format!("/{writer}-{}", acknowledged.len()), writer);
        if let Some(operations) = delta.as_array_mut() {
            let count = shared.unwrap_or(0) + 1;
            operations.push(json!({"op": "add", "path": "/shared", "value": count}));
        }
        let id = format!("{writer}.{attempt}");
        page.commit(&id, version, &delta).await;
        let mut heard = page.receive().await;
        loop {
            if heard["id"] == id {
                break;
            }
            version = heard["version"].as_u64().expect("a version");
            let operations = heard["delta"].as_array().into_iter().flatten();
            let counts = operations.filter(|operation| operation["path"] == "/shared");
            let count = counts.map(|operation| &operation["value"]).next_back();
            shared = count.unwrap_or(&heard["data"]["shared"]).as_u64().or(shared);
            heard = page.receive().await;
        }
        match heard["version"].as_u64() {
            Some(made) => {
                // Or else the whole has come meanwhile, with this in it.
                if made > version {
                    (version, shared) = (made, Some(shared.unwrap_or(0) + 1));
                }
                acknowledged.push((made, delta));
                if acknowledged.len() == commits {
                    return acknowledged;
                }
            }
            // Others were faster: their commits come before the refusal. Or NATS is away.
            None if heard["error"] == "conflict" => {}
            None if heard["error"] == "storage" => sleep(Duration::from_millis(5)).await,
            None => panic!("{heard}"),
        }
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_race_at_two_servers_lose_nothing_though_nats_is_killed() {
    const WRITERS: usize = 10;
    const COMMITS: usize = 25;
    let Some(mut nats) = NatsServer::start().await else { return };
    let url = nats.url();
    let servers = [Binary::start(&["--nats", &url], &[]).await, Binary::start(&["--nats", &url], &[]).await];
    // Nobody has made the document: they race for that, too.
    let start = Arc::new(Barrier::new(2 * WRITERS));
    let mut tasks = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        for writer in number * WRITERS..(number + 1) * WRITERS {
            let page = Page::open(KINDS[writer % 2], &server.server, "/demo/state/race").await;
            tasks.push(tokio::spawn(write(page, writer, COMMITS, Arc::clone(&start))));
        }
    }
    // One looks on, and sees when to kill NATS.
    let mut reader = Page::open(Kind::Native, &servers[0].server, "/demo/state/race").await;
    let mut versions = vec![reader.whole().await.1];
    for kill_at in [100, 250] {
        while *versions.last().expect("one") < kill_at {
            versions.push(reader.receive().await["version"].as_u64().expect("a version"));
        }
        nats.kill().await;
        nats.restart().await;
    }
    let mut acknowledged = Vec::new();
    for task in tasks {
        acknowledged.extend(task.await.expect("a writer"));
    }
    acknowledged.sort_by_key(|(version, _)| *version);
    let mut expected = json!({});
    for (at, (version, delta)) in acknowledged.iter().enumerate() {
        assert_eq!(*version, at as u64 + 1, "each acknowledged commit made one version, and no other did");
        let delta: json_patch::Patch = serde_json::from_value(delta.clone()).expect("a delta");
        json_patch::patch(&mut expected, &delta).expect("applies");
    }
    assert_eq!(expected["shared"], 2 * WRITERS * COMMITS);
    for server in &servers {
        // Soon: a server that has nothing to commit hears a moment later.
        let mut page = Page::open(Kind::Virtual, &server.server, "/demo/state/race").await;
        let (_, mut version, _) = page.whole().await;
        while version < acknowledged.len() as u64 {
            version = page.receive().await["version"].as_u64().expect("a version");
        }
        let data = Page::open(Kind::Virtual, &server.server, "/demo/state/race").await.whole().await.2;
        assert!(data == expected, "what the acknowledged commits make one after the other");
    }
    assert!(versions.is_sorted_by(|a, b| a < b), "in order: {versions:?}");
}

/// A key as other programs see it: written to, with headers.
async fn write_key(nats: &NatsServer, name: &str, headers: &[(&str, &str)], value: &'static str) {
    let client = async_nats::connect(nats.url()).await.expect("a connection");
    let jetstream = async_nats::jetstream::new(client);
    let mut map = async_nats::HeaderMap::new();
    headers.iter().for_each(|(name, value)| map.insert(*name, *value));
    let subject = format!("$KV.{BUCKET}.test.{name}");
    let sent = jetstream.publish_with_headers(subject, map, value.into()).await.expect("sent");
    sent.await.expect("taken");
}

#[tokio::test]
async fn a_document_that_is_deleted_ends_its_sockets_and_begins_anew() {
    let Some(nats) = NatsServer::start().await else { return };
    let server = start(&nats.connect().await, initial()).await;
    for kind in KINDS {
        let mut index = Page::open(kind, &server, "/docs/").await;
        index.receive().await;
        let mut page = Page::open(kind, &server, "/docs/a").await;
        let first = page.whole().await.0;
        page.commit("c", 0, &set("/list/-", 1)).await;
        page.receive().await;
        assert_eq!(index.receive().await["added"], json!(["a"]));
        write_key(&nats, "a", &[("KV-Operation", "DEL")], "").await;
        let Received::Close(Some(1012), reason) = page.0.receive().await else { panic!("not closed") };
        assert_eq!(reason, "the document was replaced: connect again");
        assert_eq!(index.receive().await["removed"], json!(["a"]));
        let back = format!("/docs/a?document={first}&since=1");
        let mut page = Page::open(kind, &server, &back).await;
        let (second, version, data) = page.whole().await;
        assert_ne!(second, first);
        assert_eq!((version, data), (0, initial()));
        page.commit("c", 0, &set("/list/-", 2)).await;
        assert_eq!(page.receive().await, json!({"id": "c", "version": 1}));
        assert_eq!(index.receive().await["added"], json!(["a"]));
        write_key(&nats, "a", &[("KV-Operation", "PURGE")], "").await;
        let Received::Close(Some(1012), _) = page.0.receive().await else { panic!("not closed") };
    }
}

#[tokio::test]
async fn what_is_no_document_is_left_alone() {
    let Some(nats) = NatsServer::start().await else { return };
    let server = start(&nats.connect().await, initial()).await;
    write_key(&nats, "broken", &[], "{}").await;
    for kind in KINDS {
        assert_eq!(Socket::open(kind, &server, "/docs/broken", "", "").await.err(), Some(503), "{kind:?}");
        let mut page = Page::open(kind, &server, &format!("/docs/{kind:?}")).await;
        page.whole().await;
        page.commit("c", 0, &set("/list/-", 1)).await;
        assert_eq!(page.receive().await, json!({"id": "c", "version": 1}));
        // Somebody overwrites it: nobody gets nonsense, and nothing overwrites the new value.
        write_key(&nats, &format!("{kind:?}"), &[], "nonsense").await;
        page.commit("d", 1, &set("/list/-", 2)).await;
        assert_eq!(page.receive().await["error"], "storage");
    }
}

#[tokio::test]
async fn a_document_that_nats_cannot_take_is_too_large() {
    let Some(nats) = NatsServer::start().await else { return };
    let (one, two) =
        (start(&nats.connect().await, initial()).await, start(&nats.connect().await, initial()).await);
    for kind in KINDS {
        let path = format!("/docs/{kind:?}");
        let mut page = Page::open(kind, &one, &path).await;
        page.whole().await;
        let mut other = Page::open(kind, &two, &path).await;
        other.whole().await;
        // The second is larger than it seems: each of these characters takes six.
        for text in ["x".repeat(2 << 20), "\u{1}".repeat(400_000)] {
            page.commit("much", 0, &set("/much", text)).await;
            let refusal = page.receive().await;
            assert_eq!(refusal["error"], "too-large", "{refusal}");
            let message = refusal["message"].as_str().expect("a text");
            assert!(message.ends_with("and NATS takes 1048320"), "{message}");
        }
        // As much as fits, without room for the commit beside the document.
        page.commit("full", 0, &set("/much", "x".repeat(1_000_000))).await;
        assert_eq!(page.receive().await, json!({"id": "full", "version": 1}));
        assert_eq!(other.whole().await.1, 1, "the whole, as the commit is not there");
        // Together they do not fit, alone the first does.
        for n in 0..2 {
            other.commit(&format!("n{n}"), 1, &set(&format!("/{n}"), "x".repeat(30_000))).await;
        }
        assert_eq!(other.receive().await, json!({"id": "n0", "version": 2}));
        assert_eq!(other.receive().await["error"], "too-large");
    }
}

#[tokio::test]
async fn pages_that_saw_another_beginning_get_the_whole() {
    let Some(nats) = NatsServer::start().await else { return };
    let text = "another ".repeat(50);
    let (one, two) = (
        start(&nats.connect().await, initial()).await,
        start(&nats.connect().await, json!({"list": [0], "text": text})).await,
    );
    for kind in KINDS {
        let path = format!("/docs/{kind:?}");
        let (mut ada, mut bob) = (Page::open(kind, &one, &path).await, Page::open(kind, &two, &path).await);
        let document = ada.whole().await.0;
        bob.whole().await;
        ada.commit("c", 0, &set("/list/-", 1)).await;
        ada.receive().await;
        let (theirs, version, data) = bob.whole().await;
        assert_eq!((theirs, version, &data["list"]), (document, 1, &json!([1])));
    }
}

#[tokio::test]
async fn a_bucket_whose_name_cannot_be_is_an_error() {
    let Some(nats) = NatsServer::start().await else { return };
    let nats = nats.connect().await;
    for name in ["", "a.b", "a b", "*"] {
        assert!(Store::nats(&nats, name).await.is_err(), "{name}");
    }
}

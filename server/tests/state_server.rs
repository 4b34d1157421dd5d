//! Documents in the server's own code: it reads, commits, watches, and hears of commits.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Path;
use axum::http::Uri;
use axum::routing::any;
use common::document::{Page, set};
use common::nats::{Backend, NatsServer, backends, cases};
use common::{Kind, PATIENCE, Received, Server};
use futures_util::StreamExt;
use manysocket_server::WebSocketUpgrade;
use manysocket_server::state::{Documents, Store};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

async fn documents(backend: &Backend, kind: Kind) -> Documents {
    let store = match &backend.nats {
        Some(nats) => Store::nats(nats, &format!("{kind:?}")).await,
        None => Store::in_memory(),
    };
    Documents::new(&store.expect("a store"), "test/ä")
}

async fn start(documents: &Documents) -> Server {
    let documents = documents.clone();
    let serve = async move |Path(name): Path<String>, uri: Uri, upgrade: WebSocketUpgrade| {
        documents.serve(&name, &uri, upgrade).await
    };
    Server::start(axum::Router::new().route("/{name}", any(serve))).await
}

#[derive(Debug, Deserialize, PartialEq)]
struct Sheet {
    title: String,
}

#[tokio::test]
async fn the_server_and_pages_see_each_others_commits() {
    for (backend, kind) in cases(&backends().await) {
        let documents = documents(backend, kind).await.initial(json!({ "title": "" }));
        let server = start(&documents).await;
        assert!(documents.get("a").await.expect("a store").is_none(), "{kind:?}");
        let version = documents.commit("a", 0, &set("/title", "first")).await.expect("a commit");
        assert_eq!(version, 1, "{kind:?}");
        let mut page = Page::open(kind, &server, "/a").await;
        let (id, version, data) = page.whole().await;
        assert_eq!((version, data), (1, json!({ "title": "first" })), "{kind:?}");
        let seen = documents.get("a").await.expect("a store").expect("a document");
        assert_eq!((seen.id(), seen.version()), (&*id, 1), "{kind:?}");
        assert_eq!(seen.data::<Sheet>().expect("a sheet"), Sheet { title: "first".into() });
        assert!(seen.data::<Vec<u8>>().is_err());

        assert_eq!(documents.commit("a", 1, &set("/title", "second")).await.expect("a commit"), 2);
        assert_eq!(
            page.receive().await,
            json!({ "version": 2, "data": { "title": "second" }, "document": id })
        );
        page.commit("x", 2, &set("/title", "third")).await;
        assert_eq!(page.answer().await, json!({ "id": "x", "version": 3 }), "{kind:?}");
        let seen = documents.get("a").await.expect("a store").expect("a document");
        assert_eq!(seen.data::<Value>().expect("JSON"), json!({ "title": "third" }), "{kind:?}");
        // A version stays as it was.
        assert_eq!(documents.commit("a", 3, &set("/title", "fourth")).await.expect("a commit"), 4);
        assert_eq!(seen.data::<Value>().expect("JSON"), json!({ "title": "third" }), "{kind:?}");
    }
}

#[tokio::test]
async fn a_commit_of_the_server_keeps_the_rules_of_pages() {
    for (backend, kind) in cases(&backends().await) {
        let documents = documents(backend, kind).await.max_commit(1000).max_document(300);
        let documents = documents.validate(
            |value: Value| {
                if value["bad"].is_null() { Ok(()) } else { Err("that is bad") }
            },
        );
        documents.commit("a", 0, &set("/x", 1)).await.expect("a commit");
        let refused = async |base, delta: Value| {
            let error = documents.commit("a", base, &delta).await.expect_err("a refusal");
            (error.code().to_owned(), error.path().map(str::to_owned), error.conflicts().to_vec())
        };
        for (base, delta, code, path, conflicts) in [
            (0, set("/x", 2), "conflict", None, vec!["/x".to_owned()]),
            (1, json!([{ "op": "test", "path": "/x", "value": 2 }]), "conflict", None, vec!["/x".to_owned()]),
            (1, set("/bad", true), "refused", None, vec![]),
            (1, set("/y", "y".repeat(400)), "too-large", None, vec![]),
            (1, set("/y", "y".repeat(2000)), "too-large", None, vec![]),
            (1, set("/y/z", 1), "invalid", Some("/y/z".to_owned()), vec![]),
            (1, json!([]), "invalid", None, vec![]),
            (1, json!("x"), "invalid", None, vec![]),
            (7, set("/y", 1), "invalid", None, vec![]),
        ] {
            let (got, at, others) = refused(base, delta.clone()).await;
            assert_eq!((&*got, at, others), (code, path, conflicts), "{kind:?}: {delta}");
        }
        let read_only = documents.clone().read_only();
        let error = read_only.commit("a", 1, &set("/x", 2)).await.expect_err("a refusal");
        assert_eq!((error.code(), error.to_string().is_empty()), ("read-only", false));
        let existing = documents.clone().existing_only();
        assert_eq!(existing.commit("b", 0, &set("/x", 2)).await.expect_err("a refusal").code(), "missing");
        assert_eq!(existing.watch("b").await.err().expect("a refusal").code(), "missing");
        for name in ["", &"x".repeat(256)] {
            assert_eq!(documents.get(name).await.expect_err("a refusal").code(), "name");
        }
        let seen = documents.get("a").await.expect("a store").expect("a document");
        assert_eq!((seen.version(), seen.data::<Value>().expect("JSON")), (1, json!({ "x": 1 })), "{kind:?}");
    }
}

#[tokio::test]
async fn a_watcher_gets_the_present_version_and_then_the_newest() {
    for (backend, kind) in cases(&backends().await) {
        let documents = documents(backend, kind).await;
        let server = start(&documents).await;
        let mut versions = std::pin::pin!(documents.watch("a").await.expect("a document"));
        let mut next =
            async || timeout(PATIENCE, versions.next()).await.expect("in time").expect("a version");
        let first = next().await;
        assert_eq!((first.version(), first.data::<Value>().expect("JSON")), (0, json!({})), "{kind:?}");
        let mut page = Page::open(kind, &server, "/a").await;
        page.whole().await;
        page.commit("x", 0, &set("/n", 1)).await;
        page.answer().await;
        assert_eq!(next().await.version(), 1, "{kind:?}");
        for n in 2..10 {
            documents.commit("a", n - 1, &set("/n", n)).await.expect("a commit");
        }
        // Those between came and went; the newest is there.
        let newest = next().await;
        assert_eq!(
            (newest.version(), newest.data::<Value>().expect("JSON")),
            (9, json!({ "n": 9 })),
            "{kind:?}"
        );
        documents.commit("a", 9, &set("/n", 10)).await.expect("a commit");
        assert_eq!(next().await.version(), 10, "{kind:?}");
    }
}

#[tokio::test]
async fn hooks_get_each_commit_once_in_order() {
    for (backend, kind) in cases(&backends().await) {
        let heard = Arc::<Mutex<Vec<(String, u64, Value)>>>::default();
        let hearing = Arc::clone(&heard);
        let documents = documents(backend, kind)
            .await
            .on_commit(|commit| assert!(commit.name() != "panics", "as asked"))
            .on_commit(move |commit| {
                let delta = serde_json::from_str(commit.delta()).expect("JSON");
                hearing.lock().expect("no panic").push((commit.name().to_owned(), commit.version(), delta));
            });
        let server = start(&documents).await;
        let mut page = Page::open(kind, &server, "/a").await;
        page.whole().await;
        for n in 0..3 {
            documents.commit("a", n * 2, &set("/n", n)).await.expect("a commit");
            // Sent twice, as by a page that has lost its connection.
            for _ in 0..2 {
                page.commit(&format!("c{n}"), n * 2 + 1, &set("/page", n)).await;
                assert_eq!(page.answer().await["version"], n * 2 + 2, "{kind:?}");
            }
        }
        documents.commit("a", 0, &set("/n", 7)).await.expect_err("a conflict");
        documents.commit("panics", 0, &set("/n", 1)).await.expect("a commit");
        documents.commit("b/ü", 0, &set("/n", 1)).await.expect("a commit");
        // A hook runs behind the answer: the last commit's shows that all have run.
        let all = async {
            while heard.lock().expect("no panic").len() < 8 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, all).await.expect("in time");
        let mut expected = Vec::new();
        for n in 0..3 {
            expected.push(("a".to_owned(), n * 2 + 1, set("/n", n)));
            expected.push(("a".to_owned(), n * 2 + 2, set("/page", n)));
        }
        expected.push(("panics".to_owned(), 1, set("/n", 1)));
        expected.push(("b/ü".to_owned(), 1, set("/n", 1)));
        let mut heard = heard.lock().expect("no panic").clone();
        // Two documents of a store on NATS have an order each.
        heard.sort_by_key(|(name, ..)| match &**name {
            "a" => 0,
            "panics" => 1,
            _ => 2,
        });
        assert_eq!(heard, expected, "{kind:?}");
    }
}

#[tokio::test]
async fn names_are_listed_in_pages() {
    let folder = tempfile::tempdir().expect("a folder");
    let on_disk = Store::open(folder.path().join("documents.redb")).expect("a store");
    let backends = backends().await;
    let mut all = vec![Documents::new(&on_disk, "test/ä")];
    for (backend, kind) in cases(&backends) {
        all.push(documents(backend, kind).await);
    }
    for documents in all {
        assert!(documents.list("", 10).await.expect("a store").is_empty());
        let mut expected: Vec<String> = (0..25).map(|n| format!("{n}/ü")).collect();
        expected.push("z".into());
        expected.sort_unstable();
        for name in &expected {
            documents.commit(name, 0, &set("/x", 1)).await.expect("a commit");
        }
        // Without commits, a document has no name in the list.
        let _open = documents.watch("quiet").await.expect("a document");
        let mut names: Vec<String> = Vec::new();
        for length in [10, 10, 6, 0] {
            let page = documents.list(names.last().map_or("", String::as_str), 10).await.expect("a store");
            assert_eq!(page.len(), length);
            names.extend(page);
        }
        assert_eq!(names, expected);
        assert_eq!(documents.list("y", 10).await.expect("a store"), ["z"]);
        assert!(documents.list("", 0).await.expect("a store").is_empty());
    }
}

/// Everything that remembers the deleted document begins anew.
#[tokio::test]
async fn a_deleted_document_ends_and_a_later_one_matches_nothing_of_it() {
    for (backend, kind) in cases(&backends().await) {
        let documents = documents(backend, kind).await.initial(json!({ "title": "" }));
        let server = start(&documents).await;
        let missing = documents.delete("a").await.expect_err("there is none");
        assert_eq!(missing.code(), "missing", "{kind:?}");
        assert_eq!(documents.delete("").await.expect_err("no name").code(), "name", "{kind:?}");
        let mut page = Page::open(kind, &server, "/a").await;
        let (first, ..) = page.whole().await;
        page.commit("c", 0, &set("/title", "first")).await;
        page.receive().await;
        assert_eq!(documents.commit("b", 0, &set("/title", "other")).await.expect("a commit"), 1);
        let refused = documents.clone().read_only().delete("a").await.expect_err("read only");
        assert_eq!(refused.code(), "read-only", "{kind:?}");
        let mut versions = std::pin::pin!(documents.watch("a").await.expect("a document"));
        assert_eq!(versions.next().await.expect("the present one").version(), 1, "{kind:?}");
        documents.delete("a").await.expect("deleted");
        let Received::Close(code, reason) = page.0.receive().await else { panic!("not closed") };
        let expected = (Some(1012), "the document was replaced: connect again");
        assert_eq!((code, &*reason), expected, "{kind:?}");
        assert!(timeout(PATIENCE, versions.next()).await.expect("the end").is_none(), "{kind:?}");
        assert!(documents.get("a").await.expect("a store").is_none(), "{kind:?}");
        assert_eq!(documents.list("", 10).await.expect("names"), ["b"], "{kind:?}");
        assert_eq!(documents.delete("a").await.expect_err("it is gone").code(), "missing", "{kind:?}");
        // A page that comes back, and repeats a commit of which it has had no answer.
        let mut page = Page::open(kind, &server, &format!("/a?document={first}&since=1")).await;
        let (second, version, data) = page.whole().await;
        assert_ne!(second, first, "{kind:?}");
        assert_eq!((version, data), (0, json!({ "title": "" })), "{kind:?}");
        page.commit("c", 0, &set("/title", "second")).await;
        assert_eq!(page.receive().await, json!({"id": "c", "version": 1}), "{kind:?}");
        assert_eq!(documents.list("", 10).await.expect("names"), ["a", "b"], "{kind:?}");
    }
}

/// No earlier commit is in the file, and no commit that was on its way brings the document back.
#[tokio::test]
async fn a_deletion_is_on_disk_and_nothing_undoes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("documents.redb");
    let store = Store::open(&path).expect("a store");
    let documents = Documents::new(&store, "test");
    let large = "x".repeat(100_000);
    for round in 0..20 {
        let base = documents.commit("a", 0, &set("/text", large.as_str())).await.expect("a commit");
        assert_eq!(base, 1, "a new document");
        // Large commits are applied elsewhere meanwhile.
        let commits = (0..5).map(|number| {
            let (documents, large) = (documents.clone(), large.clone());
            tokio::spawn(async move {
                documents.commit("a", 1, &set(&format!("/{number}"), large.as_str())).await
            })
        });
        let commits: Vec<_> = commits.collect();
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        documents.delete("a").await.expect("deleted");
        for commit in commits {
            if let Err(error) = timeout(PATIENCE, commit).await.expect("in time").expect("no panic") {
                assert!(["storage", "invalid", "conflict"].contains(&error.code()), "{error}");
            }
        }
        // A commit after the deletion may have begun another document.
        if let Some(later) = documents.get("a").await.expect("a store") {
            assert!(later.version() >= 1);
            documents.delete("a").await.expect("deleted");
        }
    }
    store.close().await;
    let store = Store::open(&path).expect("a store");
    let documents = Documents::new(&store, "test");
    assert!(documents.get("a").await.expect("a store").is_none());
    assert_eq!(documents.list("", 10).await.expect("names"), [] as [&str; 0]);
    assert_eq!(documents.commit("a", 0, &set("/text", "new")).await.expect("a commit"), 1);
    drop(documents);
    store.close().await;
    let report = manysocket_server::state::StoreFile::open(&path).expect("a file").check().expect("read");
    assert_eq!((report.documents, report.damaged.len()), (1, 0));
}

#[tokio::test]
async fn a_document_that_one_server_deletes_ends_at_the_others() {
    let Some(mut nats) = NatsServer::start().await else { return };
    let connect = async || {
        let store = Store::nats(&nats.connect().await, "documents").await.expect("a store");
        Documents::new(&store, "test")
    };
    let (here, there) = (connect().await, connect().await);
    let server = start(&there).await;
    for kind in [Kind::Native, Kind::Virtual] {
        let mut page = Page::open(kind, &server, "/a").await;
        let (first, ..) = page.whole().await;
        page.commit("c", 0, &set("/title", "first")).await;
        page.receive().await;
        here.delete("a").await.expect("deleted");
        assert!(matches!(page.0.receive().await, Received::Close(Some(1012), _)), "{kind:?}");
        let mut page = Page::open(kind, &server, &format!("/a?document={first}&since=1")).await;
        assert_ne!(page.whole().await.0, first, "{kind:?}");
        // Both may delete at the same time: one of them has.
        page.commit("d", 0, &set("/title", "second")).await;
        page.receive().await;
        let both = tokio::join!(here.delete("a"), there.delete("a"));
        assert!(both.0.is_ok() || both.1.is_ok(), "{kind:?}: {both:?}");
        for (documents, deleted) in [(&here, both.0), (&there, both.1)] {
            // One that came too late hears of it soon.
            while documents.get("a").await.expect("a store").is_some() {
                assert!(deleted.is_err(), "{kind:?}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    assert_eq!(here.commit("b", 0, &set("/title", "kept")).await.expect("a commit"), 1);
    nats.kill().await;
    assert_eq!(here.delete("b").await.expect_err("NATS is away").code(), "storage");
    nats.restart().await;
    let back = async {
        while here.delete("b").await.is_err_and(|error| error.code() == "storage") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, back).await.expect("it is back");
    assert!(here.get("b").await.expect("a store").is_none());
}

/// The rules of one user: may add to a total and not subtract; others may do both.
#[tokio::test]
async fn a_check_sees_the_version_before_and_holds_for_one_user() {
    for (backend, kind) in cases(&backends().await) {
        let documents = documents(backend, kind).await.initial(json!({ "total": 1 }));
        let serve = {
            let documents = documents.clone();
            async move |Path(name): Path<String>, uri: Uri, upgrade: WebSocketUpgrade| {
                let user = uri.query().unwrap_or_default().to_owned();
                let documents = documents.validate_change(move |before: Value, after: Value| {
                    match before["total"].as_u64() <= after["total"].as_u64() || user == "owner" {
                        true => Ok(()),
                        false => Err(format!("{user:?} may not lower {}", before["total"])),
                    }
                });
                documents.serve(&name, &uri, upgrade).await
            }
        };
        let server = Server::start(axum::Router::new().route("/{name}", any(serve))).await;
        let mut guest = Page::open(kind, &server, "/a?guest").await;
        assert_eq!(guest.whole().await.1, 0, "{kind:?}");
        guest.commit("low", 0, &set("/total", 0)).await;
        let refused = guest.receive().await;
        let expected = (json!("refused"), json!("\"guest\" may not lower 1"));
        assert_eq!((refused["error"].clone(), refused["message"].clone()), expected, "{kind:?}");
        guest.commit("high", 0, &set("/total", 5)).await;
        assert_eq!(guest.receive().await, json!({"id": "high", "version": 1}), "{kind:?}");
        guest.commit("lower", 1, &set("/total", 4)).await;
        assert_eq!(guest.receive().await["message"], "\"guest\" may not lower 5", "{kind:?}");
        let mut owner = Page::open(kind, &server, "/a?owner").await;
        owner.whole().await;
        owner.commit("own", 1, &set("/total", 2)).await;
        assert_eq!(owner.receive().await, json!({"id": "own", "version": 2}), "{kind:?}");
    }
}

#[tokio::test]
async fn an_application_limits_the_commits_of_each_socket() {
    for (backend, kind) in cases(&backends().await) {
        let documents = documents(backend, kind).await;
        let sheets = documents.clone();
        // Each socket may commit once, and then never.
        let serve = async move |Path(name): Path<String>, uri: Uri, upgrade: WebSocketUpgrade| {
            let used = AtomicBool::new(false);
            let limit = move || match used.swap(true, Ordering::Relaxed) {
                false => Ok(()),
                true => Err(Duration::from_millis(250)),
            };
            sheets.clone().rate_limit(limit).serve(&name, &uri, upgrade).await
        };
        let server = Server::start(axum::Router::new().route("/{name}", any(serve))).await;
        let mut page = Page::open(kind, &server, "/a").await;
        page.whole().await;
        page.commit("first", 0, &set("/a", 1)).await;
        assert_eq!(page.answer().await, json!({ "id": "first", "version": 1 }), "{kind:?}");
        page.commit("second", 1, &set("/a", 2)).await;
        let refused = json!({
            "id": "second", "error": "limited", "message": "too many commits: commit again in 250 ms", "retryAfter": 250,
        });
        assert_eq!(page.answer().await, refused, "{kind:?}");
        // For its answer, after a lost connection: it was applied.
        page.commit("first", 0, &set("/a", 1)).await;
        assert_eq!(page.answer().await, json!({ "id": "first", "version": 1 }), "{kind:?}");
        let mut other = Page::open(kind, &server, "/a").await;
        let (_, version, data) = other.whole().await;
        assert_eq!((version, data), (1, json!({ "a": 1 })), "{kind:?}");
        other.commit("third", 1, &set("/a", 3)).await;
        assert_eq!(other.answer().await, json!({ "id": "third", "version": 2 }), "{kind:?}");
        // The server's own code has no limit.
        assert_eq!(documents.commit("a", 2, &set("/a", 4)).await.expect("a commit"), 3, "{kind:?}");
    }
}

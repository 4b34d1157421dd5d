//! The limits on the memory of documents, and the separation of collections.

mod common;

use axum::Router;
use axum::extract::Path;
use axum::http::Uri;
use axum::routing::any;
use common::document::{Page, set};
use common::nats::{NatsServer, backends, cases};
use common::{Kind, PATIENCE, Server, Socket};
use manysocket_server::WebSocketUpgrade;
use manysocket_server::state::{Documents, Store};
use serde_json::json;
use std::time::Duration;
use tokio::time::{sleep, timeout};

fn app(documents: Documents) -> Router {
    let serve = async move |Path(name): Path<String>, uri: Uri, upgrade: WebSocketUpgrade| {
        documents.serve(&name, &uri, upgrade).await
    };
    Router::new().route("/{name}", any(serve))
}

async fn start(documents: Documents) -> Server {
    Server::start(app(documents)).await
}

/// Documents that are open, and commits that are remembered, are memory of no link's.
#[tokio::test]
async fn documents_take_only_so_much_memory() {
    for (backend, kind) in cases(&backends().await) {
        let store = match &backend.nats {
            Some(nats) => Store::nats(nats, &format!("{kind:?}")).await,
            None => Store::in_memory(),
        };
        let store = store.expect("a store").max_memory(50_000);
        let server = start(Documents::new(&store, "test")).await;
        let mut page = Page::open(kind, &server, "/a").await;
        page.whole().await;
        page.commit("fine", 0, &set("/a", "x".repeat(60_000))).await;
        assert_eq!(page.answer().await, json!({"id": "fine", "version": 1}));
        page.commit("full", 1, &set("/b", 1)).await;
        let refusal = page.answer().await;
        assert_eq!(refusal["error"], "storage", "{refusal}");
        assert_eq!(Socket::open(kind, &server, "/b", "", "").await.err(), Some(503));
        let mut reader = Page::open(kind, &server, "/a").await;
        assert_eq!(reader.whole().await.1, 1, "an open document can be read");
    }
}

/// Busy documents remember 1 MiB of commits each, in all far more than may be held here.
#[tokio::test]
async fn remembered_commits_are_forgotten_before_anything_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.redb");
    let nats = NatsServer::start().await;
    let mut stores = vec![Store::in_memory(), Store::open(&path)];
    if let Some(nats) = &nats {
        stores.push(Store::nats(&nats.connect().await, "documents").await);
    }
    for (place, store) in stores.into_iter().enumerate() {
        let server = start(Documents::new(&store.expect("a store").max_memory(800_000), "test")).await;
        let mut pages = Vec::new();
        for name in 0..4 {
            let mut page = Page::open(Kind::Virtual, &server, &format!("/{name}")).await;
            page.whole().await;
            pages.push(page);
        }
        for version in 0..20 {
            for page in &mut pages {
                let text = format!("{version}").repeat(25_000);
                page.commit(&format!("c{version}"), version, &set("/a", text)).await;
                let answer = page.answer().await;
                assert_eq!(answer, json!({"id": format!("c{version}"), "version": version + 1}), "{place}");
            }
        }
        // The base is too old, and the answer says so.
        pages[0].commit("late", 1, &set("/b", 1)).await;
        assert_eq!(pages[0].answer().await["error"], "expired");
        // The document that memory did not hold is there.
        let (_, version, data) = Page::open(Kind::Native, &server, "/3").await.whole().await;
        assert_eq!((version, data), (20, json!({"a": "19".repeat(25_000)})));
    }
}

/// On disk, documents that nobody has open take none.
#[tokio::test]
async fn memory_comes_back_from_documents_that_nobody_has_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path().join("state.redb")).expect("a store").max_memory(50_000);
    let server = start(Documents::new(&store, "test")).await;
    for name in ["a", "b", "c"] {
        let path = format!("/{name}");
        // The one before may take a moment to go.
        let mut page = loop {
            if let Ok((socket, _)) = Socket::open(Kind::Virtual, &server, &path, "", "").await {
                break Page(socket);
            }
        };
        page.whole().await;
        page.commit("fine", 0, &set("/a", "x".repeat(60_000))).await;
        assert_eq!(page.answer().await, json!({"id": "fine", "version": 1}), "{name}");
        page.commit("full", 1, &set("/b", 1)).await;
        assert_eq!(page.answer().await["error"], "storage");
    }
}

/// `b/c` in the collection `a` is not `c` in `a/b`, whose pages may have other rights.
#[tokio::test]
async fn a_name_with_a_slash_is_in_no_other_collection() {
    let store = Store::in_memory().expect("a store");
    let [outer, inner] = ["a", "a/b"].map(|collection| Documents::new(&store, collection));
    let server =
        Server::start(Router::new().nest("/outer", app(outer.clone())).nest("/inner", app(inner.clone())))
            .await;
    let mut page = Page::open(Kind::Native, &server, "/outer/b%2fc").await;
    page.whole().await;
    page.commit("mine", 0, &set("/a", 1)).await;
    page.answer().await;
    let mut other = Page::open(Kind::Native, &server, "/inner/c").await;
    assert_eq!(other.whole().await.2, json!({}));
    // The store fills them in the order in which they are asked for.
    let (inner, outer) = (inner.listing(), outer.listing());
    let filled = async {
        while outer.snapshot().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, filled).await.expect("a listing in time");
    assert_eq!(outer.snapshot(), ["b/c".into()]);
    assert!(inner.snapshot().is_empty());
}

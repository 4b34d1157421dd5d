//! Documents: the messages of a socket, the rules for commits, and durability. Every behaviour runs over native
//! and virtual sockets, with documents in memory and on NATS.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Path;
use axum::http::Uri;
use axum::routing::any;
use common::document::{Page, set};
use common::nats::{Backend, NatsServer, backends, cases};
use common::{Kind, Link, Received, Server, Socket};
use manysocket_protocol::{Event, Message};
use manysocket_server::state::{Documents, Store};
use manysocket_server::{Site, WebSocketUpgrade};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn app(documents: Documents) -> Router {
    let serve =
        async move |Path((access, name)): Path<(String, String)>, uri: Uri, upgrade: WebSocketUpgrade| {
            let documents = match access.as_str() {
                "read" => documents.clone().read_only(),
                "existing" => documents.clone().existing_only(),
                _ => documents.clone(),
            };
            documents.serve(&name, &uri, upgrade).await
        };
    Router::new().route("/{access}/{name}", any(serve))
}

/// Documents that nobody has committed to.
async fn documents(backend: &Backend, kind: Kind) -> Documents {
    let store = match &backend.nats {
        Some(nats) => Store::nats(nats, &format!("{kind:?}")).await,
        None => Store::in_memory(),
    };
    Documents::new(&store.expect("a store"), "test")
}

async fn start(documents: Documents) -> Server {
    Server::start(app(documents)).await
}

#[tokio::test]
async fn a_commit_is_answered_and_everybody_else_hears_of_it() {
    for (backend, kind) in cases(&backends().await) {
        // Long enough for deltas to be shorter.
        let text = "text ".repeat(50);
        let server = start(documents(backend, kind).await.initial(json!({"cells": {}, "text": text}))).await;
        let (mut ada, mut bob) =
            (Page::open(kind, &server, "/any/a").await, Page::open(kind, &server, "/any/a").await);
        for page in [&mut ada, &mut bob] {
            let (_, version, data) = page.whole().await;
            assert_eq!((version, data), (0, json!({"cells": {}, "text": text})), "{kind:?}");
        }
        ada.commit("a1", 0, &set("/cells/x", 1)).await;
        assert_eq!(ada.receive().await, json!({"id": "a1", "version": 1}));
        assert_eq!(bob.receive().await, json!({"version": 1, "delta": set("/cells/x", 1)}));
        bob.commit("b1", 1, &set("/cells/y", 2)).await;
        assert_eq!(bob.receive().await, json!({"id": "b1", "version": 2}));
        assert_eq!(ada.receive().await, json!({"version": 2, "delta": set("/cells/y", 2)}));
        let mut late = Page::open(kind, &server, "/any/a").await;
        assert_eq!(late.whole().await.2["cells"], json!({"x": 1, "y": 2}));
    }
}

#[tokio::test]
async fn commits_against_an_old_version_are_applied_unless_others_touched_the_same() {
    for (backend, kind) in cases(&backends().await) {
        let server = start(
            documents(backend, kind).await.initial(json!({"a": 1, "b": 2, "text": "text ".repeat(50)})),
        )
        .await;
        let (mut ada, mut bob) =
            (Page::open(kind, &server, "/any/a").await, Page::open(kind, &server, "/any/a").await);
        ada.whole().await;
        bob.whole().await;
        ada.commit("a1", 0, &set("/a", "ada")).await;
        ada.receive().await;
        bob.commit("b1", 0, &set("/b", "bob")).await;
        assert_eq!(
            bob.receive().await,
            json!({"version": 1, "delta": set("/a", "ada")}),
            "first what came first"
        );
        assert_eq!(bob.receive().await, json!({"id": "b1", "version": 2}));
        let delta = json!([{"op": "add", "path": "/new", "value": 1}, {"op": "replace", "path": "/a", "value": "bob"}]);
        bob.commit("b2", 0, &delta).await;
        let refusal = bob.receive().await;
        assert_eq!(refusal["error"], "conflict", "{refusal}");
        assert_eq!(refusal["conflicts"], json!([{"path": "/a", "yours": "bob", "theirs": "ada"}]));
        let test = json!([{"op": "test", "path": "/b", "value": 2}, {"op": "remove", "path": "/b"}]);
        bob.commit("b3", 2, &test).await;
        let refusal = bob.receive().await;
        assert_eq!(refusal["conflicts"], json!([{"path": "/b", "yours": 2, "theirs": "bob"}]), "{refusal}");
        let mut late = Page::open(kind, &server, "/any/a").await;
        let data = late.whole().await.2;
        assert_eq!(data["a"], "ada");
        assert_eq!(data["b"], "bob");
        assert!(data["new"].is_null(), "all or nothing");
    }
}

/// A hundred operations on one place had an answer with that place a hundred times.
#[tokio::test]
async fn an_answer_shows_only_so_much_of_what_is_in_conflict() {
    for (backend, kind) in cases(&backends().await) {
        let documents = documents(backend, kind).await.initial(json!({"big": "", "small": 0}));
        let server = start(documents).await;
        let mut page = Page::open(kind, &server, "/any/a").await;
        page.whole().await;
        let big = json!("x".repeat(40_000));
        page.commit("a1", 0, &json!([{"op": "replace", "path": "/big", "value": big}])).await;
        page.answer().await;
        let replace = json!({"op": "replace", "path": "/big", "value": 1});
        page.commit("a2", 0, &json!(vec![replace; 100])).await;
        let conflicts = page.answer().await["conflicts"].take();
        let conflicts = conflicts.as_array().expect("conflicts");
        assert_eq!(conflicts[0], json!({"path": "/big", "yours": 1, "theirs": big}));
        assert_eq!(conflicts[99], json!({"path": "/big"}));
        assert_eq!(conflicts.iter().filter(|conflict| conflict["theirs"] == big).count(), 1);
    }
}

#[tokio::test]
async fn a_page_that_comes_back_gets_what_it_missed_or_the_whole_where_that_is_shorter() {
    for (backend, kind) in cases(&backends().await) {
        let long = "long ".repeat(100);
        let server = start(documents(backend, kind).await.initial(json!({"text": long}))).await;
        let mut page = Page::open(kind, &server, "/any/a").await;
        let (document, ..) = page.whole().await;
        for n in 0..3 {
            page.commit(&format!("c{n}"), n, &set("/n", n)).await;
            page.receive().await;
        }
        let back = |since| format!("/any/a?document={document}&since={since}");
        let greeting = Page::open(kind, &server, &back(1)).await.receive().await;
        let two = [set("/n", 1)[0].clone(), set("/n", 2)[0].clone()];
        assert_eq!(greeting, json!({"document": document, "version": 3, "delta": two}));
        let greeting = Page::open(kind, &server, &back(3)).await.receive().await;
        assert_eq!(greeting, json!({"document": document, "version": 3, "delta": []}));
        for path in ["/any/a?document=other&since=1", "/any/a?since=1", &back(4), &back(u64::MAX)] {
            let (_, version, data) = Page::open(kind, &server, path).await.whole().await;
            assert_eq!((version, &data["n"]), (3, &json!(2)), "{path}");
        }
        page.commit("short", 3, &set("/text", "")).await;
        page.receive().await;
        let greeting = Page::open(kind, &server, &back(0)).await.receive().await;
        assert_eq!(greeting["data"], json!({"n": 2, "text": ""}), "shorter than the way there");
    }
}

#[tokio::test]
async fn a_commit_that_is_sent_again_is_applied_once() {
    for (backend, kind) in cases(&backends().await) {
        let server = start(documents(backend, kind).await).await;
        let mut page = Page::open(kind, &server, "/any/a").await;
        page.whole().await;
        page.commit("same", 0, &set("/list", json!([1]))).await;
        page.receive().await;
        page.commit("other", 1, &set("/list/-", 2)).await;
        page.receive().await;
        let mut again = Page::open(kind, &server, "/any/a").await;
        again.whole().await;
        again.commit("same", 0, &set("/list", json!([1]))).await;
        assert_eq!(again.receive().await, json!({"id": "same", "version": 1}));
        let mut late = Page::open(kind, &server, "/any/a").await;
        assert_eq!(late.whole().await.2, json!({"list": [1, 2]}));
    }
}

#[tokio::test]
async fn any_key_is_data() {
    for (backend, kind) in cases(&backends().await) {
        let server = start(documents(backend, kind).await).await;
        let mut page = Page::open(kind, &server, "/any/a").await;
        page.whole().await;
        let keys = ["__proto__", "constructor", "prototype", "a/b", "~", "~1", "", "0", "-", "ключ", "\u{0}"];
        for (version, key) in keys.iter().enumerate() {
            let path = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
            page.commit(&format!("c{version}"), version as u64, &set(&path, json!({"__proto__": key}))).await;
            assert_eq!(page.receive().await["version"], version + 1, "{key}");
        }
        let mut late = Page::open(kind, &server, "/any/a").await;
        let data = late.whole().await.2;
        for key in keys {
            assert_eq!(data[key]["__proto__"], key);
        }
    }
}

#[derive(Deserialize)]
struct Sheet {
    cells: std::collections::BTreeMap<String, f64>,
}

#[tokio::test]
async fn what_the_hooks_and_limits_refuse_changes_nothing() {
    for (backend, kind) in cases(&backends().await) {
        let documents = documents(backend, kind)
            .await
            .initial(json!({"cells": {}}))
            .validate(|sheet: Sheet| match sheet.cells.values().find(|value| **value < 0.0) {
                Some(value) => Err(format!("{value} is below zero")),
                None => Ok(()),
            })
            .validate(|value: Value| {
                assert!(value["cells"]["panic"].is_null(), "as asked");
                Ok::<_, String>(())
            })
            .max_document(2000)
            .max_documents(2)
            .max_commit(4000);
        let server = start(documents).await;
        let mut page = Page::open(kind, &server, "/any/a").await;
        page.whole().await;
        let nested = "/a".repeat(101);
        for (delta, error, reason) in [
            (set("/cells/a", -1.5), "refused", "-1.5 is below zero"),
            (set("/cells/a", "text"), "refused", "invalid type: string"),
            (set("/cells/panic", 1), "refused", "could not be validated"),
            (set("", Value::Null), "refused", "invalid type"),
            (set("/more", "x".repeat(2000)), "too-large", "may have 2000"),
            (set(&nested, 1), "too-large", "deep"),
            (set("/missing/a", 1), "invalid", "path is invalid"),
            (json!([]), "invalid", "empty"),
            (json!({"op": "add"}), "invalid", "RFC 6902"),
            (json!([{"op": "hop", "path": "/a"}]), "invalid", "hop"),
            (json!([{"op": "add", "path": "a", "value": 1}]), "invalid", "RFC 6902"),
        ] {
            page.commit("c", 0, &delta).await;
            let refusal = page.receive().await;
            assert_eq!(
                (&refusal["id"], &refusal["error"]),
                (&json!("c"), &json!(error)),
                "{delta} {refusal}"
            );
            let message = refusal["message"].as_str().expect("a message");
            assert!(message.contains(reason), "{message}");
        }
        page.commit("c", 7, &set("/cells/a", 1)).await;
        assert_eq!(page.receive().await["error"], "invalid", "a base to come");
        page.commit("fine", 0, &set("/cells/a", 1)).await;
        assert_eq!(page.receive().await, json!({"id": "fine", "version": 1}));
        for (name, expected) in [("b", json!({"id": "c", "version": 1})), ("c", json!("too-many"))] {
            let mut other = Page::open(kind, &server, &format!("/any/{name}")).await;
            other.whole().await;
            other.commit("c", 0, &set("/cells/a", 1)).await;
            let answer = other.receive().await;
            assert!(answer == expected || answer["error"] == expected, "{name}: {answer}");
        }
    }
}

#[tokio::test]
async fn some_may_only_read_and_some_may_make_no_documents() {
    for (backend, kind) in cases(&backends().await) {
        let server = start(documents(backend, kind).await).await;
        for path in ["/read/a", "/existing/a"] {
            assert_eq!(Socket::open(kind, &server, path, "", "").await.err(), Some(404), "{path}");
        }
        let mut page = Page::open(kind, &server, "/any/a").await;
        page.whole().await;
        page.commit("c", 0, &set("/a", 1)).await;
        page.receive().await;
        let mut reader = Page::open(kind, &server, "/read/a").await;
        assert_eq!(reader.whole().await.2, json!({"a": 1}));
        reader.commit("r", 1, &set("/a", 2)).await;
        assert_eq!(reader.receive().await["error"], "read-only");
        let mut existing = Page::open(kind, &server, "/existing/a").await;
        existing.whole().await;
        existing.commit("e", 1, &set("/a", 3)).await;
        assert_eq!(existing.receive().await, json!({"id": "e", "version": 2}));
    }
}

#[tokio::test]
async fn messages_that_are_no_commits_end_their_socket_and_tell_why() {
    for (backend, kind) in cases(&backends().await) {
        let server = start(documents(backend, kind).await.max_commit(1000)).await;
        let mut other = Page::open(kind, &server, "/any/a").await;
        other.whole().await;
        for (message, code) in [
            (Message::text("hello"), 1008),
            (Message::text("[1,2]"), 1008),
            // Its fields in their order.
            (Message::text(r#"["c",0,[{"op":"add","path":"/a","value":1}]]"#), 1008),
            (Message::text(r#"["c"]"#), 1008),
            (Message::text(r#"{"base":0,"delta":[]}"#), 1008),
            (Message::text(r#"{"id":"","base":0,"delta":[]}"#), 1008),
            (Message::binary(vec![1, 2]), 1003),
        ] {
            let mut page = Page::open(kind, &server, "/any/a").await;
            page.whole().await;
            page.0.send(message).await;
            let Received::Close(Some(closed), reason) = page.0.receive().await else { panic!("not closed") };
            assert_eq!(closed, code, "{reason}");
            assert!(reason.contains("commit"), "{reason}");
        }
        for message in [
            r#"{"id":"c","delta":[]}"#,
            r#"{"id":"c","base":-1,"delta":[]}"#,
            r#"{"id":"c","base":0,"delta":[],"x":1}"#,
            r#"{"id":"c","base":0,"delta":[["add","/a",1]]}"#,
            r#"{"id":"c","base":0,"delta":[["add",{"path":"/a","value":1}]]}"#,
            r#"{"id":"c","base":0,"delta":{"op":"add","path":"/a","value":1}}"#,
        ] {
            other.0.send(Message::text(message)).await;
            assert_eq!(other.receive().await["error"], "invalid", "{message}");
        }
        other.commit("c", 0, &set("/a", 1)).await;
        assert_eq!(other.receive().await, json!({"id": "c", "version": 1}), "nobody else noticed");
    }
}

#[tokio::test]
async fn a_test_compares_numbers_by_what_they_amount_to() {
    for (backend, kind) in cases(&backends().await) {
        let initial = json!({"a": {"list": [1, 1.0, 9_007_199_254_740_993_u64, u64::MAX, -0.0]}});
        let server = start(documents(backend, kind).await.initial(initial)).await;
        let mut page = Page::open(kind, &server, "/any/a").await;
        page.whole().await;
        let mut version = 0;
        for (path, value, passes) in [
            ("/a/list/0", "1.0", true),
            ("/a/list/0", "1e0", true),
            ("/a/list/1", "1", true),
            ("/a/list/4", "0", true),
            ("/a/list/2", "9007199254740993", true),
            ("/a/list/2", "9007199254740992", false),
            ("/a/list/3", "18446744073709551615", true),
            ("/a/list/3", "18446744073709551616", false),
            ("/a", r#"{"list":[1e0,1,9007199254740993,18446744073709551615,0]}"#, true),
            ("/a", r#"{"list":[1e0,1,9007199254740993,18446744073709551615,1]}"#, false),
            ("/none", "null", false),
        ] {
            let test = format!(
                r#"{{"id":"{version}{path}{}","base":{version},"delta":[{{"op":"test","path":"{path}","value":{value}}},
                   {{"op":"add","path":"/n","value":{version}}}]}}"#,
                value.replace('"', "'")
            );
            page.0.send(Message::text(test)).await;
            let answer = page.receive().await;
            match passes {
                true => {
                    version += 1;
                    assert_eq!(answer["version"], version, "{kind:?} {path} {value}: {answer}");
                }
                false => assert_eq!(answer["error"], "conflict", "{kind:?} {path} {value}: {answer}"),
            }
        }
    }
}

/// The numbers of a document in the text that a page gets: as it wrote them, or as `JSON.parse` reads them.
#[tokio::test]
async fn numbers_come_out_as_they_came_in() {
    for (backend, kind) in cases(&backends().await) {
        let server = start(documents(backend, kind).await).await;
        let mut page = Page::open(kind, &server, "/any/a").await;
        page.whole().await;
        let numbers = "[0.9999999999999999,117.63331139400017,1.5777777777770001,0.09144338512092887,5e-324,\
                       1.7976931348623157e308,9007199254740993,18446744073709551615,-9223372036854775808,1.0,-0.0]";
        let commit =
            format!(r#"{{"id":"a","base":0,"delta":[{{"op":"add","path":"/n","value":{numbers}}}]}}"#);
        page.0.send(Message::text(commit)).await;
        assert_eq!(page.receive().await["version"], 1);
        let mut late = Page::open(kind, &server, "/any/a").await;
        let Received::Message(Message::Text(text)) = late.0.receive().await else { panic!("no document") };
        let text = String::from_utf8(text.to_vec()).expect("UTF-8");
        let expected = numbers.replace("1.7976931348623157e308", "1.7976931348623157e+308");
        assert!(text.ends_with(&format!(r#""data":{{"n":{expected}}}}}"#)), "{kind:?}: {text}");
    }
}

/// As a WebSocket does with text: half a surrogate pair, which JSON can hide in an escape, becomes U+FFFD.
#[tokio::test]
async fn halves_of_surrogate_pairs_are_replaced_and_a_refusal_names_its_operation() {
    for (backend, kind) in cases(&backends().await) {
        let server = start(documents(backend, kind).await).await;
        let (mut page, mut other) =
            (Page::open(kind, &server, "/any/a").await, Page::open(kind, &server, "/any/a").await);
        page.whole().await;
        other.whole().await;
        let text = r#"{"id":"a","base":0,"delta":[{"op":"add","path":"/\ud83d","value":["\uDE00x","\ud83d\ude00"]}]}"#;
        page.0.send(Message::text(text)).await;
        assert_eq!(page.receive().await, json!({"id": "a", "version": 1}), "{kind:?}");
        let value = json!({"\u{fffd}": ["\u{fffd}x", "\u{1f600}"]});
        let message = other.receive().await;
        let delta = json!([{"op": "add", "path": "/\u{fffd}", "value": value["\u{fffd}"]}]);
        assert!(message["delta"] == delta || message["data"] == value, "{kind:?}: {message}");

        let deep = format!("{}1{}", "[".repeat(101), "]".repeat(101));
        for (operation, path, error) in [
            (r#"{"op":"remove","path":"/none"}"#.to_owned(), "/none", "invalid"),
            (r#"{"op":"add","path":"/x~1y"}"#.to_owned(), "/x~1y", "invalid"),
            (format!(r#"{{"op":"add","path":"/deep","value":{deep}}}"#), "/deep", "too-large"),
        ] {
            let good = r#"{"op":"add","path":"/good","value":1}"#;
            let commit = format!(r#"{{"id":"{path}","base":1,"delta":[{good},{operation},{good}]}}"#);
            page.0.send(Message::text(commit)).await;
            let answer = page.receive().await;
            assert_eq!(
                (&answer["path"], &answer["error"]),
                (&json!(path), &json!(error)),
                "{kind:?}: {answer}"
            );
        }
    }
}

/// `serde_json` with `arbitrary_precision` breaks types of the application that are tagged, flattened or untagged.
#[tokio::test]
async fn a_validated_type_may_be_tagged_and_flattened() {
    #[derive(Deserialize)]
    #[serde(tag = "kind", rename_all = "lowercase")]
    enum Shape {
        Circle { radius: f64 },
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(f64),
        Text(String),
    }
    #[derive(Deserialize)]
    struct Common {
        count: u32,
    }
    #[derive(Deserialize)]
    struct Sheet {
        #[serde(flatten)]
        common: Common,
        shape: Shape,
        either: Vec<Either>,
    }
    let documents = Documents::new(&Store::in_memory().expect("a store"), "test");
    let documents = documents.validate(|Sheet { common, shape: Shape::Circle { radius }, either }: Sheet| {
        let sum: f64 = either
            .iter()
            .map(|either| match either {
                Either::Number(number) => *number,
                Either::Text(text) => text.parse().unwrap_or_default(),
            })
            .sum();
        if sum == radius * f64::from(common.count) { Ok(()) } else { Err("another sum") }
    });
    let server = start(documents).await;
    let mut page = Page::open(Kind::Virtual, &server, "/any/a").await;
    page.whole().await;
    let sheet = json!({"count": 2, "shape": {"kind": "circle", "radius": 1.25}, "either": [1, "0.5", 1.0]});
    page.commit("a", 0, &json!([{"op": "add", "path": "", "value": sheet}])).await;
    assert_eq!(page.receive().await, json!({"id": "a", "version": 1}));
}

/// Returns the response of plain HTTP for a path, until it ends or contains `until`.
async fn fetch(server: &Server, path: &str, headers: &str, until: &str) -> String {
    let mut wire = TcpStream::connect(server.address).await.expect("a connection");
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}\r\n", server.address);
    wire.write_all(request.as_bytes()).await.expect("sent");
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains(until) {
        match wire.read(&mut buffer).await.expect("an answer") {
            0 => break,
            count => text.push_str(&String::from_utf8_lossy(&buffer[..count])),
        }
    }
    text
}

#[tokio::test]
async fn documents_are_listed_and_their_changes_are_events_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("state.redb");
    let mut stores = vec![Store::in_memory(), Store::open(&file)];
    let nats = NatsServer::start().await;
    if let Some(nats) = &nats {
        stores.push(Store::nats(&nats.connect().await, "documents").await);
    }
    for (round, store) in stores.into_iter().enumerate() {
        let store = store.expect("a store");
        let other = Documents::new(&store, "other");
        let site = Site::new().endpoint("/other/{name}", other.endpoint()).endpoint(
            "/docs/{name}",
            Documents::new(&store, "test").initial(json!({"a": [1, 2, 3, 4, 5]})).endpoint(),
        );
        let server = Server::start(site.into_router()).await;
        let mut index = Page::open(Kind::Native, &server, "/docs/").await;
        assert_eq!(index.receive().await, json!([]), "reading creates no document");
        let mut page = Page::open(Kind::Virtual, &server, "/docs/one%20more").await;
        let (document, ..) = page.whole().await;
        page.commit("c1", 0, &set("/a/-", round)).await;
        page.receive().await;
        assert_eq!(index.receive().await, json!({"added": ["one%20more"], "removed": []}));
        let get = "accept: text/event-stream\r\n";
        let (text, ()) = tokio::join!(fetch(&server, "/docs/one%20more", get, ":2\n"), async {
            page.commit("c2", 1, &set("/a/-", 0)).await;
            page.receive().await;
        });
        assert!(text.contains(&format!("id: {document}:2\n")), "{text}");
        let again = format!("{get}last-event-id: {document}:1\r\n");
        let text = fetch(&server, "/docs/one%20more", &again, "}\n").await;
        assert!(!text.contains("\"data\""), "only the missing commits: {text}");
    }
}

/// A writer over a virtual socket, which has one commit to make.
struct Writer {
    channel: u32,
    number: usize,
    version: u64,
    /// The value of the counter that it knows.
    shared: u64,
    in_flight: Option<Value>,
    acknowledged: Option<(u64, Value)>,
}

impl Writer {
    /// Commits to its own key and, one writer in twenty, to a counter that those share.
    fn delta(&self) -> Value {
        let mut delta = set(&format!("/writers/{}", self.number), self.version);
        if self.number.is_multiple_of(20)
            && let Some(operations) = delta.as_array_mut()
        {
            operations.push(json!({"op": "replace", "path": "/shared", "value": self.shared + 1}));
        }
        delta
    }
}

/// Lets the fifty writers of a link commit; returns the acknowledged commits, by version.
async fn write(server: Arc<Server>, link: usize, conflicts: Arc<AtomicUsize>) -> Vec<(u64, Value)> {
    let first = link * 50;
    let mut link = Link::dial(&server).await;
    let mut writers: Vec<Writer> = (first..first + 50)
        .map(|number| Writer {
            channel: link.endpoint.open("/any/a", "").expect("below the limit"),
            number,
            version: 0,
            shared: 0,
            in_flight: None,
            acknowledged: None,
        })
        .collect();
    while writers.iter().any(|writer| writer.acknowledged.is_none()) {
        let (channel, message) = match link.event().await.expect("the link lives") {
            Event::Message { channel, message } => (channel, message),
            Event::Accepted { .. } | Event::Drained { .. } => continue,
            other => panic!("{other:?}"),
        };
        link.endpoint.consumed(channel, 1, message.units());
        let Message::Text(text) = message else { panic!("not text") };
        let message: Value = serde_json::from_slice(&text).expect("JSON");
        let writer = writers.iter_mut().find(|writer| writer.channel == channel).expect("a writer");
        if message["id"].is_string() {
            let delta = writer.in_flight.take().expect("an answer to a commit");
            match message["version"].as_u64() {
                Some(version) => writer.acknowledged = Some((version, delta)),
                None => {
                    assert_eq!(message["error"], "conflict");
                    conflicts.fetch_add(1, Ordering::Relaxed);
                }
            }
        } else {
            writer.version = message["version"].as_u64().expect("a version");
            let operations = message["delta"].as_array().into_iter().flatten();
            let values = operations.filter(|operation| operation["path"] == "/shared");
            let newest = values.map(|operation| &operation["value"]).next_back();
            if let Some(shared) = newest.unwrap_or(&message["data"]["shared"]).as_u64() {
                writer.shared = shared;
            }
        }
        if writer.in_flight.is_none() && writer.acknowledged.is_none() {
            let delta = writer.delta();
            let id = format!("{}.{}", writer.number, writer.version);
            let commit = json!({"id": id, "base": writer.version, "delta": delta});
            writer.in_flight = Some(delta);
            assert!(link.endpoint.send(channel, Message::text(commit.to_string())));
        }
    }
    writers.into_iter().filter_map(|writer| writer.acknowledged).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_concurrent_writers_over_twenty_links_lose_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    write_all(Store::open(folder.path().join("state.redb")).expect("a store")).await;
    if let Some(nats) = NatsServer::start().await {
        write_all(Store::nats(&nats.connect().await, "documents").await.expect("a store")).await;
    }
}

async fn write_all(store: Store) {
    let initial = json!({"writers": {}, "shared": 0});
    let server = Arc::new(start(Documents::new(&store, "test").initial(initial.clone())).await);
    let conflicts = Arc::new(AtomicUsize::new(0));
    let links: Vec<_> =
        (0..20).map(|link| tokio::spawn(write(Arc::clone(&server), link, Arc::clone(&conflicts)))).collect();
    let mut acknowledged = Vec::new();
    for link in links {
        acknowledged.extend(link.await.expect("a link"));
    }
    acknowledged.sort_by_key(|(version, _)| *version);
    assert_eq!(acknowledged.len(), 1000);
    let mut expected = initial;
    for (at, (version, delta)) in acknowledged.iter().enumerate() {
        assert_eq!(*version, at as u64 + 1, "each commit made one version");
        let delta: json_patch::Patch = serde_json::from_value(delta.clone()).expect("a delta");
        json_patch::patch(&mut expected, &delta).expect("applies");
    }
    let (_, version, data) = Page::open(Kind::Native, &server, "/any/a").await.whole().await;
    assert_eq!(version, 1000);
    assert_eq!(data, expected);
    assert_eq!(data["shared"], 50, "no update of the counter was lost");
    assert!(conflicts.load(Ordering::Relaxed) > 0, "they did contend");
}

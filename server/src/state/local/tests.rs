//! Tests which commits delay which others. A hook blocks the thread, or the lane, while commits queue up behind it.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::state::commit::{Check, Commit, Rules, Step};
use crate::state::memory::Memory;
use crate::state::submission::{Reached, Reply};

/// A link that floods, and another link.
const FLOOD: u64 = 1;
const OTHER: u64 = 2;

/// Returns a hook that reports its first call, and then blocks until it is released.
fn gate() -> (Arc<Check>, Receiver<()>, Sender<()>) {
    let ((called, is_called), (open, opened)) = (channel(), channel());
    let once = Mutex::new(Some((called, opened)));
    let check = move |_: &Step<'_>| {
        let first = once.lock().unwrap().take();
        if let Some((called, opened)) = first {
            called.send(()).unwrap();
            let _: Result<(), _> = opened.recv();
        }
        Ok(())
    };
    (Arc::new(check), is_called, open)
}

struct World {
    local: Local,
    rules: Rules,
}

impl World {
    fn new(check: Option<Arc<Check>>) -> Self {
        let tools = Tools::new().unwrap();
        let rules = Rules {
            checks: check.into_iter().collect(),
            max_bytes: 1 << 20,
            max_documents: 100,
            hooks: Vec::new(),
        };
        Self { local: Local::in_memory(tools).unwrap(), rules }
    }

    async fn open(&self, key: &str) -> Arc<Document> {
        let initial = Arc::new(serde_json::from_str("[]").unwrap());
        let wanted = Wanted { key: key.into(), initial, must_exist: false, peer: OTHER };
        self.local.document(wanted).await.unwrap().unwrap()
    }

    /// Commits an element, and returns the receiver for the answer.
    fn append(&self, peer: u64, document: &Arc<Document>, element: &Value) -> UnboundedReceiver<Reached> {
        let delta = json!([{"op": "add", "path": "/-", "value": element}]);
        let id = getrandom::u64().unwrap().to_string();
        let commit = Commit::read(&json!({"id": id, "base": 0, "delta": delta}).to_string()).unwrap();
        let (answers, answer) = unbounded_channel();
        let reply = Reply::new(&commit, answers, None, None);
        let (document, rules) = (Arc::clone(document), self.rules.clone());
        self.local.submit(Submission { peer, document, commit, rules, reply });
        answer
    }
}

async fn version(mut answer: UnboundedReceiver<Reached>) -> u64 {
    answer.recv().await.unwrap().answer.unwrap().version().expect("it is accepted")
}

#[tokio::test]
async fn a_link_that_floods_a_document_does_not_keep_others_waiting() {
    let (check, is_called, open) = gate();
    let world = World::new(Some(check));
    let document = world.open("a").await;
    let first = world.append(FLOOD, &document, &json!(0));
    is_called.recv().unwrap();
    let flood: Vec<_> = (1..200).map(|n| world.append(FLOOD, &document, &json!(n))).collect();
    let other = world.append(OTHER, &document, &json!("other"));
    open.send(()).unwrap();
    assert_eq!(version(first).await, 1);
    // One commit of the flood may have its turn earlier.
    assert!(version(other).await <= 3);
    for (at, answer) in flood.into_iter().enumerate() {
        assert!(version(answer).await >= at as u64 + 2, "in their order");
    }
}

#[tokio::test]
async fn large_commits_do_not_delay_other_documents_and_take_turns_with_others_on_theirs() {
    let (check, is_called, open) = gate();
    let world = World::new(Some(check));
    let (document, elsewhere) = (world.open("a").await, world.open("b").await);
    let large = json!("x".repeat(LIGHT));
    let first = world.append(FLOOD, &document, &large);
    is_called.recv().unwrap();
    let flood: Vec<_> = (0..20).map(|_| world.append(FLOOD, &document, &large)).collect();
    let other = world.append(OTHER, &document, &json!("other"));
    // The first large commit is still in the lane.
    assert_eq!(version(world.append(OTHER, &elsewhere, &json!("other"))).await, 1);
    open.send(()).unwrap();
    assert_eq!(version(first).await, 1);
    assert!(version(other).await <= 3);
    for answer in flood {
        version(answer).await;
    }
    // The document is no longer busy.
    assert_eq!(version(world.append(OTHER, &document, &json!("more"))).await, 23);
}

#[tokio::test]
async fn reading_a_large_document_delays_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let rules = Rules { checks: Vec::new(), max_bytes: 1 << 20, max_documents: 100, hooks: Vec::new() };
    let local = Local::on_disk(&path, Tools::new().unwrap()).unwrap();
    let world = World { local, rules: rules.clone() };
    let large = json!("x".repeat(2 * LIGHT));
    version(world.append(FLOOD, &world.open("large").await, &large)).await;
    drop(world);
    // The thread of the previous store closes the file.
    let tools = Tools::new().unwrap();
    let local = loop {
        match Local::on_disk(&path, tools.clone()) {
            Ok(local) => break local,
            Err(_) => thread::yield_now(),
        }
    };
    let world = World { local, rules };
    let (open, opened) = channel::<()>();
    tools.lane.push(SERVER, move || {
        let _: Result<(), _> = opened.recv();
    });
    let mut reading = Box::pin(world.open("large"));
    assert!(futures_util::poll!(&mut reading).is_pending());
    // This document is requested later, and served while the large one still waits.
    version(world.append(OTHER, &world.open("small").await, &json!(1))).await;
    assert!(futures_util::poll!(&mut reading).is_pending());
    open.send(()).unwrap();
    assert_eq!(reading.await.current().0, 1);
}

#[tokio::test]
async fn a_place_is_kept_for_a_new_document_whose_commit_is_large() {
    let (check, is_called, open) = gate();
    let mut world = World::new(Some(check));
    world.rules.max_documents = 1;
    let (one, two) = (world.open("a").await, world.open("b").await);
    let large = json!("x".repeat(LIGHT));
    let first = world.append(FLOOD, &one, &large);
    is_called.recv().unwrap();
    let mut second = world.append(OTHER, &two, &json!(1));
    let refusal = second.recv().await.unwrap().answer.unwrap();
    assert_eq!(refusal.version(), None);
    open.send(()).unwrap();
    assert_eq!(version(first).await, 1);
    assert_eq!(version(world.append(FLOOD, &one, &large)).await, 2);
    assert!(world.append(OTHER, &two, &json!(1)).recv().await.unwrap().answer.unwrap().version().is_none());
}

#[test]
fn commits_forgotten_for_memory_are_deleted_from_disk_in_parts() {
    let memory = Memory::default();
    let document = Arc::new(Document::new("a".into(), State::new("i".into(), 0, json_null()), &memory));
    let mut loaded = Loaded::unwritten(Arc::clone(&document));
    let rules = Rules { checks: Vec::new(), max_bytes: 100, max_documents: 1, hooks: Vec::new() };
    for version in 0..1000 {
        let (answers, _) = unbounded_channel();
        let text = json!({"id": version.to_string(), "base": version, "delta": [{"op": "add", "path": "", "value": version}]});
        let commit = Commit::read(&text.to_string()).unwrap();
        let reply = Reply::new(&commit, answers, None, None);
        let mut batch = Batch::new(&document);
        let (document, rules) = (Arc::clone(&document), rules.clone());
        batch.add(Submission { peer: 1, document, commit, rules, reply });
        loaded.wrote(&batch, Wrote { is_whole: true, forgotten: None });
        batch.publish();
    }
    assert_eq!(loaded.forgettable(), None, "all are remembered");
    document.state().give_up(0);
    let mut forgotten = 0;
    while let Some((first, last)) = loaded.forgettable() {
        assert_eq!(first, forgotten + 1);
        assert!(last - first < 256);
        forgotten = last;
        let batch = Batch::new(&document);
        loaded.wrote(&batch, Wrote { is_whole: false, forgotten: Some((first, last)) });
    }
    assert_eq!(forgotten, 1000);
}

fn json_null() -> crate::state::tree::Json {
    crate::state::tree::Json::Null
}

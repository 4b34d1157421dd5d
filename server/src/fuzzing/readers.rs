//! Properties of an index, for any order in which names change and readers arrive, read and leave.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;
use tokio::task::yield_now;

use super::site::RUNTIME;
use crate::site::listing::Listing;
use crate::site::route_tree::Node;
use crate::site::view::{Bounds, Message, Reader, View};

/// Small bounds, so that short inputs reach them.
const BOUNDS: Bounds = Bounds { interval: Duration::ZERO, long: 256, news: (512, 4) };

/// The names to list: short and long ones, one that needs encoding, and one that is a route, too.
const NAMES: [&str; 8] =
    ["a", "b", "c/d", "é", "fixed", "g\"", "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh", "i"];

/// The maximum numbers of readers and of steps in one input: more take longer without new behaviour.
const MOST: (usize, usize) = (6, 400);

/// Runs one step for each byte, which selects an action and its name or reader.
pub fn readers(input: &[u8]) {
    RUNTIME.block_on(run(&input[..input.len().min(MOST.1)]));
}

async fn run(steps: &[u8]) {
    let listing = Listing::new();
    let mut tree = Node::default();
    tree.insert("/fixed");
    tree.insert("/{name}/below");
    tree.list("/{name}", listing.clone());
    let view = View::bounded(tree.entries("/"), BOUNDS);
    let (mut readers, mut lists) = (Vec::new(), Vec::new());
    for step in steps {
        let which = usize::from(step / 8);
        match step % 8 {
            0 | 1 => drop(listing.insert(NAMES[which % NAMES.len()])),
            2 | 3 => drop(listing.remove(NAMES[which % NAMES.len()])),
            4 if readers.len() < MOST.0 => {
                readers.push(Follower { reader: view.follow().await.expect("room"), seen: None });
            }
            4 if !readers.is_empty() => drop(readers.swap_remove(which % readers.len())),
            5 if !readers.is_empty() => {
                let reader = which % readers.len();
                readers[reader].read();
            }
            6 => {
                let list = view.list().await.expect("room");
                let is_short = list.event.len() <= BOUNDS.long;
                let shown = set(&serde_json::from_str(&list.text).expect("JSON"));
                assert!(!is_short || shown == entries(&listing), "{shown:?}");
                let html = view.html().await.expect("room");
                assert_eq!(html.windows(3).filter(|window| window == b"<li").count(), shown.len());
                lists.push((list, html));
            }
            // Let the task that makes news run.
            _ => {
                for _ in 0..4 {
                    yield_now().await;
                }
            }
        }
    }
    // At the end every reader sees the current names.
    for _ in 0..8 {
        yield_now().await;
    }
    for follower in &mut readers {
        while follower.read() {}
        assert_eq!(follower.seen.as_ref(), Some(&entries(&listing)));
    }
    drop((readers, lists));
    for _ in 0..4 {
        yield_now().await;
    }
    let (live, held) = view.held().await;
    assert_eq!(live, held, "bytes without a holder are not counted");
    assert_eq!(Arc::strong_count(&view), 1, "the task that makes news has ended");
}

/// Returns the entries that the index must list.
fn entries(listing: &Listing) -> BTreeSet<String> {
    let encode = |name: &str| name.replace('/', "%2F").replace('"', "%22").replace('é', "%C3%A9");
    let names = listing.snapshot();
    let entries = names.iter().flat_map(|name| [encode(name), format!("{}/", encode(name))]);
    entries.chain(["fixed".to_owned()]).collect()
}

fn set(names: &Value) -> BTreeSet<String> {
    let names = names.as_array().expect("an array");
    let sorted: Vec<_> = names.iter().map(|name| name.as_str().expect("a string").to_owned()).collect();
    assert!(sorted.is_sorted(), "{sorted:?}");
    sorted.into_iter().collect()
}

struct Follower {
    reader: Reader,
    seen: Option<BTreeSet<String>>,
}

impl Follower {
    /// Reads one message, and returns whether there was one.
    fn read(&mut self) -> bool {
        let Some(Message { event, text }) = self.reader.next().now_or_never() else { return false };
        assert_eq!(event, format!("data: {text}\n\n"));
        let message: Value = serde_json::from_str(&text).expect("JSON");
        match (&message, &mut self.seen) {
            (Value::Array(_), seen) => *seen = Some(set(&message)),
            (news, Some(seen)) => {
                for name in set(&news["removed"]) {
                    assert!(seen.remove(&name), "{name} was not there");
                }
                for name in set(&news["added"]) {
                    assert!(seen.insert(name.clone()), "{name} was there");
                }
            }
            (news, None) => panic!("news before the list: {news}"),
        }
        true
    }
}

//! Replays `tests/vectors/state.json`, as the client of pages does.

use json_patch::jsonptr::Pointer;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot::Receiver;

use super::diff::diff;
use super::error::{Conflict, StateError};
use super::merge::merge;
use super::messages::Outgoing;
use super::patch::patched;
use super::replica::{Replica, Settled};
use super::tree::is_same;

fn vectors(part: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/state.json");
    let text = std::fs::read_to_string(path).expect("the vectors");
    let mut all: Value = serde_json::from_str(&text).expect("JSON");
    let Value::Array(vectors) = all[part].take() else { panic!("no {part}") };
    assert!(!vectors.is_empty());
    vectors
}

fn assert_same(found: &Value, expected: &Value, about: &impl std::fmt::Display) {
    assert!(is_same(found, expected), "{about}\n  found    {found}\n  expected {expected}");
}

#[test]
fn deltas_are_those_of_the_vectors() {
    for vector in vectors("diffs") {
        let delta = diff(&vector["from"], &vector["to"], Pointer::root());
        assert_same(&json!(delta), &vector["delta"], &vector);
        let result = patched(&vector["from"], &delta).expect("a delta that fits");
        assert_same(&result, &vector["to"], &vector);
    }
}

fn shown(conflicts: &[Conflict]) -> Value {
    let show = |Conflict { path, mine, theirs }: &Conflict| {
        let mut shown = Map::from_iter([("path".into(), json!(path))]);
        shown.extend(mine.clone().map(|mine| ("mine".into(), mine)));
        shown.extend(theirs.clone().map(|theirs| ("theirs".into(), theirs)));
        Value::Object(shown)
    };
    conflicts.iter().map(show).collect()
}

#[test]
fn merges_are_those_of_the_vectors() {
    for vector in vectors("merges") {
        let mut conflicts = Vec::new();
        let (ancestor, mine, theirs) = (&vector["ancestor"], &vector["mine"], &vector["theirs"]);
        let merged = merge(Some(ancestor), Some(mine), Some(theirs), &mut conflicts, Pointer::root());
        assert_same(&json!(merged), &vector["merged"], &vector);
        assert_same(&shown(&conflicts), &vector["conflicts"], &vector);
    }
}

fn result_of(settled: Settled) -> Value {
    match settled {
        Ok(version) => json!(version),
        Err(StateError::Conflict(conflicts)) => {
            json!({ "error": "conflict", "conflicts": shown(&conflicts) })
        }
        Err(StateError::Withheld { code, paths, .. }) => json!({ "error": code, "paths": paths }),
        Err(StateError::Refused { code, retry_after: Some(after), .. }) => {
            json!({ "error": code, "retryAfter": u64::try_from(after.as_millis()).expect("a short time") })
        }
        Err(StateError::Refused { code, .. }) => json!({ "error": code }),
        Err(error) => panic!("{error}"),
    }
}

/// A replica, and the commits that it has not settled.
struct Session {
    replica: Replica,
    commits: Vec<(String, Receiver<Settled>)>,
    ids: u32,
    last: String,
}

impl Session {
    /// Takes a step; returns its results as the vectors show them.
    fn step(&mut self, step: &Value) -> Map<String, Value> {
        let mut results = Map::new();
        let mut settled = Map::new();
        let before = self.replica.data.clone();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let (name, input) = step
            .as_object()
            .and_then(|step| step.iter().find(|(key, _)| !["data", "settled"].contains(&key.as_str())))
            .expect("something to do");
        match name.as_str() {
            "edit" => self.replica.data = input.clone(),
            "commit" => match self.replica.commit() {
                Ok(commit) => self.commits.push((text(input), commit)),
                Err(error) => drop(settled.insert(text(input), result_of(Err(error)))),
            },
            "receive" => self.receive(input.clone()),
            "answer" => {
                let mut answer = input.clone();
                answer["id"] = input.get("id").unwrap_or(&json!(self.last)).clone();
                self.receive(answer);
            }
            "withhold" => self.replica.withhold(&text(&input["code"]), &text(&input["message"]), None),
            "send" => {
                self.ids += 1;
                let id = self.ids.to_string();
                let message = self.replica.next(|| id).cloned();
                results.insert("send".into(), self.sent(message));
            }
            "resend" => {
                let message = self.replica.unanswered().cloned();
                results.insert("resend".into(), self.sent(message));
            }
            _ => panic!("unknown step {step}"),
        }
        self.commits.retain_mut(|(name, commit)| match commit.try_recv() {
            Ok(result) => {
                settled.insert(name.clone(), result_of(result));
                false
            }
            Err(_) => true,
        });
        if !settled.is_empty() {
            results.insert("settled".into(), Value::Object(settled));
        }
        if !is_same(&before, &self.replica.data) {
            results.insert("data".into(), self.replica.data.clone());
        }
        results
    }

    fn receive(&mut self, message: Value) {
        let message = serde_json::from_value(message).expect("a message");
        self.replica.receive(message).expect("a message that fits");
    }

    fn sent(&mut self, message: Option<Outgoing>) -> Value {
        let Some(Outgoing { id, base, delta }) = message else { return Value::Null };
        self.last = id;
        json!({ "base": base, "delta": delta })
    }
}

#[test]
fn sessions_are_those_of_the_vectors() {
    for vector in vectors("sessions") {
        let name = vector["name"].as_str().expect("a name");
        let start = serde_json::from_value(vector["start"].clone()).expect("a message");
        let replica = Replica::new(start).expect("a document");
        let mut session = Session { replica, commits: Vec::new(), ids: 0, last: String::new() };
        for step in vector["steps"].as_array().expect("steps") {
            let results = session.step(step);
            for key in ["send", "resend", "settled", "data"] {
                let (found, expected) = (json!(results.get(key)), json!(step.get(key)));
                assert_same(&found, &expected, &format!("{name}: {key} of {step}"));
            }
        }
    }
}

#[test]
fn a_message_that_does_not_fit_changes_nothing() {
    let message = |message: Value| serde_json::from_value(message).expect("a message");
    let mut replica = Replica::new(message(json!({ "document": "d", "version": 1, "data": { "a": [0] } })))
        .expect("a document");
    // Each copy replaces the one before it: many values, and little memory.
    let copy = json!({ "op": "copy", "from": "/a", "path": "/b" });
    let copies = json!({ "version": 3, "delta": vec![copy; 60] });
    for misfit in [
        json!({ "version": 2, "delta": [{ "op": "add", "path": "/b", "value": 1 }, { "op": "remove", "path": "/none" }] }),
        json!({ "version": 2 }),
        json!({ "delta": [] }),
    ] {
        assert!(replica.receive(message(misfit)).is_err());
        assert_eq!((replica.version, &replica.data), (1, &json!({ "a": [0] })));
    }
    replica.receive(message(copies.clone())).expect("few values");
    let large = json!({ "version": 4, "data": { "a": vec![0; 100_000] } });
    replica.receive(message(large)).expect("a document");
    let refused = replica.receive(message(copies)).expect_err("too many values");
    assert!(refused.contains("copies"), "{refused}");
    assert_eq!(replica.version, 4);
}

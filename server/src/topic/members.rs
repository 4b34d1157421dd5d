//! The members of a topic: an endpoint that lists subscribers by the names from the policy, and reports joins and leaves.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use axum::extract::ws::{Message, Utf8Bytes, close_code};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};

use crate::site::sse::{encode, event_stream};
use crate::ws::socket::{WebSocket, close};

use super::lock::lock;

/// Changes that a watcher may be behind. Further behind, it gets the whole list again.
const BACKLOG: usize = 64;

/// A subscriber as others see it: a name, and what else the policy tells of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    name: String,
    about: Value,
}

impl Member {
    /// Creates a member with a name. Subscribers with one name are one member: the tabs of one user, say.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), about: Value::Null }
    }

    /// Sets what else others get to know: a little JSON. The server sends it to everybody who watches.
    #[must_use]
    pub fn about(mut self, about: impl Into<Value>) -> Self {
        self.about = about.into();
        self
    }

    fn to_json(&self) -> Value {
        match &self.about {
            Value::Null => json!({ "name": self.name }),
            about => json!({ "name": self.name, "about": about }),
        }
    }
}

/// The members of all topics.
#[derive(Debug, Default)]
pub(super) struct Members {
    places: Mutex<HashMap<Arc<str>, Arc<Place>>>,
}

/// The members of one topic.
#[derive(Debug)]
struct Place {
    state: Mutex<State>,
    changes: Sender<Utf8Bytes>,
}

#[derive(Debug, Default)]
struct State {
    /// Each with the number of its subscribers.
    members: BTreeMap<String, (usize, Member)>,
    /// Members and watchers: the place goes with the last.
    users: usize,
}

/// Somebody's part in a place, until it is dropped: a member's, or that of a watcher.
#[derive(Debug)]
pub(super) struct Presence {
    members: Arc<Members>,
    topic: Arc<str>,
    place: Arc<Place>,
    name: Option<String>,
}

impl Members {
    fn join(self: &Arc<Self>, topic: &str) -> Presence {
        let mut places = lock(&self.places);
        let (topic, place) = match places.get_key_value(topic) {
            Some((topic, place)) => (Arc::clone(topic), Arc::clone(place)),
            None => {
                let topic = Arc::<str>::from(topic);
                let place = Arc::new(Place { state: Mutex::default(), changes: channel(BACKLOG).0 });
                places.insert(Arc::clone(&topic), Arc::clone(&place));
                (topic, place)
            }
        };
        lock(&place.state).users += 1;
        Presence { members: Arc::clone(self), topic, place, name: None }
    }

    /// Adds a subscriber.
    pub(super) fn add(self: &Arc<Self>, topic: &str, member: Member) -> Presence {
        let mut presence = self.join(topic);
        presence.name = Some(member.name.clone());
        let mut state = lock(&presence.place.state);
        let (count, known) = state.members.entry(member.name.clone()).or_insert((0, member));
        *count += 1;
        if *count == 1 {
            // Nobody may watch.
            let _ = presence.place.changes.send(json!({ "joined": known.to_json() }).to_string().into());
        }
        drop(state);
        presence
    }
}

impl Presence {
    /// Returns the list, and what changes after it.
    fn watch(&self) -> (Utf8Bytes, Receiver<Utf8Bytes>) {
        let state = lock(&self.place.state);
        (json!({ "members": state.list() }).to_string().into(), self.place.changes.subscribe())
    }
}

impl State {
    fn list(&self) -> Vec<Value> {
        self.members.values().map(|(_, member)| member.to_json()).collect()
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut places = lock(&self.members.places);
        let mut state = lock(&self.place.state);
        if let Some(name) = &self.name
            && let Some((count, _)) = state.members.get_mut(name)
        {
            *count -= 1;
            if *count == 0 {
                state.members.remove(name);
                let _ = self.place.changes.send(json!({ "left": name }).to_string().into());
            }
        }
        state.users -= 1;
        if state.users == 0 {
            places.remove(&self.topic);
        }
    }
}

/// Somebody who watches the members of a topic.
pub(super) struct Watcher {
    presence: Presence,
    /// Changes of the list; `None` before the list has been sent.
    changes: Option<Receiver<Utf8Bytes>>,
}

impl Watcher {
    /// Returns one that watches a topic.
    pub(super) fn new(members: &Arc<Members>, topic: &str) -> Self {
        Self { presence: members.join(topic), changes: None }
    }

    /// Returns the list, as JSON.
    pub(super) fn list(&self) -> Response {
        let (list, _) = self.presence.watch();
        ([(header::CONTENT_TYPE, "application/json")], list.as_str().to_owned()).into_response()
    }

    /// Returns the messages as Server-Sent Events.
    pub(super) fn events(self) -> Response {
        event_stream(stream::unfold(self, async |mut watcher| {
            let message = Message::Text(watcher.next().await);
            Some((encode(&message, None).unwrap_or_default(), watcher))
        }))
    }

    /// Returns the next message. Nothing is lost if the future is dropped.
    async fn next(&mut self) -> Utf8Bytes {
        if let Some(changes) = &mut self.changes {
            match changes.recv().await {
                Ok(change) => return change,
                // It is too far behind. The place has the other end, so it never closes.
                Err(RecvError::Lagged(_) | RecvError::Closed) => {}
            }
        }
        let (list, changes) = self.presence.watch();
        self.changes = Some(changes);
        list
    }

    /// Sends the messages to a socket, until either end closes it.
    pub(super) async fn run(mut self, mut socket: WebSocket) {
        loop {
            tokio::select! {
                message = socket.recv() => match message {
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Text(_) | Message::Binary(_))) => {
                        let _ = socket.send(close(close_code::POLICY, "there is nothing to send here")).await;
                        return;
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                },
                message = self.next() => {
                    if socket.send(Message::Text(message)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

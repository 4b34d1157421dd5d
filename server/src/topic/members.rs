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
use tokio::sync::mpsc::UnboundedSender;

use crate::site::sse::{encode, event_stream};
use crate::ws::socket::{WebSocket, close};

use super::lock::lock;

/// Changes that a watcher may be behind. Further behind, it gets the whole list again.
const BACKLOG: usize = 64;

/// A subscriber as others see it: a name, and further information from the policy.
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

    /// Adds information for others: a little JSON. The server sends it to all watchers.
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
    topics: Mutex<HashMap<Arc<str>, Arc<Roster>>>,
    /// Hears of each change of this process' own members: the topic and the name.
    changed: Option<UnboundedSender<Changed>>,
}

/// The topic and the name of a member that has changed.
pub(super) type Changed = (Arc<str>, String);

/// The members of one topic.
#[derive(Debug)]
struct Roster {
    state: Mutex<State>,
    changes: Sender<Utf8Bytes>,
}

#[derive(Debug, Default)]
struct State {
    members: BTreeMap<String, Known>,
    /// Members and watchers in this process: the roster goes with the last, and with the last member elsewhere.
    users: usize,
}

/// A member, wherever its subscribers are.
#[derive(Debug)]
struct Known {
    member: Member,
    /// Its subscribers in this process, and those of them whose link has no connection.
    here: usize,
    here_away: usize,
    /// The other processes that have some, and whether all of those are away.
    others: HashMap<String, bool>,
}

/// A member in one process, as others get to know it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Listed {
    pub(super) about: Value,
    pub(super) is_away: bool,
}

/// Somebody's part in a roster, until it is dropped: a member's, or that of a watcher.
#[derive(Debug)]
pub(super) struct Presence {
    members: Arc<Members>,
    topic: Arc<str>,
    roster: Arc<Roster>,
    name: Option<String>,
    is_away: bool,
}

impl Known {
    fn is_gone(&self) -> bool {
        self.here == 0 && self.others.is_empty()
    }

    fn is_away(&self) -> bool {
        self.here == self.here_away && self.others.values().all(|is_away| *is_away)
    }

    fn to_json(&self) -> Value {
        let mut json = self.member.to_json();
        if self.is_away() {
            json["away"] = true.into();
        }
        json
    }
}

impl Members {
    /// Makes members that other processes have, too. The receiver gets the topic and the name of each own member that changes.
    #[cfg(feature = "nats")]
    pub(super) fn shared() -> (Self, tokio::sync::mpsc::UnboundedReceiver<Changed>) {
        let (changed, changes) = tokio::sync::mpsc::unbounded_channel();
        (Self { changed: Some(changed), ..Self::default() }, changes)
    }

    fn join(self: &Arc<Self>, topic: &str) -> Presence {
        let mut topics = lock(&self.topics);
        let (topic, roster) = roster_of(&mut topics, topic);
        lock(&roster.state).users += 1;
        Presence { members: Arc::clone(self), topic, roster, name: None, is_away: false }
    }

    /// Adds a subscriber.
    pub(super) fn add(self: &Arc<Self>, topic: &str, member: &Member) -> Presence {
        let mut presence = self.join(topic);
        let name = member.name.clone();
        presence.name = Some(name.clone());
        presence.edit(&name, Some(member), |known| known.here += 1);
        presence
    }

    /// Sends the other processes a change of an own member.
    fn tell(&self, topic: &Arc<str>, name: &str) {
        if let Some(changed) = &self.changed {
            // Nobody hears it once the topics are gone.
            let _ = changed.send((Arc::clone(topic), name.to_owned()));
        }
    }

    /// Returns this process's part of a member; `None` if it has none.
    #[cfg(feature = "nats")]
    pub(super) fn own(&self, topic: &str, name: &str) -> Option<Listed> {
        let roster = lock(&self.topics).get(topic).cloned()?;
        let state = lock(&roster.state);
        state.members.get(name).and_then(Known::listed)
    }

    /// Returns all members in this process, with their topics and names.
    #[cfg(feature = "nats")]
    pub(super) fn all_own(&self) -> Vec<(Arc<str>, String, Listed)> {
        let topics: Vec<_> = lock(&self.topics)
            .iter()
            .map(|(topic, roster)| (Arc::clone(topic), Arc::clone(roster)))
            .collect();
        let mut own = Vec::new();
        for (topic, roster) in topics {
            for (name, known) in &lock(&roster.state).members {
                own.extend(known.listed().map(|listed| (Arc::clone(&topic), name.clone(), listed)));
            }
        }
        own
    }

    /// Sets what another process has of a member; `None` if it has none.
    #[cfg(feature = "nats")]
    pub(super) fn set(&self, server: &str, topic: &str, name: &str, listed: Option<Listed>) {
        let mut topics = lock(&self.topics);
        let (topic, roster) = roster_of(&mut topics, topic);
        let mut state = lock(&roster.state);
        match listed {
            Some(Listed { about, is_away }) => {
                let member = Member { name: name.to_owned(), about };
                state.edit(&roster.changes, name, Some(&member), |known| {
                    known.others.insert(server.to_owned(), is_away);
                });
            }
            None => state.edit(&roster.changes, name, None, |known| {
                known.others.remove(server);
            }),
        }
        if state.is_unused() {
            topics.remove(&topic);
        }
    }
}

/// Returns the roster of a topic, and makes it if there is none.
fn roster_of(topics: &mut HashMap<Arc<str>, Arc<Roster>>, topic: &str) -> (Arc<str>, Arc<Roster>) {
    match topics.get_key_value(topic) {
        Some((topic, roster)) => (Arc::clone(topic), Arc::clone(roster)),
        None => {
            let topic = Arc::<str>::from(topic);
            let roster = Arc::new(Roster { state: Mutex::default(), changes: channel(BACKLOG).0 });
            topics.insert(Arc::clone(&topic), Arc::clone(&roster));
            (topic, roster)
        }
    }
}

#[cfg(feature = "nats")]
impl Known {
    fn listed(&self) -> Option<Listed> {
        let is_away = self.here == self.here_away;
        (self.here > 0).then(|| Listed { about: self.member.about.clone(), is_away })
    }
}

impl Presence {
    /// Returns the list, and the changes after it.
    fn watch(&self) -> (Utf8Bytes, Receiver<Utf8Bytes>) {
        let state = lock(&self.roster.state);
        (json!({ "members": state.list() }).to_string().into(), self.roster.changes.subscribe())
    }

    /// Says whether the subscriber's link has no connection.
    pub(super) fn set_away(&mut self, is_away: bool) {
        if std::mem::replace(&mut self.is_away, is_away) == is_away {
            return;
        }
        if let Some(name) = &self.name {
            self.edit(name, None, |known| match is_away {
                true => known.here_away += 1,
                false => known.here_away -= 1,
            });
        }
    }

    /// Changes this process's part of a member.
    fn edit(&self, name: &str, member: Option<&Member>, edit: impl FnOnce(&mut Known)) {
        lock(&self.roster.state).edit(&self.roster.changes, name, member, edit);
        self.members.tell(&self.topic, name);
    }
}

impl State {
    fn list(&self) -> Vec<Value> {
        self.members.values().map(Known::to_json).collect()
    }

    fn is_unused(&self) -> bool {
        self.users == 0 && self.members.is_empty()
    }

    /// Changes a member, and sends the visible change to the watchers. Makes it if there is none, as `member`.
    fn edit(
        &mut self,
        changes: &Sender<Utf8Bytes>,
        name: &str,
        member: Option<&Member>,
        edit: impl FnOnce(&mut Known),
    ) {
        let before = self.members.get(name).map(Known::is_away);
        if before.is_none() {
            let Some(member) = member else { return };
            let known = Known { member: member.clone(), here: 0, here_away: 0, others: HashMap::new() };
            self.members.insert(name.to_owned(), known);
        }
        let Some(known) = self.members.get_mut(name) else { return };
        edit(known);
        let change = match before {
            None => json!({ "joined": known.to_json() }),
            Some(_) if known.is_gone() => json!({ "left": name }),
            Some(before) if before == known.is_away() => return,
            Some(true) => json!({ "back": name }),
            Some(false) => json!({ "away": name }),
        };
        if known.is_gone() {
            self.members.remove(name);
        }
        // Nobody may watch.
        let _ = changes.send(change.to_string().into());
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let was_away = usize::from(self.is_away);
            self.edit(name, None, |known| {
                known.here -= 1;
                known.here_away -= was_away;
            });
        }
        let mut topics = lock(&self.members.topics);
        let mut state = lock(&self.roster.state);
        state.users -= 1;
        if state.is_unused() {
            topics.remove(&self.topic);
        }
    }
}

/// A watcher of the members of a topic.
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
                // It is too far behind. The roster has the other end, so it never closes.
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

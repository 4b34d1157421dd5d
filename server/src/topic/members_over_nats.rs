//! The members of topics on other servers, over NATS.
//!
//! Each server numbers the changes of its members and publishes them. The others ask for the whole list of a server when a number is
//! missing. Each server publishes the number of its last change twice a second; one that has been silent for three seconds has ended.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use crate::nats::Nats;
use crate::ws::peer;

use super::lock::lock;
use super::members::{Changed, Listed, Members};

/// The subject of members of topics.
const SUBJECT: &str = "manysocket.members";

/// The interval of signs of life.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// How long a server may be silent. Others know less than 5 seconds after it was killed, also where both are busy.
const LEASE: Duration = Duration::from_secs(3);

/// The interval in which the leases are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// How long the first watcher of a process waits for the lists of other servers.
const GATHER: Duration = Duration::from_millis(250);

/// The bytes of members in one message of a list.
const CHUNK: usize = 256 * 1024;

/// A member of more bytes stays unknown to other servers.
const MAX_MEMBER: usize = 64 * 1024;

/// The exchange of members with other servers. It begins with the first member or watcher, and ends when this is dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    nats: Nats,
    subject: String,
    changes: Mutex<Option<UnboundedReceiver<Changed>>>,
    task: OnceLock<(AbortOnDropHandle<()>, watch::Receiver<bool>)>,
}

/// A message between servers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    /// The number of the last change of a server.
    Alive(String, u64),
    /// A change with its number.
    Change(String, u64, Row),
    /// A part of the list of a server after a change; whether it is the first, and the last.
    List(String, u64, Vec<Row>, bool, bool),
    /// Asks for a server's list; `None`: for those of all.
    Ask(Option<String>),
}

/// A member on one server, or that there is none any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    topic: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member: Option<Entry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    #[serde(default, skip_serializing_if = "Value::is_null")]
    about: Value,
    #[serde(default)]
    away: bool,
}

/// Another server, as this one knows it.
#[derive(Debug)]
struct Server {
    /// The number of its last change that was applied; `None` before its list has come.
    number: Option<u64>,
    /// The list while it comes.
    list: Option<Vec<Row>>,
    members: HashMap<String, HashSet<String>>,
    until: Instant,
    /// When it may be asked for its list again.
    asked: Option<Instant>,
}

/// The task of an exchange.
struct Task {
    nats: Nats,
    subject: String,
    id: String,
    members: Arc<Members>,
    /// The number of the last change of this server.
    number: u64,
    servers: HashMap<String, Server>,
}

impl Exchange {
    /// Prepares the exchange for the topics of a store, or those without one.
    pub(super) fn new(nats: &Nats, store: Option<&str>) -> (Self, Members) {
        let (members, changes) = Members::shared();
        let subject = store.map_or_else(|| SUBJECT.to_owned(), |store| format!("{SUBJECT}.{store}"));
        let changes = Mutex::new(Some(changes));
        (Self { nats: nats.clone(), subject, changes, task: OnceLock::new() }, members)
    }

    /// Begins, unless it has begun.
    pub(super) fn begin(&self, members: &Arc<Members>) {
        self.task.get_or_init(|| {
            let (is_ready, ready) = watch::channel(false);
            let task = Task {
                nats: self.nats.clone(),
                subject: self.subject.clone(),
                // A process may have the topics twice.
                id: format!("{}-{}", self.nats.id(), peer::number()),
                members: Arc::clone(members),
                number: 0,
                servers: HashMap::new(),
            };
            // It has not been taken: this runs once.
            let changes = lock(&self.changes).take();
            let task = tokio::spawn(async move {
                if let Some(changes) = changes {
                    task.run(changes, is_ready).await;
                }
            });
            (AbortOnDropHandle::new(task), ready)
        });
    }

    /// Waits until the other servers have had the time to send their lists.
    pub(super) async fn ready(&self) {
        let Some((_, ready)) = self.task.get() else { return };
        // An error: NATS is at its end.
        let _ = timeout(4 * GATHER, ready.clone().wait_for(|ready| *ready)).await;
    }
}

impl Task {
    async fn run(mut self, mut changes: UnboundedReceiver<Changed>, ready: watch::Sender<bool>) {
        let mut gaps = self.nats.gaps();
        let Ok(mut words) = self.nats.client().subscribe(self.subject.clone()).await else { return };
        let began = Instant::now();
        let (mut heartbeat, mut look) = (interval(HEARTBEAT), interval(LOOK));
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.say(&Word::Ask(None)).await;
        loop {
            tokio::select! {
                biased;
                // Servers may have changed their members while NATS was away.
                Ok(()) = gaps.changed() => {
                    for server in self.servers.values_mut() {
                        server.until = Instant::now() + LEASE;
                        server.number = None;
                    }
                    self.say(&Word::Ask(None)).await;
                }
                _ = heartbeat.tick() => self.say(&Word::Alive(self.id.clone(), self.number)).await,
                _ = look.tick() => {
                    if began.elapsed() >= GATHER {
                        ready.send_replace(true);
                    }
                    self.expire();
                }
                word = next(&mut words) => match word {
                    Some(Some(word)) => self.hear(word).await,
                    Some(None) => {}
                    None => return,
                },
                change = changes.recv() => match change {
                    Some((topic, name)) => self.publish(topic, name).await,
                    None => return,
                },
            }
        }
    }

    /// Publishes an own member as it is now.
    async fn publish(&mut self, topic: Arc<str>, name: String) {
        let member = self.members.own(&topic, &name).map(Entry::from);
        let row = Row { topic: topic.as_ref().into(), name, member };
        if row.size() > MAX_MEMBER {
            return warn!(topic = row.topic, "a member is too large for other servers");
        }
        self.number += 1;
        // While NATS is away it is not sent: the others ask for the list afterwards.
        self.say(&Word::Change(self.id.clone(), self.number, row)).await;
    }

    async fn hear(&mut self, word: Word) {
        match word {
            Word::Ask(whom) => {
                if whom.is_none_or(|whom| whom == self.id) {
                    self.send_list().await;
                }
            }
            Word::Alive(id, number) => {
                if let Some(server) = self.server(&id)
                    && server.number != Some(number)
                {
                    self.ask(id).await;
                }
            }
            Word::Change(id, number, row) => {
                let Some(server) = self.server(&id) else { return };
                if server.number.is_none_or(|known| known + 1 != number) {
                    return self.ask(id).await;
                }
                server.number = Some(number);
                self.apply(&id, row);
            }
            Word::List(id, number, rows, is_first, is_last) => {
                let Some(server) = self.server(&id) else { return };
                if is_first {
                    server.list = Some(Vec::new());
                }
                // Its beginning is missing.
                let Some(list) = &mut server.list else { return };
                list.extend(rows);
                if is_last {
                    let list = server.list.take().unwrap_or_default();
                    server.number = Some(number);
                    server.asked = None;
                    self.replace(&id, list);
                }
            }
        }
    }

    /// Returns the members of another server, which is alive.
    fn server(&mut self, id: &str) -> Option<&mut Server> {
        if *id == *self.id {
            return None;
        }
        let until = Instant::now() + LEASE;
        let server = self.servers.entry(id.to_owned()).or_insert_with(|| Server {
            number: None,
            list: None,
            members: HashMap::new(),
            until,
            asked: None,
        });
        server.until = until;
        Some(server)
    }

    async fn ask(&mut self, id: String) {
        let now = Instant::now();
        let Some(server) = self.server(&id) else { return };
        server.number = None;
        if server.asked.is_some_and(|asked| now < asked) {
            return;
        }
        server.asked = Some(now + HEARTBEAT);
        self.say(&Word::Ask(Some(id))).await;
    }

    fn apply(&mut self, id: &str, Row { topic, name, member }: Row) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let names = server.members.entry(topic.clone()).or_default();
        match &member {
            Some(_) => drop(names.insert(name.clone())),
            None => drop(names.remove(&name)),
        }
        if names.is_empty() {
            server.members.remove(&topic);
        }
        self.members.set(id, &topic, &name, member.map(Listed::from));
    }

    /// Replaces all known members of a server by a list.
    fn replace(&mut self, id: &str, list: Vec<Row>) {
        let Some(server) = self.servers.get(id) else { return };
        let now: HashSet<(&str, &str)> = list.iter().map(|row| (&*row.topic, &*row.name)).collect();
        let gone = server.members.iter().flat_map(|(topic, names)| {
            names.iter().map(|name| Row { topic: topic.clone(), name: name.clone(), member: None })
        });
        let gone: Vec<Row> = gone.filter(|row| !now.contains(&(&*row.topic, &*row.name))).collect();
        for row in gone.into_iter().chain(list) {
            self.apply(id, row);
        }
    }

    /// Forgets the members of servers that have ended. While NATS is away, nobody knows.
    fn expire(&mut self) {
        if !self.nats.is_connected() {
            return;
        }
        let now = Instant::now();
        let ended: Vec<_> = self
            .servers
            .iter()
            .filter(|(_, server)| server.until < now)
            .map(|(id, _)| id.to_owned())
            .collect();
        for id in ended {
            debug!(server = id, "another server has ended: its members have left");
            self.replace(&id, Vec::new());
            self.servers.remove(&id);
        }
    }

    async fn send_list(&self) {
        let rows = self.members.all_own().into_iter().map(|(topic, name, listed)| Row {
            topic: topic.as_ref().into(),
            name,
            member: Some(listed.into()),
        });
        let (mut parts, mut bytes) = (vec![Vec::new()], 0);
        for row in rows.filter(|row| row.size() <= MAX_MEMBER) {
            if bytes > CHUNK {
                parts.push(Vec::new());
                bytes = 0;
            }
            bytes += row.size();
            parts.last_mut().expect("there is one").push(row);
        }
        let last = parts.len() - 1;
        for (index, rows) in parts.into_iter().enumerate() {
            let word = Word::List(self.id.clone(), self.number, rows, index == 0, index == last);
            self.say(&word).await;
        }
    }

    async fn say(&self, word: &Word) {
        // A message that waits for NATS would come too late.
        if !self.nats.is_connected() {
            return;
        }
        let Ok(text) = serde_json::to_vec(word) else { return };
        if let Err(error) = self.nats.client().publish(self.subject.clone(), text.into()).await {
            debug!("members cannot be published: {error}");
        }
    }
}

impl Row {
    /// Returns the bytes that it takes in a message, at most about a sixth less.
    fn size(&self) -> usize {
        let about = self.member.as_ref().map_or(0, |member| member.about.to_string().len());
        self.topic.len() + self.name.len() + about + 64
    }
}

impl From<Listed> for Entry {
    fn from(Listed { about, is_away }: Listed) -> Self {
        Self { about, away: is_away }
    }
}

impl From<Entry> for Listed {
    fn from(Entry { about, away }: Entry) -> Self {
        Self { about, is_away: away }
    }
}

/// Returns the next word; `None` if there is none.
async fn next(words: &mut Subscriber) -> Option<Option<Word>> {
    let message = words.next().await?;
    let word = serde_json::from_slice(&message.payload);
    Some(word.inspect_err(|error| debug!("not a message of a server about its members: {error}")).ok())
}

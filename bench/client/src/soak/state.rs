//! A socket to a document in which each page counts up a number, and changes a note.

use fastrand::Rng;
use manysocket_protocol::Message;
use serde_json::{Value, json};

use super::socket::{End, Line, Socket, json as parse};
use super::tally::{Known, Tally, lock};

/// The number of documents: enough for several to be open by nobody, and few enough for the commits that each remembers to
/// reach their limit of 1 MiB within some minutes, so that memory that grows later is a leak.
const DOCUMENTS: usize = 16;

/// The characters of a note: the commits of a document are mostly notes.
const NOTE: usize = 8_000;

#[derive(Debug)]
pub(crate) struct State {
    /// The page's member of the document.
    member: String,
    /// Document and member.
    key: String,
    known: Known,
    version: Option<u64>,
    /// The id of the commit in flight.
    pending: Option<String>,
    left: u32,
}

impl State {
    pub(crate) fn begin(
        prefix: &str,
        page: usize,
        tally: &Tally,
        rng: &mut Rng,
    ) -> (String, Box<dyn Socket>) {
        let (member, document) = (format!("page{page}"), rng.usize(..DOCUMENTS));
        let key = format!("{document}/{member}");
        let known = lock(&tally.known).get(&key).copied().unwrap_or_default();
        let state = Self { member, key, known, version: None, pending: None, left: rng.u32(10..100) };
        (format!("{prefix}/state/soak{document}"), Box::new(state))
    }

    /// Checks the first document: it has all acknowledged commits, and at most one more whose answer was lost.
    fn greet(&mut self, data: &Value) -> Result<(), String> {
        let found = data[&self.member].as_u64().unwrap_or(0);
        let Known { acknowledged, uncertain } = self.known;
        if found != acknowledged && !(uncertain && found == acknowledged + 1) {
            return Err(format!("{} has {found}, and {:?} was known", self.key, self.known));
        }
        // An earlier commit may still be on its way to the store.
        self.known.uncertain = uncertain && found == acknowledged;
        self.known.acknowledged = found;
        Ok(())
    }

    fn answered(&mut self, message: &Value, tally: &Tally) -> Result<(), String> {
        self.pending = None;
        if message["version"].is_u64() {
            self.known = Known { acknowledged: self.known.acknowledged + 1, uncertain: false };
            tally.count(|counts| counts.commits += 1);
        } else if message["error"] == "conflict" && self.known.uncertain {
            // The earlier commit arrived in between.
            self.known = Known { acknowledged: self.known.acknowledged + 1, uncertain: false };
            self.left = 0;
        } else {
            return Err(format!("{} of {}: {message}", self.key, self.known.acknowledged + 1));
        }
        Ok(())
    }
}

impl Socket for State {
    fn tick(&mut self, line: &mut Line<'_>) -> bool {
        if self.pending.is_some() {
            return false;
        }
        if let Some(version) = self.version
            && self.left > 0
            && line.rng.u8(..) < 128
        {
            let (id, path) = (format!("{:x}", line.rng.u64(..)), format!("/{}", self.member));
            let next = self.known.acknowledged + 1;
            let note = "~".repeat(line.rng.usize(..NOTE));
            let delta = json!([
                {"op": "add", "path": format!("{path}-note"), "value": note},
                {"op": "add", "path": path, "value": next},
            ]);
            let commit = json!({"id": id, "base": version, "delta": delta});
            line.send(Message::text(commit.to_string()));
            self.pending = Some(id);
            self.left -= 1;
            return false;
        }
        self.left == 0
    }

    fn receive(&mut self, line: &mut Line<'_>, message: Message) -> Result<(), String> {
        let message = parse(&message)?;
        let (version, before) = (message["version"].as_u64(), self.version);
        // The version of an answer may have arrived already, with the whole document.
        self.version = version.max(before);
        if version < before && message["id"].is_null() {
            return Err(format!("from version {before:?} back to {version:?}"));
        }
        match message["id"].as_str() {
            Some(id) if self.pending.as_deref() == Some(id) => self.answered(&message, line.tally),
            Some(id) => Err(format!("an answer to {id}, while {:?} waits", self.pending)),
            None if before.is_none() => self.greet(&message["data"]),
            None => Ok(()),
        }
    }

    fn ended(&mut self, _: &End, tally: &Tally) -> Result<(), String> {
        self.known.uncertain |= self.pending.is_some();
        lock(&tally.known).insert(self.key.clone(), self.known);
        Ok(())
    }
}

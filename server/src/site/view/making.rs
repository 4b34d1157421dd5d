//! Makes news and snapshots of a list from the changes of its listing.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::{Making, Message, View};
use crate::site::index_text::{EVENT, Form, Text, counted};
use crate::turns::Turns;

/// The number of changes or names read at once under the listing's lock: it bounds how long the lock is held.
const STEP: usize = 256;

impl View {
    /// Makes news from the listing's changes.
    pub(super) async fn update(&self, making: &mut Making) {
        let Some((listing, forms)) = &self.entries.names else {
            if making.position.replace(0).is_none() {
                making.pending = self.entries.fixed.iter().map(|entry| (entry.clone(), true)).collect();
            }
            return;
        };
        let mut turns = Turns::default();
        let Some(mut position) = making.position else {
            return self.start(making, &mut turns).await;
        };
        // A name's first change shows whether it was present before, its last change whether it is present now.
        let mut changed = BTreeMap::<Arc<str>, (bool, bool)>::new();
        loop {
            let Some(changes) = listing.changes_after(position, STEP) else {
                return self.start(making, &mut turns).await;
            };
            if changes.is_empty() {
                break;
            }
            position += changes.len() as u64;
            for (name, came) in changes {
                turns.spend(name.len()).await;
                changed.entry(name).and_modify(|(_, last)| *last = came).or_insert((came, came));
            }
        }
        let mut entries = BTreeMap::new();
        for (name, (_, came)) in changed.iter().filter(|(_, (first, last))| first == last) {
            let those = forms.encoded(name).filter(|entry| self.entries.fixed.binary_search(entry).is_err());
            entries.extend(those.map(|entry| (entry, *came)));
            turns.spend(name.len()).await;
        }
        let (mut added, mut removed) = (String::new(), String::new());
        for (entry, came) in &entries {
            let list = if *came { &mut added } else { &mut removed };
            let comma = if list.is_empty() { "" } else { "," };
            let _ = write!(list, "{comma}{}", json!(entry));
            turns.spend(entry.len()).await;
        }
        self.count(entries.len());
        making.position = Some(position);
        making.pending.extend(entries);
        if !(added.is_empty() && removed.is_empty()) {
            let news = format!("{}{{\"added\":[{added}],\"removed\":[{removed}]}}{}", EVENT.0, EVENT.1);
            let news = counted(news.into_boxed_str().into_boxed_bytes().into_vec(), &self.live);
            self.publish(making, Message::new(news));
        }
    }

    /// Builds the list from the listing, at first and when the listing's log no longer holds the changes. Followers
    /// get the whole list as news.
    async fn start(&self, making: &mut Making, turns: &mut Turns) {
        let Some((listing, forms)) = &self.entries.names else { return };
        let mut position = listing.position();
        let mut present = BTreeMap::<Arc<str>, bool>::new();
        let mut after = None;
        loop {
            let names = listing.names_after(after.as_deref(), STEP);
            let Some(last) = names.last() else { break };
            after = Some(Arc::clone(last));
            for name in names {
                turns.spend(name.len()).await;
                present.insert(name, true);
            }
        }
        // Apply the changes made during the loop.
        while let Some(changes) = listing.changes_after(position, STEP).filter(|changes| !changes.is_empty())
        {
            position += changes.len() as u64;
            present.extend(changes);
        }
        let fixed = self.entries.fixed.iter().map(|entry| (entry.clone(), true));
        let mut entries: BTreeMap<String, bool> = fixed.collect();
        for (name, _) in present.iter().filter(|(_, is_present)| **is_present) {
            turns.spend(name.len()).await;
            entries.extend(forms.encoded(name).map(|entry| (entry, true)));
        }
        let empty = Text::empty(Form::Json, &self.live);
        let all = entries.iter().map(|(entry, is_present)| (entry.as_str(), *is_present));
        let edits = empty.edits(all, turns).await;
        let snapshot = empty.edited(&edits, &self.live, turns).await;
        self.count(entries.len());
        let is_first = making.position.replace(position).is_none();
        making.pending.clear();
        (making.snapshot, making.snapshot_at, making.html) = (snapshot, Instant::now(), None);
        if !is_first {
            self.publish(making, Message::list(&making.snapshot));
        }
        making.snapshot_number = making.number;
    }

    /// Builds a snapshot that includes the newest news.
    pub(super) async fn merge(&self, making: &mut Making) {
        if !making.pending.is_empty() {
            let mut turns = Turns::default();
            let pending = making.pending.iter().map(|(entry, is_present)| (entry.as_str(), *is_present));
            let edits = making.snapshot.edits(pending, &mut turns).await;
            let html = match &making.html {
                Some(html) if making.wants_html => Some(html.edited(&edits, &self.live, &mut turns).await),
                _ => None,
            };
            let snapshot = making.snapshot.edited(&edits, &self.live, &mut turns).await;
            self.count(making.pending.len());
            making.pending.clear();
            (making.snapshot, making.snapshot_at, making.html) = (snapshot, Instant::now(), html);
            making.wants_html = false;
        }
        making.snapshot_number = making.number;
    }

    /// Publishes news to the followers.
    fn publish(&self, making: &mut Making, news: Message) {
        making.number += 1;
        making.at = Instant::now();
        let mut shared = self.shared();
        shared.number = making.number;
        shared.bytes += news.event.len();
        shared.news.push_back(news);
        let most = (making.snapshot.bytes.len() / 2).max(self.bounds.news.0);
        // Keep the newest changes, of any size: no follower has read them yet.
        while (shared.bytes > most || shared.news.len() > self.bounds.news.1) && shared.news.len() > 1 {
            let forgotten = shared.news.pop_front().map_or(0, |news| news.event.len());
            shared.bytes -= forgotten;
        }
        let woken = shared.waiters.take();
        drop(shared);
        woken.wake();
    }

    /// Makes news of each change, until no reader is left.
    pub(super) async fn make_news(self: Arc<Self>) {
        let Some((listing, _)) = &self.entries.names else { return };
        let mut changes = listing.watch();
        // Count changes since the list was built as unseen.
        changes.mark_changed();
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = self.left.notified() => {}
            }
            {
                let mut shared = self.shared();
                if shared.readers == 0 {
                    shared.is_followed = false;
                    return;
                }
            }
            let due = self.making.lock().await.at + self.bounds.interval;
            if due > Instant::now() {
                sleep_until(due).await;
            }
            let mut making = self.making.lock().await;
            if making.at.elapsed() >= self.bounds.interval {
                self.update(&mut making).await;
            }
        }
    }
}

//! Holds the list of an index. It is built once and shared by all readers.
//!
//! A reader gets a snapshot, and then news: numbered messages with changes. A snapshot includes the news up to one
//! number and may be older than the newest news; its readers then get the news since. So a change costs work in
//! proportion to its size, whatever the number of readers.

mod making;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use crate::site::index_text::{Form, Text, data};
use crate::site::listing::INTERVAL;
use crate::site::route_tree::Entries;
use crate::turns::Turns;
use crate::waiters::Waiters;

/// Limits the rate and the memory of news and snapshots.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The minimum time between news.
    pub(crate) interval: Duration,
    /// The size in bytes from which a snapshot counts as long: a long one is rebuilt at most once in
    /// [`SNAPSHOT_INTERVAL`].
    pub(crate) long: usize,
    /// The minimum of news kept for slow readers, in bytes and in number. A reader further behind gets the list again.
    pub(crate) news: (usize, usize),
}

/// Copying a mebibyte costs 0.3 ms, so shorter snapshots may be rebuilt for each change.
const BOUNDS: Bounds = Bounds { interval: INTERVAL, long: 1 << 20, news: (64 * 1024, 64) };

/// The maximum age of a long snapshot. Plain HTTP shows it as it is; other readers get the news since.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);

/// The maximum bytes of outdated lists that slow readers hold, besides the current list: six of the longest lists that
/// topics make.
const MAX_OLD: usize = 64 << 20;

/// The list of one path.
#[derive(Debug)]
pub(crate) struct View {
    entries: Entries,
    bounds: Bounds,
    making: tokio::sync::Mutex<Making>,
    shared: Mutex<Shared>,
    /// Notified when the last reader leaves.
    left: Notify,
    /// The bytes of all texts that are held anywhere.
    live: Arc<AtomicUsize>,
    /// The number of entries written.
    #[cfg(test)]
    written: AtomicUsize,
}

/// The state that one maker at a time changes. A maker may be dropped at any await, so it prepares a change completely
/// and then applies it at once.
#[derive(Debug)]
struct Making {
    /// The number of the listing's changes that the newest news include; `None` before the first list.
    position: Option<u64>,
    /// The number of the newest news.
    number: u64,
    /// The time when they were made.
    at: Instant,
    snapshot: Text,
    snapshot_number: u64,
    snapshot_at: Instant,
    /// The entries that changed since the snapshot: sorted, and whether each is present.
    pending: BTreeMap<String, bool>,
    html: Option<Text>,
    /// True if a client has requested HTML since the last snapshot.
    wants_html: bool,
}

#[derive(Debug, Default)]
struct Shared {
    /// The recent news, oldest first; `number` is the number of the last one.
    news: VecDeque<Message>,
    number: u64,
    bytes: usize,
    readers: usize,
    is_followed: bool,
    waiters: Waiters,
}

/// A list or news, in the formats that readers need.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The whole Server-Sent Event.
    pub(crate) event: Bytes,
    /// The data of the event: the JSON.
    pub(crate) text: Utf8Bytes,
}

impl Message {
    /// Creates a message from an encoded event.
    pub(crate) fn new(event: Bytes) -> Self {
        Self { text: data(&event), event }
    }

    /// Creates the message with a whole list.
    fn list(list: &Text) -> Self {
        Self { event: list.bytes.clone(), text: list.data.clone() }
    }
}

/// The error when slow readers hold too many bytes of outdated lists.
#[derive(Debug)]
pub(crate) struct Full;

impl View {
    pub(crate) fn new(entries: Entries) -> Arc<Self> {
        Self::bounded(entries, BOUNDS)
    }

    pub(crate) fn bounded(entries: Entries, bounds: Bounds) -> Arc<Self> {
        let (live, now) = (Arc::default(), Instant::now());
        let making = Making {
            position: None,
            number: 0,
            at: now,
            snapshot: Text::empty(Form::Json, &live),
            snapshot_number: 0,
            snapshot_at: now,
            pending: BTreeMap::new(),
            html: None,
            wants_html: false,
        };
        Arc::new(Self {
            entries,
            bounds,
            making: making.into(),
            shared: Mutex::default(),
            left: Notify::new(),
            live,
            #[cfg(test)]
            written: AtomicUsize::new(0),
        })
    }

    /// Returns the bytes of all texts held anywhere, and of those that the view holds.
    #[cfg(any(test, fuzzing))]
    pub(crate) async fn held(&self) -> (usize, usize) {
        let making = self.making.lock().await;
        let html = making.html.as_ref().map_or(0, |html| html.bytes.len());
        let shared = self.shared();
        // News that repeat the whole list share the bytes of the snapshot, so count them once.
        let news = shared.news.iter().filter(|news| news.event.as_ptr() != making.snapshot.bytes.as_ptr());
        let news: usize = news.map(|news| news.event.len()).sum();
        (self.live.load(Ordering::Relaxed), making.snapshot.bytes.len() + html + news)
    }

    /// Returns the number of entries written: into news, into a list, or both.
    #[cfg(test)]
    pub(crate) fn written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    /// Returns the list, for a reader that does not follow it.
    pub(crate) async fn list(&self) -> Result<Message, Full> {
        let making = self.present().await?;
        Ok(Message::list(&making.snapshot))
    }

    /// Returns the list's items as HTML.
    pub(crate) async fn html(&self) -> Result<Bytes, Full> {
        let mut making = self.present().await?;
        making.wants_html = true;
        if making.html.is_none() {
            let html = making.snapshot.to_form(Form::Html, &self.live, &mut Turns::default()).await;
            making.html = Some(html);
        }
        Ok(making.html.as_ref().map(|html| html.bytes.clone()).unwrap_or_default())
    }

    /// Adds a reader, which gets the list and then the news.
    pub(crate) async fn follow(self: &Arc<Self>) -> Result<Reader, Full> {
        let making = self.present().await?;
        let (first, number) = (Message::list(&making.snapshot), making.snapshot_number);
        let mut shared = self.shared();
        shared.readers += 1;
        let follow = !std::mem::replace(&mut shared.is_followed, true);
        let reader =
            Reader { view: Arc::clone(self), first: Some(first), number, waiting: shared.waiters.number() };
        drop(shared);
        drop(making);
        if follow && self.entries.names.is_some() {
            tokio::spawn(Arc::clone(self).make_news());
        }
        Ok(reader)
    }

    /// Counts written entries.
    fn count(&self, _entries: usize) {
        #[cfg(test)]
        self.written.fetch_add(_entries, Ordering::Relaxed);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates the list as far as the rate limits allow, and returns the state. Fails if slow readers hold too many
    /// outdated lists.
    async fn present(&self) -> Result<tokio::sync::MutexGuard<'_, Making>, Full> {
        let mut making = self.making.lock().await;
        // Followers get at most ten messages a second, however many readers arrive meanwhile.
        if making.position.is_none()
            || self.shared().readers == 0
            || making.at.elapsed() >= self.bounds.interval
        {
            self.update(&mut making).await;
        }
        let reaches = {
            let shared = self.shared();
            shared.number - making.snapshot_number <= shared.news.len() as u64
        };
        let is_long = making.snapshot.bytes.len() > self.bounds.long;
        if !reaches || !is_long || making.snapshot_at.elapsed() >= SNAPSHOT_INTERVAL {
            self.merge(&mut making).await;
        }
        let present = making.snapshot.bytes.len() + making.html.as_ref().map_or(0, |html| html.bytes.len());
        match self.live.load(Ordering::Relaxed) <= present + MAX_OLD {
            true => Ok(making),
            false => Err(Full),
        }
    }
}

/// A reader that follows a list.
#[derive(Debug)]
pub(crate) struct Reader {
    view: Arc<View>,
    first: Option<Message>,
    /// The number of the newest news that the reader has got.
    number: u64,
    waiting: u64,
}

impl Reader {
    /// Returns the list first, then each piece of news. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Message {
        loop {
            if let Some(list) = self.first.take() {
                return list;
            }
            match std::future::poll_fn(|cx| self.poll_news(cx)).await {
                Some(news) => return news,
                None => self.start_again().await,
            }
        }
    }

    /// Returns the next news. `None` means that the view has dropped the news this reader needs.
    fn poll_news(&mut self, cx: &Context<'_>) -> Poll<Option<Message>> {
        let mut shared = self.view.shared();
        let Ok(behind) = usize::try_from(shared.number - self.number) else { return Poll::Ready(None) };
        if behind == 0 {
            shared.waiters.wait(self.waiting, cx);
            return Poll::Pending;
        }
        let news = shared.news.len().checked_sub(behind).and_then(|index| shared.news.get(index)).cloned();
        self.number += u64::from(news.is_some());
        Poll::Ready(news)
    }

    /// Gives the reader the current list.
    async fn start_again(&mut self) {
        let mut making = self.view.making.lock().await;
        self.view.merge(&mut making).await;
        self.first = Some(Message::list(&making.snapshot));
        self.number = making.snapshot_number;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut shared = self.view.shared();
        shared.waiters.forget(self.waiting);
        shared.readers -= 1;
        if shared.readers == 0 {
            drop(shared);
            self.view.left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::site::listing::Listing;
    use crate::site::route_tree::Node;

    fn view(listing: &Listing) -> Arc<View> {
        let mut tree = Node::default();
        tree.list("/{name}", listing.clone());
        View::new(tree.entries("/"))
    }

    /// Returns 9,900 names of a thousand bytes: the longest index that topics make.
    fn large() -> Listing {
        let listing = Listing::new();
        for n in 0..9_900 {
            listing.insert(&format!("{n:05}{}", "n".repeat(990)));
        }
        listing
    }

    #[tokio::test(start_paused = true)]
    async fn readers_share_what_is_made_once() {
        let listing = large();
        let view = view(&listing);
        let mut readers = Vec::new();
        for _ in 0..500 {
            readers.push(view.follow().await.expect("room"));
        }
        let first = readers[0].next().await;
        for reader in &mut readers[1..] {
            assert_eq!(reader.next().await.text.as_bytes().as_ptr(), first.text.as_bytes().as_ptr());
        }
        assert_eq!(view.written(), 9_900, "each name is written once for all readers");
        listing.insert("one more");
        let news = readers[0].next().await;
        assert_eq!(news.text.as_str(), r#"{"added":["one%20more"],"removed":[]}"#);
        for reader in &mut readers[1..] {
            assert_eq!(reader.next().await.event.as_ptr(), news.event.as_ptr());
            assert!(reader.next().now_or_never().is_none());
        }
        assert_eq!(view.written(), 9_901);
        let lists = [view.list().await.expect("room"), view.list().await.expect("room")];
        assert_eq!(lists[0].event.as_ptr(), lists[1].event.as_ptr());
        assert!(view.written() <= 9_902, "a list copies what stays: {}", view.written());
        let (live, held) = view.held().await;
        assert!(
            live <= held + first.event.len(),
            "500 readers hold {live} bytes, {held} of them are the list"
        );
    }

    /// Checks that slow readers hold a bounded number of bytes while the list changes.
    #[tokio::test(start_paused = true)]
    async fn lists_of_before_are_bounded() {
        let listing = large();
        let view = view(&listing);
        let (mut held, mut refused) = (Vec::new(), 0);
        for n in 0..100 {
            listing.insert(&n.to_string());
            tokio::time::advance(SNAPSHOT_INTERVAL).await;
            match view.list().await {
                Ok(list) => held.push(list),
                Err(Full) => refused += 1,
            }
        }
        let (live, present) = view.held().await;
        assert!(refused > 0 && live <= 2 * present + MAX_OLD, "{live} bytes, refused {refused}");
        drop(held);
        assert!(view.list().await.is_ok(), "there is room again");
    }

    /// Checks that a long list is copied once a second, however fast names change.
    #[tokio::test(start_paused = true)]
    async fn a_long_list_is_not_copied_for_each_change() {
        let listing = large();
        let view = view(&listing);
        let mut follower = view.follow().await.expect("room");
        let mut lists = std::collections::BTreeSet::from([follower.next().await.event.as_ptr().addr()]);
        for n in 0..1000 {
            listing.insert(&n.to_string());
            listing.remove(&(n / 2).to_string());
            lists.insert(view.list().await.expect("room").event.as_ptr().addr());
        }
        assert!(lists.len() <= 2, "{} copies", lists.len());
        // A new reader gets an older list, and the news since.
        tokio::time::advance(INTERVAL).await;
        let mut late = view.follow().await.expect("room");
        assert!(!late.next().await.text.contains("\"999\""));
        assert!(late.next().await.text.contains("\"999\""));
    }

    /// hyper drops a request's future at any await when its client disconnects.
    #[tokio::test(start_paused = true)]
    async fn a_maker_that_is_dropped_leaves_all_as_it_was() {
        let listing = large();
        let view = view(&listing);
        for round in 0..4 {
            for polls in [1, 2, 3, 50, 150, 250] {
                let mut list = Box::pin(view.list());
                for _ in 0..polls {
                    let polled = std::future::poll_fn(|cx| Poll::Ready(list.as_mut().poll(cx))).await;
                    if polled.is_ready() {
                        break;
                    }
                }
            }
            let list = view.list().await.expect("room");
            let names: Vec<String> = serde_json::from_str(&list.text).expect("JSON");
            assert_eq!(names.len(), 9_900 + round);
            listing.insert(&round.to_string());
            tokio::time::advance(SNAPSHOT_INTERVAL).await;
        }
    }
}

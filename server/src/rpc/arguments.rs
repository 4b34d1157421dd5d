//! Accounts for the arguments of calls: which thread reads them, and how much memory they take.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use crate::budget::Reservation;
use crate::lane::Lane;
use crate::metrics::stats::Stats;
use crate::ws::socket::WebSocket;

/// The bytes of a call that are read where its socket is served: the most expensive ones take 0.4 ms. Larger calls are read
/// by a thread of their own, in turns by link.
pub(super) const SMALL: usize = 8 * 1024;

/// The memory that all calls may hold for their arguments: a quarter of the limit for links.
const MAX_HELD: usize = 256 << 20;

/// The memory that the calls of one link, or of one native socket, may hold of that, in KiB: its further calls wait.
const MAX_HELD_BY_PEER: u32 = 64 * 1024;

/// Calls with less are not counted here, but only for their links: a native socket has one call at a time.
const LITTLE: usize = 64 * 1024;

/// The name of the limit in logs and metrics.
const LIMIT: &str = "calls_memory";

/// The memory of an object in a [`Value`](serde_json::Value) with up to eleven members: one node of its tree.
const OBJECT: usize = 632;

/// The memory of any other value.
const VALUE: usize = 32;

/// The bytes that all large calls hold.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// The KiB that each peer with a large call may still hold.
static PEERS: LazyLock<Mutex<HashMap<u64, Arc<Semaphore>>>> = LazyLock::new(Mutex::default);

/// The socket, or the other process, whose calls are answered.
#[derive(Debug)]
pub(super) struct Peer {
    /// The link, or the native socket.
    peer: u64,
    stats: Option<Stats>,
    /// The memory of the link; a native socket has none.
    link: Option<Reservation>,
    /// The KiB that the peer may still hold, once it has made a large call.
    room: OnceLock<Arc<Semaphore>>,
}

/// The memory of the arguments of one call, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    bytes: usize,
    _of_link: Option<Reservation>,
    _of_peer: Option<OwnedSemaphorePermit>,
}

impl Peer {
    pub(super) fn new(peer: u64, stats: Option<Stats>) -> Self {
        Self { peer, stats, link: None, room: OnceLock::new() }
    }

    /// Counts the calls of a socket as memory of its link.
    pub(super) fn count_for(&mut self, socket: &WebSocket) {
        self.link = socket.reservation();
    }

    pub(super) fn peer(&self) -> u64 {
        self.peer
    }

    /// Returns an empty part of the link's memory.
    pub(super) fn reservation(&self) -> Option<Reservation> {
        self.link.as_ref().map(Reservation::beside)
    }

    /// Takes the memory of a call's arguments, when other large calls of its link leave it; `None` if too much is held for all calls.
    pub(super) async fn admit(&self, text: &str) -> Option<Share> {
        let bytes = cost(text);
        let mut of_link = self.reservation();
        let mut reserve = |bytes| of_link.as_mut().map(|of_link| of_link.set(bytes));
        if bytes <= LITTLE {
            reserve(bytes);
            return Some(Share { bytes: 0, _of_link: of_link, _of_peer: None });
        }
        reserve(text.len());
        let permits = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).min(MAX_HELD_BY_PEER);
        let room = Arc::clone(self.room.get_or_init(|| room(self.peer)));
        // It is never closed.
        let of_peer = room.acquire_many_owned(permits).await.ok();
        if HELD.fetch_add(bytes, Ordering::Relaxed) + bytes > MAX_HELD {
            HELD.fetch_sub(bytes, Ordering::Relaxed);
            warn!(limit = LIMIT, bytes, "a call is refused: too much is held for calls already");
            if let Some(stats) = &self.stats {
                stats.limit_crossed(LIMIT);
            }
            return None;
        }
        reserve(bytes);
        Some(Share { bytes, _of_link: of_link, _of_peer: of_peer })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            let mut peers = peers();
            // The last one of the peer: the other reference is that of the table.
            if Arc::strong_count(&room) <= 2 {
                peers.remove(&self.peer);
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        HELD.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn room(peer: u64) -> Arc<Semaphore> {
    let new = || Arc::new(Semaphore::new(MAX_HELD_BY_PEER as usize));
    Arc::clone(peers().entry(peer).or_insert_with(new))
}

fn peers() -> MutexGuard<'static, HashMap<u64, Arc<Semaphore>>> {
    PEERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the thread that reads large calls; `None` if the system has none to give.
pub(super) fn lane() -> Option<&'static Lane> {
    static LANE: LazyLock<Option<Lane>> = LazyLock::new(|| Lane::start("calls").ok());
    LANE.as_ref()
}

/// Returns the memory that the arguments in a text cost at most: as [`Value`](serde_json::Value)s.
pub(super) fn cost(text: &str) -> usize {
    let (mut cost, mut is_text, mut is_escaped) = (text.len(), false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'{' if !is_text => cost += OBJECT,
            b'[' | b',' if !is_text => cost += VALUE,
            _ => {}
        }
    }
    cost
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn arguments_cost_what_their_values_hold() {
        for (text, expected) in [
            ("[]", 2 + VALUE),
            ("[1,2]", 5 + 2 * VALUE),
            (r#"[{"a":1}]"#, 9 + VALUE + OBJECT),
            (r#"["{[,\"{"]"#, 10 + VALUE),
            (r#"["\\",{}]"#, 9 + 2 * VALUE + OBJECT),
        ] {
            assert_eq!(cost(text), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn one_peer_does_not_get_all() {
        let heavy = format!("[{}]", vec!["{}"; 40_000].join(","));
        let (one, again, other) = (Peer::new(1, None), Peer::new(1, None), Peer::new(2, None));
        let first = one.admit(&heavy).await.expect("room");
        let second = again.admit(&heavy).await.expect("room");
        let third = Peer::new(1, None);
        assert!(third.admit(&heavy).now_or_never().is_none(), "it waits for those of its link");
        assert!(third.admit("[1]").now_or_never().flatten().is_some(), "small ones do not");
        assert!(other.admit(&heavy).now_or_never().flatten().is_some(), "nor do those of others");
        drop(first);
        assert!(third.admit(&heavy).now_or_never().flatten().is_some());
        drop((second, one, again, third, other));
        assert!(peers().is_empty() && HELD.load(Ordering::Relaxed) == 0, "all is given back");
    }
}

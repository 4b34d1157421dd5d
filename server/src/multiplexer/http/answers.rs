//! The answers of an HTTP carrier by polls: each is kept until the client confirms it, and all requests that ask for it get it.

use std::future::poll_fn;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// The bytes of one answer.
pub(super) const MOST: usize = 256 * 1024;

/// How long a request waits for bytes: less than the 30 s after which some proxies give up.
const HOLD: Duration = Duration::from_secs(25);

/// How many requests may wait: one that is stuck on its way, and the same one again. They may arrive in any order.
const MOST_WAITING: u64 = 2;

/// How long a carrier lives without a request: longer than a client takes from one to the next on any network.
const LIFE: Duration = Duration::from_secs(30);

/// The bytes that the slowest network passes in a second: the client reads the last answer before it asks again.
const SLOWEST: usize = 4 * 1024;

/// The answers of one carrier.
#[derive(Debug)]
pub(super) struct Answers {
    state: Mutex<State>,
    /// When the carrier has no client any more; `None` while a request is under way.
    deadline: watch::Sender<Option<Instant>>,
}

#[derive(Debug, Default)]
struct State {
    /// The bytes that the client has confirmed.
    confirmed: u64,
    /// The last answer, which it has not.
    last: Bytes,
    /// The number of the newest request.
    newest: u64,
    /// The tasks of requests that wait, by their numbers.
    tasks: Vec<(u64, Waker)>,
    under_way: usize,
}

impl Answers {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), deadline: watch::Sender::new(Some(Instant::now() + LIFE)) }
    }

    /// Answers a request for bytes from an offset on, of which `poll_take` takes the next.
    ///
    /// # Errors
    /// Returns the status of a refusal.
    pub(super) async fn answer(
        &self,
        offset: u64,
        mut poll_take: impl FnMut(&mut Context<'_>) -> Poll<Bytes>,
    ) -> Result<Bytes, StatusCode> {
        let request = self.begin(offset)?;
        let next = poll_fn(|cx| request.poll(cx, &mut poll_take));
        timeout(HOLD, next).await.unwrap_or_else(|_| Ok(Bytes::new()))
    }

    /// Waits until no request has come for long.
    pub(super) async fn abandoned(&self) {
        let mut deadline = self.deadline.subscribe();
        loop {
            let at = *deadline.borrow_and_update();
            let Some(at) = at else {
                // The sender lives as long as this.
                let _ = deadline.changed().await;
                continue;
            };
            if timeout_at(at, deadline.changed()).await.is_err() {
                return;
            }
        }
    }

    /// Begins a request, which ends the second one before. Its offset confirms the last answer, or asks for it again.
    fn begin(&self, offset: u64) -> Result<Request<'_>, StatusCode> {
        let mut state = self.lock();
        let end = state.confirmed + state.last.len() as u64;
        if offset == end {
            state.confirmed = end;
            state.last = Bytes::new();
        } else if offset != state.confirmed {
            return Err(StatusCode::CONFLICT);
        }
        state.newest += 1;
        state.under_way += 1;
        let number = state.newest;
        state.wake();
        drop(state);
        self.deadline.send_replace(None);
        Ok(Request { answers: self, number, offset })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Wakes all requests, to look again.
    fn wake(&mut self) {
        mem::take(&mut self.tasks).into_iter().for_each(|(_, task)| task.wake());
    }
}

/// A request that is being answered.
struct Request<'a> {
    answers: &'a Answers,
    number: u64,
    offset: u64,
}

impl Request<'_> {
    fn poll(
        &self,
        cx: &mut Context<'_>,
        poll_take: &mut impl FnMut(&mut Context<'_>) -> Poll<Bytes>,
    ) -> Poll<Result<Bytes, StatusCode>> {
        let mut state = self.answers.lock();
        // The client may have had the answer by another request, and confirmed it.
        if state.newest >= self.number + MOST_WAITING || state.confirmed != self.offset {
            return Poll::Ready(Err(StatusCode::CONFLICT));
        }
        if state.last.is_empty() {
            let Poll::Ready(bytes) = poll_take(cx) else {
                state.tasks.retain(|(number, _)| *number != self.number);
                state.tasks.push((self.number, cx.waker().clone()));
                return Poll::Pending;
            };
            if bytes.is_empty() {
                return Poll::Ready(Err(StatusCode::GONE));
            }
            state.last = bytes;
        }
        Poll::Ready(Ok(state.last.clone()))
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        let mut state = self.answers.lock();
        state.under_way -= 1;
        // The tunnel wakes the one that has looked last: this, maybe.
        state.wake();
        if state.under_way == 0 {
            let reading = Duration::from_secs((state.last.len() / SLOWEST) as u64);
            self.answers.deadline.send_replace(Some(Instant::now() + LIFE + reading));
        }
    }
}

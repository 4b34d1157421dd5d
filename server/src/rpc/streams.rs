//! The streams of one socket: each is polled while the page has room for its items.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::budget::Reservation;

use super::arguments::Share;
use super::error::Error;
use super::result::Items;

/// The streams of one socket: enough for a page that watches many things at once.
pub(super) const MAX_STREAMS: usize = 256;

/// The items of a stream that the server sends before the page reports that it has taken some.
const MAX_ITEMS: usize = 256;

/// Their bytes: once they are more, the server waits, too.
const MAX_BYTES: usize = 1 << 20;

/// The memory of a stream besides its arguments: two sizes for each item that is not taken, its future and its entries.
const STREAM: usize = 4096;

/// A stream, and the memory of the arguments that it may use.
pub(super) struct Source {
    pub(super) items: Items,
    pub(super) _share: Share,
}

/// The streams of one socket, by the number of their call.
pub(super) struct Streams {
    peer: u64,
    open: HashMap<u64, Open>,
    /// The streams that have room for an item.
    steps: FuturesUnordered<BoxFuture<'static, Step>>,
    /// Messages to send: at most one of each stream.
    outgoing: VecDeque<(u64, String)>,
    /// The memory of `outgoing`.
    outgoing_bytes: usize,
}

struct Open {
    cancelled: CancellationToken,
    /// The stream while it is not polled.
    at_rest: Option<Source>,
    /// A message of it is in `outgoing`.
    is_queued: bool,
    /// The sizes of the items that the page has not taken.
    untaken: VecDeque<usize>,
    untaken_bytes: usize,
}

/// The next message of a stream; the stream is gone if it is the last one.
pub(super) struct Step {
    number: u64,
    source: Option<Source>,
    message: String,
}

impl Streams {
    pub(super) fn new(peer: u64) -> Self {
        let (open, steps) = (HashMap::new(), FuturesUnordered::new());
        Self { peer, open, steps, outgoing: VecDeque::new(), outgoing_bytes: 0 }
    }

    /// Returns the number of streams that have not ended.
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// Whether no stream is being polled.
    pub(super) fn are_at_rest(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns the memory of the streams and their messages.
    pub(super) fn cost(&self) -> usize {
        self.open.len() * STREAM + self.outgoing_bytes
    }

    /// Adds the stream that a call has returned.
    pub(super) fn open(&mut self, number: u64, source: Source) {
        let open = Open {
            cancelled: CancellationToken::new(),
            at_rest: Some(source),
            is_queued: false,
            untaken: VecDeque::new(),
            untaken_bytes: 0,
        };
        self.open.insert(number, open);
        self.go_on(number);
    }

    pub(super) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        match self.steps.poll_next_unpin(cx) {
            Poll::Ready(Some(step)) => Poll::Ready(step),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Queues a message, and returns its size.
    pub(super) fn queue(&mut self, Step { number, source, message }: Step) -> usize {
        let bytes = message.len();
        match (source, self.open.get_mut(&number)) {
            (Some(source), Some(open)) => {
                open.at_rest = Some(source);
                open.is_queued = true;
                open.untaken.push_back(bytes);
                open.untaken_bytes += bytes;
            }
            _ => drop(self.open.remove(&number)),
        }
        self.outgoing_bytes += Reservation::cost(bytes);
        self.outgoing.push_back((number, message));
        bytes
    }

    pub(super) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Returns the next message to send. Streams take turns.
    pub(super) fn next_outgoing(&mut self) -> Option<String> {
        let (number, message) = self.outgoing.pop_front()?;
        self.outgoing_bytes -= Reservation::cost(message.len());
        if let Some(open) = self.open.get_mut(&number) {
            open.is_queued = false;
            self.go_on(number);
        }
        Some(message)
    }

    /// The page has taken items of a stream.
    pub(super) fn taken(&mut self, number: u64, count: u64) {
        let Some(open) = self.open.get_mut(&number) else { return };
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(open.untaken.len());
        open.untaken_bytes -= open.untaken.drain(..count).sum::<usize>();
        self.go_on(number);
    }

    /// Drops a stream, and sends its end.
    pub(super) fn cancel(&mut self, number: u64) {
        let Some(open) = self.open.get_mut(&number) else { return };
        // One that is polled is dropped there.
        open.cancelled.cancel();
        if let Some(source) = open.at_rest.take() {
            drop(source);
            let keep = |(other, message): &(u64, String)| {
                let is_other = *other != number;
                self.outgoing_bytes -= if is_other { 0 } else { Reservation::cost(message.len()) };
                is_other
            };
            self.outgoing.retain(keep);
            self.queue(Step { number, source: None, message: cancellation(number) });
        }
    }

    /// Drops all streams.
    pub(super) fn end(&mut self) {
        for (_, open) in self.open.drain() {
            open.cancelled.cancel();
        }
        self.outgoing.clear();
        self.outgoing_bytes = 0;
    }

    /// Polls a stream if there is room for one of its items.
    fn go_on(&mut self, number: u64) {
        let Some(open) = self.open.get_mut(&number) else { return };
        if !open.is_queued
            && open.untaken.len() < MAX_ITEMS
            && open.untaken_bytes < MAX_BYTES
            && let Some(source) = open.at_rest.take()
        {
            self.steps.push(step(number, source, open.cancelled.clone(), self.peer).boxed());
        }
    }
}

/// Gets the next item of a stream. When there is none any more, the stream is dropped first.
async fn step(number: u64, mut source: Source, cancelled: CancellationToken, peer: u64) -> Step {
    let next = AssertUnwindSafe(source.items.next()).catch_unwind();
    let message = match cancelled.run_until_cancelled(next).await {
        Some(Ok(Some(Ok(written)))) => match written.into_message(peer, &suffix(number)).await {
            Ok(message) if !cancelled.is_cancelled() => {
                return Step { number, source: Some(source), message };
            }
            Ok(_) => cancellation(number),
            Err(error) => failure(number, error),
        },
        Some(Ok(Some(Err(error)))) => failure(number, error),
        Some(Ok(None)) => format!("{{\"end\":true{}", suffix(number)),
        Some(Err(_)) => failure(number, Error::internal("a stream panicked")),
        None => cancellation(number),
    };
    drop(source);
    Step { number, source: None, message }
}

/// Returns the end of a message of a stream.
fn suffix(number: u64) -> String {
    format!(",\"stream\":{number}}}")
}

fn failure(number: u64, error: Error) -> String {
    let mut message = error.into_answer();
    // Its last brace.
    message.pop();
    message + &suffix(number)
}

fn cancellation(number: u64) -> String {
    failure(number, Error::cancelled())
}

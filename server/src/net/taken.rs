//! Ends answers over HTTP/2 of which the client takes nothing: connections of HTTP/1.1 are limited by their writes, but here a client
//! can leave one stream waiting and read the others.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tracing::debug;

use crate::net::timed::STALL;

/// The largest part of an answer that is handed to h2 at once. It buffers what it is handed, whatever the client's windows are.
const PART: usize = 16 * 1024;

tokio::task_local! {
    /// When the answer of the stream handed over the part that the client has no window for.
    static HANDED: Cell<Option<Instant>>;
}

/// The body of an answer, in parts. hyper asks for the next part once there is room for the one before.
#[derive(Debug)]
pub(crate) struct InParts<B> {
    body: B,
    rest: Bytes,
}

impl<B> InParts<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body, rest: Bytes::new() }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for InParts<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        hand(None);
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            }
        }
        hand(Some(Instant::now()));
        let length = self.rest.len().min(PART);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (waiting, rest) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + waiting);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + waiting);
        }
        hint
    }
}

fn hand(at: Option<Instant>) {
    // Only tasks of streams have it.
    let _ = HANDED.try_with(|handed| handed.set(at));
}

/// Runs the task of a stream, until it ends or its client has taken nothing of the answer for [`STALL`]. The stream is reset then.
pub(crate) async fn limit_stall(mut task: impl Future + Unpin) {
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let limited = poll_fn(|cx| {
        if Pin::new(&mut task).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(handed) = HANDED.with(Cell::get) else { return Poll::Pending };
        let until = handed + STALL;
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        ready!(timer.as_mut().poll(cx));
        debug!("a client takes nothing of an answer");
        Poll::Ready(())
    });
    HANDED.scope(Cell::new(None), limited).await;
}

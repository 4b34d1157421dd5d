//! Ends connections whose clients are silent or read nothing: bounds the time of a request's head, the time between two requests, and the
//! time in which a client takes nothing of an answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Response, StatusCode};
use futures_util::task::AtomicWaker;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// The timeout for the head of a request, from its first byte on; the first head of a connection, from when the
/// connection is there. Much longer than any network takes, and short enough that clients that send it byte by byte do not add up.
pub(crate) const HEAD: Duration = Duration::from_secs(10);

/// How long a connection may be without a request once it has had one. Longer than the 60 s for which common balancers
/// keep one: if the server ended it first, a request that is under way would be lost, and the balancer answer 502.
pub(crate) const IDLE: Duration = Duration::from_secs(75);

/// How long a client may take nothing of an answer: as long as the peer of a link.
pub(crate) const STALL: Duration = Duration::from_secs(120);

/// The event that a connection waits for: the remainder of [`Requests`]' count by four.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Head,
    /// A request is being answered.
    Busy,
    Idle,
    /// The connection is no longer HTTP's.
    Upgraded,
}

/// Where a connection is in its sequence of requests, for its stream and for its service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Phases that have begun, the first being 0.
    count: AtomicUsize,
    /// The task that waits for the stream while a request is being answered.
    reader: AtomicWaker,
}

impl Requests {
    fn phase(&self) -> (usize, Phase) {
        let count = self.0.count.load(Ordering::Acquire);
        let phase = match count % 4 {
            0 => Phase::Head,
            1 => Phase::Busy,
            2 => Phase::Idle,
            _ => Phase::Upgraded,
        };
        (count, phase)
    }

    /// Returns whether a request is being answered.
    pub(crate) fn is_busy(&self) -> bool {
        self.phase().1 == Phase::Busy
    }

    /// Goes on to the next phase of a kind.
    fn enter(&self, phase: Phase) -> usize {
        loop {
            self.0.count.fetch_add(1, Ordering::AcqRel);
            let (count, entered) = self.phase();
            if entered == phase {
                return count;
            }
        }
    }

    /// A head is complete. The request lasts until the returned value is dropped.
    pub(crate) fn begin(&self) -> Arc<Request> {
        Arc::new(Request { busy: self.enter(Phase::Busy), requests: self.clone() })
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Request {
    requests: Requests,
    /// The count of the phase, so that it ends no later one.
    busy: usize,
}

impl Request {
    /// Ends its phase, and begins the phase that is `steps` later.
    fn end(&self, steps: usize) {
        let Shared { count, reader } = &*self.requests.0;
        if count.compare_exchange(self.busy, self.busy + steps, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            reader.wake();
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.end(Phase::Idle as usize - Phase::Busy as usize);
    }
}

/// A body that belongs to a request `R`, in either direction.
#[derive(Debug)]
pub(crate) struct Counted<R> {
    body: Body,
    _request: Arc<R>,
}

impl<R> Counted<R> {
    /// Binds a body to its request: the request lasts for as long as the body.
    pub(crate) fn new(body: Body, request: Arc<R>) -> Self {
        Self { body, _request: request }
    }
}

impl Counted<Request> {
    /// Binds the body of a response.
    pub(crate) fn response(response: Response<Body>, request: Arc<Request>) -> Response<Self> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            request.end(Phase::Upgraded as usize - Phase::Busy as usize);
        }
        response.map(|body| Self::new(body, request))
    }
}

impl<R> HttpBody for Counted<R> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that ends, as if the client had ended it, when a head or the next request takes too long, or the client takes nothing of
/// an answer.
pub(crate) struct Timed<S> {
    stream: S,
    requests: Requests,
    /// With the count of requests for which it runs.
    timer: Option<(usize, Pin<Box<Sleep>>)>,
    /// Runs while there is something to write and no room for it.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Timed<S> {
    pub(crate) fn new(stream: S, requests: Requests) -> Self {
        Self { stream, requests, timer: None, stalled: None }
    }

    /// Fails a write once the client has taken nothing for too long. Upgraded connections have rules of their own.
    fn limit_stall<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() || self.requests.phase().1 == Phase::Upgraded {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.requests.phase().1 == Phase::Busy {
            // Looked at again below: the request may end meanwhile.
            self.requests.0.reader.register(cx.waker());
        }
        let (count, phase) = self.requests.phase();
        let limit = match phase {
            Phase::Busy | Phase::Upgraded => return polled,
            Phase::Head => HEAD,
            Phase::Idle => IDLE,
        };
        if polled.is_ready() {
            if phase == Phase::Idle && buffer.filled().len() > before {
                self.requests.enter(Phase::Head);
            }
            return polled;
        }
        if self.timer.as_ref().is_none_or(|(begun, _)| *begun != count) {
            self.timer = Some((count, Box::pin(tokio::time::sleep(limit))));
        }
        match &mut self.timer {
            Some((_, timer)) => timer.as_mut().poll(cx).map(Ok),
            None => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.limit_stall(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.limit_stall(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS takes 64 KiB before a write has no room.
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.limit_stall(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

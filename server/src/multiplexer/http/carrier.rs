//! One HTTP carrier: takes in what its client sends, and answers with what the server sends.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode};
use futures_util::StreamExt;
use manysocket_protocol::Token;
use tokio::io::AsyncWrite;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answers::{Answers, MOST};
use super::command::Kind;
use crate::metrics::stats::Counted;
use crate::ws::duplex::Duplex;

/// How long the next part of a request may take, as the head of one.
const PART: Duration = Duration::from_secs(10);

/// A carrier.
#[derive(Debug)]
pub(super) struct Carrier {
    id: Token,
    /// The origin of the page that has opened it.
    origin: Option<HeaderValue>,
    /// This end of the tunnel to the link, until the carrier ends.
    tunnel: Mutex<Option<Duplex>>,
    ended: CancellationToken,
    /// The number of bytes that the client has sent. A request that sends holds the lock.
    received: tokio::sync::Mutex<u64>,
    /// The answers to requests that receive; a stream has none.
    answers: Option<Answers>,
    _counted: Counted,
}

impl Carrier {
    pub(super) fn new(
        id: Token,
        kind: Kind,
        origin: Option<HeaderValue>,
        tunnel: Duplex,
        counted: Counted,
    ) -> Self {
        Self {
            id,
            origin,
            tunnel: Mutex::new(Some(tunnel)),
            ended: CancellationToken::new(),
            received: tokio::sync::Mutex::new(0),
            answers: (kind == Kind::Poll).then(Answers::new),
            _counted: counted,
        }
    }

    pub(super) fn id(&self) -> &Token {
        &self.id
    }

    pub(super) fn origin(&self) -> Option<&HeaderValue> {
        self.origin.as_ref()
    }

    pub(super) fn is_poll(&self) -> bool {
        self.answers.is_some()
    }

    /// Ends both directions.
    pub(super) fn end(&self) {
        self.ended.cancel();
        let tunnel = self.lock().take();
        // Without the lock: it wakes those that wait for the tunnel.
        drop(tunnel);
    }

    /// Takes in bytes that the client sends, from an offset in all that it sends on. Those that are known are skipped.
    ///
    /// # Errors
    /// Returns the status of a refusal.
    pub(super) async fn send(&self, offset: u64, body: Body) -> Result<(), StatusCode> {
        let Ok(mut received) = self.received.try_lock() else { return Err(StatusCode::CONFLICT) };
        if offset > *received {
            return Err(StatusCode::CONFLICT);
        }
        let mut known = *received - offset;
        let mut parts = body.into_data_stream();
        let taking = async {
            loop {
                let part = match timeout(PART, parts.next()).await {
                    Ok(Some(part)) => part.map_err(|_| StatusCode::BAD_REQUEST)?,
                    Ok(None) => return Ok(()),
                    Err(_) => return Err(StatusCode::REQUEST_TIMEOUT),
                };
                let skipped = known.min(part.len() as u64);
                known -= skipped;
                let mut rest = &part[skipped as usize..];
                while !rest.is_empty() {
                    let written = poll_fn(|cx| self.poll_put(cx, rest)).await.ok_or(StatusCode::GONE)?;
                    // At once: the request may be cancelled.
                    *received += written as u64;
                    rest = &rest[written..];
                }
            }
        };
        self.ended.run_until_cancelled(taking).await.unwrap_or(Err(StatusCode::GONE))
    }

    /// Returns the next bytes of the server, from an offset in all that it sends on; none if there are none for long.
    ///
    /// # Errors
    /// Returns the status of a refusal.
    pub(super) async fn receive(&self, offset: u64) -> Result<Bytes, StatusCode> {
        let answers = self.answers.as_ref().ok_or(StatusCode::CONFLICT)?;
        answers.answer(offset, |cx| self.poll_take(cx, MOST)).await
    }

    /// Waits until no request to receive has come for long.
    pub(super) async fn abandoned(&self) {
        if let Some(answers) = &self.answers {
            self.ended.run_until_cancelled(answers.abandoned()).await;
        }
    }

    /// Takes bytes of the server; none at the end.
    pub(super) fn poll_take(&self, cx: &mut Context<'_>, most: usize) -> Poll<Bytes> {
        match &mut *self.lock() {
            Some(tunnel) => tunnel.poll_take(cx, most),
            None => Poll::Ready(Bytes::new()),
        }
    }

    /// Writes bytes of the client; `None` at the end.
    fn poll_put(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Option<usize>> {
        match &mut *self.lock() {
            Some(tunnel) => Pin::new(tunnel).poll_write(cx, bytes).map(Result::ok),
            None => Poll::Ready(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Duplex>> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

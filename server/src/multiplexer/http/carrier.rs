//! One HTTP carrier: accepts the bytes of its client, and answers with the bytes of the server.

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
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answers::{Answers, MOST};
use super::command::Kind;
use crate::metrics::stats::Counted;
use crate::ws::duplex::Duplex;

/// How long the next part of a request may take, as the head of one.
const PART: Duration = Duration::from_secs(10);

/// How long a request waits for the one before, from the last byte that has arrived: as long as a page that goes away has for its last
/// words (`carriers::LEAVING`).
const GAP: Duration = Duration::from_secs(3);

/// How many requests may send at the same time: one that is stuck on its way, the same one again, and the last words of a page.
const MOST_SENDING: u64 = 3;

/// A carrier.
#[derive(Debug)]
pub(super) struct Carrier {
    id: Token,
    /// The origin of the page that has opened it.
    origin: Option<HeaderValue>,
    /// This end of the tunnel to the link, until the carrier ends.
    tunnel: Mutex<Option<Duplex>>,
    ended: CancellationToken,
    /// The number of bytes of the client that have been taken.
    taken: watch::Sender<u64>,
    /// Held by the request that writes a part into the tunnel.
    writing: tokio::sync::Mutex<()>,
    /// The number of requests that have sent.
    requests: watch::Sender<u64>,
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
            taken: watch::Sender::new(0),
            writing: tokio::sync::Mutex::default(),
            requests: watch::Sender::new(0),
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
    /// Several requests may have the same bytes, and arrive in any order: each byte is taken from the first that brings it.
    ///
    /// # Errors
    /// Returns the status of a refusal.
    pub(super) async fn send(&self, offset: u64, body: Body) -> Result<(), StatusCode> {
        let mut requests = self.requests.subscribe();
        let mut number = 0;
        self.requests.send_modify(|newest| {
            *newest += 1;
            number = *newest;
        });
        tokio::select! {
            biased;
            () = self.ended.cancelled() => Err(StatusCode::GONE),
            _ = requests.wait_for(|newest| *newest >= number + MOST_SENDING) => Err(StatusCode::CONFLICT),
            taken = self.take_all(offset, number, body) => taken,
        }
    }

    async fn take_all(&self, offset: u64, number: u64, body: Body) -> Result<(), StatusCode> {
        self.reached(offset).await?;
        let mut at = offset;
        let mut parts = body.into_data_stream();
        loop {
            let part = match timeout(PART, parts.next()).await {
                Ok(Some(part)) => part.map_err(|_| StatusCode::BAD_REQUEST)?,
                Ok(None) => return Ok(()),
                // Another request has brought the rest, or may do so.
                Err(_) if at < *self.taken.borrow() || number < *self.requests.borrow() => {
                    return Err(StatusCode::CONFLICT);
                }
                Err(_) => return Err(StatusCode::REQUEST_TIMEOUT),
            };
            self.take(at, &part).await?;
            at += part.len() as u64;
        }
    }

    /// Waits until all bytes before an offset have been taken.
    async fn reached(&self, offset: u64) -> Result<(), StatusCode> {
        let mut taken = self.taken.subscribe();
        while *taken.borrow_and_update() < offset {
            // The sender lives as long as this.
            let _ = timeout(GAP, taken.changed()).await.map_err(|_| StatusCode::CONFLICT)?;
        }
        Ok(())
    }

    /// Takes a part of which all bytes before have been taken.
    async fn take(&self, at: u64, part: &[u8]) -> Result<(), StatusCode> {
        let _writing = self.writing.lock().await;
        let known = (*self.taken.borrow() - at).min(part.len() as u64);
        let mut rest = &part[known as usize..];
        while !rest.is_empty() {
            let written = poll_fn(|cx| self.poll_put(cx, rest)).await.ok_or(StatusCode::GONE)?;
            // At once: the request may be cancelled.
            self.taken.send_modify(|taken| *taken += written as u64);
            rest = &rest[written..];
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use futures_util::stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::link::resumptions::new_token;
    use crate::metrics::stats::Stats;

    /// Random numbers that a seed determines (xorshift).
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % end as u64) as usize
        }
    }

    fn carrier(limit: usize) -> (Arc<Carrier>, Duplex) {
        let (near, far) = Duplex::pair(limit);
        let counted = Stats::default().count_carrier(false);
        let id = new_token().expect("random numbers");
        (Arc::new(Carrier::new(id, Kind::Poll, None, far, counted)), near)
    }

    /// The bytes of the client and the server: each is known by its place.
    fn bytes(range: std::ops::Range<usize>) -> Vec<u8> {
        range.map(|at| (at * 31 / 7) as u8).collect()
    }

    /// A body in parts, which may break before its end.
    fn body(content: &[u8], random: &mut Random) -> Body {
        let mut parts: Vec<Result<Vec<u8>, &str>> = Vec::new();
        let mut rest = content;
        while !rest.is_empty() {
            let (part, more) = rest.split_at(1 + random.below(rest.len()));
            parts.push(Ok(part.to_vec()));
            rest = more;
        }
        if random.below(3) == 0 {
            parts.truncate(random.below(parts.len() + 1));
            parts.push(Err("broken"));
        }
        Body::from_stream(stream::iter(parts))
    }

    /// A body that stops before its end.
    fn stuck(content: &[u8], random: &mut Random) -> Body {
        let part = content[..random.below(content.len() + 1)].to_vec();
        Body::from_stream(stream::iter([Ok::<_, Infallible>(part)]).chain(stream::pending()))
    }

    /// Sends all bytes, in requests that overlap, break, get stuck, are repeated, and overtake each other.
    async fn send_all(carrier: &Carrier, total: usize, mut random: Random) {
        let mut confirmed = 0;
        while confirmed < total {
            // The client may not know that more has arrived.
            let start = confirmed - random.below(confirmed.min(40) + 1);
            let end = (start + random.below(100)).min(total);
            let next = (end + random.below(50)).min(total);
            let all = bytes(start..end);
            let first = carrier.send(start as u64, body(&all, &mut random));
            let sent = match random.below(4) {
                0 => first.await,
                // The same again, of which one gets stuck.
                1 => {
                    let other = carrier.send(start as u64, stuck(&all, &mut random));
                    tokio::select! {
                        biased;
                        sent = other => sent,
                        sent = first => sent,
                    }
                }
                2 => {
                    let other = carrier.send(start as u64, stuck(&all, &mut random));
                    tokio::select! {
                        biased;
                        sent = first => sent,
                        sent = other => sent,
                    }
                }
                // The next request arrives before this one.
                _ => {
                    let later = carrier.send(end as u64, Body::from(bytes(end..next)));
                    let (later, sent) = tokio::join!(later, first);
                    // It has waited in vain for a request that has broken.
                    assert!(
                        later == Ok(()) || sent.is_err() && later == Err(StatusCode::CONFLICT),
                        "{later:?}"
                    );
                    if later.is_ok() {
                        confirmed = confirmed.max(next);
                    }
                    sent
                }
            };
            match sent {
                Ok(()) => confirmed = confirmed.max(end),
                Err(status) => assert_eq!(status, StatusCode::BAD_REQUEST),
            }
            let known = *carrier.taken.borrow() as usize;
            assert!(known >= confirmed);
            let gap = body(&[0; 9], &mut random);
            assert_eq!(carrier.send(known as u64 + 1, gap).await, Err(StatusCode::CONFLICT));
        }
    }

    /// Receives all bytes. Some answers are lost, and some requests are given up, repeated or displaced by others.
    async fn receive_all(carrier: &Carrier, total: usize, mut random: Random) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < total {
            let at = all.len() as u64;
            match random.below(5) {
                0 => drop(carrier.receive(at).await),
                1 => {
                    let (first, second, third) =
                        tokio::join!(carrier.receive(at), carrier.receive(at), carrier.receive(at));
                    assert!(first == Err(StatusCode::CONFLICT) || first == second, "{first:?} {second:?}");
                    assert_eq!(second, third);
                }
                2 => {
                    let given_up = timeout(Duration::from_millis(1), carrier.receive(at)).await;
                    drop(given_up);
                }
                _ => all.extend_from_slice(&carrier.receive(at).await.expect("an answer")),
            }
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn each_byte_passes_once_whatever_happens_to_requests() {
        const TOTAL: usize = 3_000;
        for seed in 1..=50_u64 {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let (carrier, near) = carrier(1 + random.below(200));
            let (mut reader, mut writer) = tokio::io::split(near);
            let writing = async {
                let mut at = 0;
                while at < TOTAL {
                    let end = (at + 1 + random.below(300)).min(TOTAL);
                    writer.write_all(&bytes(at..end)).await.expect("a reader");
                    at = end;
                    tokio::task::yield_now().await;
                }
            };
            let reading = async {
                let mut all = vec![0; TOTAL];
                reader.read_exact(&mut all).await.expect("a writer");
                all
            };
            let (seeds, others) = (Random(seed), Random(seed ^ 0xffff));
            let (_, arrived, (), received) = tokio::join!(
                writing,
                reading,
                send_all(&carrier, TOTAL, seeds),
                receive_all(&carrier, TOTAL, others)
            );
            assert!(arrived == bytes(0..TOTAL), "seed {seed}");
            assert!(received == bytes(0..TOTAL), "seed {seed}");
        }
    }

    #[tokio::test]
    async fn a_carrier_that_ends_ends_its_requests() {
        let (carrier, near) = carrier(4);
        let never = Body::from_stream(stream::pending::<Result<Vec<u8>, Infallible>>());
        let full = Body::from("more than there is room for");
        for body in [never, full] {
            let (carrier, _near) = self::carrier(4);
            let (sent, received, ()) = tokio::join!(carrier.send(0, body), carrier.receive(0), async {
                tokio::task::yield_now().await;
                carrier.end();
            });
            assert_eq!((sent, received), (Err(StatusCode::GONE), Err(StatusCode::GONE)));
        }
        drop(near);
        assert_eq!(carrier.receive(0).await, Err(StatusCode::GONE));
        assert_eq!(carrier.send(0, Body::from("x")).await, Err(StatusCode::GONE));
    }
}

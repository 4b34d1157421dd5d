//! The task of one link: it moves physical messages between the physical WebSocket and the protocol's client.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::{self, Either};
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::client::Timeout;
use manysocket_protocol::{ABANDONED, NOT_RESUMED, Physical, Violation};
use tokio::time::Sleep;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Message as WsMessage, Utf8Bytes};
use tracing::debug;

use super::Carrier;
use super::dial::{self, Dialled, Wire};
use super::link::{Link, State};
use super::seek::{Found, Seek, Sought};
use super::target::Target;

/// Physical messages that are read before answers are written: as the server's link.
const READS: usize = 32;

/// Rounds of reading and writing before other tasks of the runtime have their turn: as the server's link.
const ROUNDS: usize = 8;

/// How long the server has to answer the physical Close, as the server's link.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection ended.
enum End {
    /// It is gone.
    Lost,
    /// The server has shown no sign of life: another connection may.
    Silent,
    /// The server does not know the link that the connection was to resume.
    Refused,
    /// The server broke the protocol.
    Violation(Violation),
    /// No socket has used the link for its idle timeout.
    Idle,
    /// The link goes over HTTP, and a WebSocket has opened.
    Found(Box<Found>),
}

struct Driver {
    link: Arc<Link>,
    wire: Wire,
    /// A WebSocket that is sought while the link goes over HTTP.
    sought: Option<Sought>,
    timer: Option<Pin<Box<Sleep>>>,
    needs_flush: bool,
}

/// Drives a link until it ends, over a connection and those that follow it.
pub(super) async fn drive(link: Arc<Link>, (mut wire, mut carrier): Dialled, target: &Target) {
    let mut seek = Seek::default();
    let (ended, mut wire) = loop {
        let sought = (carrier != Carrier::WebSocket && target.carriers.has_websocket())
            .then(|| seek.begin(Arc::clone(&link), target.clone()));
        {
            let mut state = link.lock();
            (state.unflushed, state.untaken) = (0, 0);
            state.carrier = Some(carrier);
        }
        let mut driver = Driver { link: Arc::clone(&link), wire, sought, timer: None, needs_flush: false };
        let end = std::future::poll_fn(|cx| driver.poll(cx)).await;
        link.lock().carrier = None;
        seek.ended(target);
        let is_due = matches!(end, End::Silent);
        let next = match end {
            End::Found(found) if carrier_lost(&link) => {
                tokio::spawn(abandon(driver.wire));
                resume(&link);
                seek.found(&found);
                Some((found.wire, Carrier::WebSocket))
            }
            End::Lost if carrier_lost(&link) => redial(&link, target, is_due).await,
            End::Silent => redial(&link, target, is_due).await,
            end => break (end, driver.wire),
        };
        (wire, carrier) = match next {
            Some(dialled) => dialled,
            None => return finish(&link, false),
        };
    };
    let close = match ended {
        End::Lost | End::Silent | End::Refused | End::Found(_) => return finish(&link, false),
        End::Violation(violation) => {
            CloseFrame { code: violation.code().into(), reason: violation.reason().into() }
        }
        End::Idle => CloseFrame { code: 1000.into(), reason: Utf8Bytes::default() },
    };
    let farewell = {
        let mut state = link.lock();
        let now = state.now();
        let says_so = state.client.forbid_resumption();
        says_so.then(|| state.client.poll_transmit(now, 0)).flatten()
    };
    if !matches!(ended, End::Idle) {
        finish(&link, true);
    }
    let closing = async {
        if let Some(farewell) = farewell {
            wire.send(message_of(farewell)).await?;
        }
        wire.close(Some(close)).await?;
        while let Some(Ok(_)) = wire.next().await {}
        Ok::<(), tokio_tungstenite::tungstenite::Error>(())
    };
    // Whether the server answers in time changes nothing: no socket uses the link any more.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
}

/// Gives a connection up, and not its link.
async fn abandon(mut wire: Wire) {
    let close = CloseFrame { code: ABANDONED.into(), reason: Utf8Bytes::default() };
    let closing = async {
        wire.close(Some(close)).await?;
        while let Some(Ok(_)) = wire.next().await {}
        Ok::<(), tokio_tungstenite::tungstenite::Error>(())
    };
    // The server has the other carrier, however it answers this one.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
}

/// Resumes the link over an open connection.
fn resume(link: &Link) {
    // The link is to dial now, and has done so.
    let _ = handle_timeout(link);
    let mut state = link.lock();
    let now = state.now();
    state.client.redialled(now);
}

/// Takes in that a connection is lost, or could not be made. Returns whether the link waits for another one.
fn carrier_lost(link: &Link) -> bool {
    let mut state = link.lock();
    let now = state.now();
    // Keyed at random, once in a process and for each use.
    state.client.carrier_lost(now, RandomState::new().hash_one(now) as u32)
}

/// Dials until a connection opens. `is_due`: at once. Returns `None` if the link has ended meanwhile.
async fn redial(link: &Link, target: &Target, is_due: bool) -> Option<Dialled> {
    let dial = || {
        let parameter = link.lock().client.resume_query();
        async move { dial::dial(target, &parameter).await }
    };
    let mut dialling = is_due.then(|| Box::pin(dial()));
    loop {
        let timer = Box::pin(tokio::time::sleep_until(link.lock().timeout()?));
        let dialled = match &mut dialling {
            Some(dialling) => match future::select(dialling, timer).await {
                Either::Left((dialled, _)) => Some(dialled),
                Either::Right(_) => None,
            },
            None => {
                timer.await;
                None
            }
        };
        match dialled {
            Some(Ok(dialled)) => {
                let mut state = link.lock();
                let now = state.now();
                state.client.redialled(now);
                return Some(dialled);
            }
            Some(Err(error)) => {
                debug!("the link cannot be resumed yet: {error}");
                dialling = None;
                if !carrier_lost(link) {
                    return None;
                }
            }
            None => match handle_timeout(link) {
                // An attempt that takes longer than the protocol's client allows is given up.
                Ok(Timeout::Dial) => dialling = Some(Box::pin(dial())),
                Ok(Timeout::Drain | Timeout::Silent) => {}
                Ok(Timeout::Idle | Timeout::Lost) | Err(_) => return None,
            },
        }
    }
}

/// Does the due work of a link.
fn handle_timeout(link: &Link) -> Result<Timeout, Violation> {
    let mut state = link.lock();
    let now = state.now();
    let timeout = state.client.handle_timeout(now);
    // Under the same lock: no socket opens over a link that is about to close.
    state.has_ended |= matches!(timeout, Ok(Timeout::Idle | Timeout::Lost));
    let wakers = state.deliver();
    drop(state);
    wake(wakers);
    timeout
}

/// Ends all sockets of a link. `failed`: the link failed, as one does whose server breaks the protocol or cannot be reached.
pub(super) fn finish(link: &Link, failed: bool) {
    let mut state = link.lock();
    state.has_ended = true;
    state.client.lost(failed);
    let wakers = state.deliver();
    drop(state);
    wake(wakers);
}

pub(super) fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.link.driver.register(cx.waker());
        for _ in 0..ROUNDS {
            match self.poll_round(cx) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(end) => return Poll::Ready(end),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads, handles due timeouts, and writes. Returns whether there may be more to do at once.
    fn poll_round(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if let Some(sought) = &mut self.sought
            && let Poll::Ready(found) = sought.as_mut().poll(cx)
        {
            return Err(End::Found(found));
        }
        let mut progress = self.poll_read(cx)?;
        progress |= self.poll_timer(cx)?;
        progress |= self.poll_write(cx)?;
        Ok(progress)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut progress = false;
        for _ in 0..READS {
            let message = match self.wire.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(WsMessage::Text(text)))) => Physical::Text(text.into()),
                Poll::Ready(Some(Ok(WsMessage::Binary(bytes)))) => Physical::Binary(bytes),
                Poll::Ready(Some(Ok(WsMessage::Ping(_) | WsMessage::Pong(_) | WsMessage::Frame(_)))) => {
                    progress = true;
                    continue;
                }
                Poll::Ready(Some(Ok(WsMessage::Close(Some(close)))))
                    if u16::from(close.code) == NOT_RESUMED && self.link.lock().client.is_interrupted() =>
                {
                    return Err(End::Refused);
                }
                Poll::Ready(Some(Ok(WsMessage::Close(_)) | Err(_)) | None) => return Err(End::Lost),
                Poll::Pending => break,
            };
            progress = true;
            self.with(|state| {
                let now = state.now();
                state.client.receive(now, message)
            })
            .map_err(End::Violation)?;
        }
        Ok(progress)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let Some(at) = self.link.lock().timeout() else { return Ok(false) };
        let timer = match &mut self.timer {
            Some(timer) => {
                if timer.deadline() != at {
                    timer.as_mut().reset(at);
                }
                timer
            }
            None => self.timer.insert(Box::pin(tokio::time::sleep_until(at))),
        };
        if timer.as_mut().poll(cx).is_pending() {
            return Ok(false);
        }
        match handle_timeout(&self.link) {
            Ok(Timeout::Idle) => Err(End::Idle),
            // A program's open waits, or fails with the link.
            Ok(Timeout::Drain | Timeout::Silent) => Ok(true),
            Ok(Timeout::Dial) => Err(End::Silent),
            Ok(Timeout::Lost) => Err(End::Lost),
            Err(violation) => Err(End::Violation(violation)),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut progress = false;
        loop {
            match self.wire.poll_ready_unpin(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Err(End::Lost),
                Poll::Pending => return Ok(progress),
            }
            let mut state = self.link.lock();
            let (now, unflushed) = (state.now(), state.unflushed);
            let Some(message) = state.client.poll_transmit(now, unflushed) else { break };
            let message = message_of(message);
            state.unflushed += message.len() as u64;
            drop(state);
            self.wire.start_send_unpin(message).map_err(|_| End::Lost)?;
            self.needs_flush = true;
            progress = true;
        }
        // The client may have refused opens beyond the server's limit.
        self.with(|_| ());
        if self.needs_flush {
            match self.wire.poll_flush_unpin(cx) {
                Poll::Ready(Ok(())) => self.needs_flush = false,
                Poll::Ready(Err(_)) => return Err(End::Lost),
                Poll::Pending => {}
            }
        }
        self.count_unflushed(cx);
        Ok(progress)
    }

    /// Counts the written bytes that wait in this process, and wakes the sockets that wait for room.
    fn count_unflushed(&self, cx: &Context<'_>) {
        let untaken = self.wire.get_ref().untaken(cx);
        // How much the WebSocket buffers besides is not known meanwhile.
        if self.needs_flush {
            return;
        }
        let mut state = self.link.lock();
        if (state.unflushed, state.untaken) == (untaken, untaken) {
            return;
        }
        (state.unflushed, state.untaken) = (untaken, untaken);
        let wakers = state.unblock();
        drop(state);
        wake(wakers);
    }

    /// Changes the state, and passes the resulting events to the sockets.
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.link.lock();
        let result = change(&mut state);
        let wakers = state.deliver();
        drop(state);
        wake(wakers);
        result
    }
}

fn message_of(message: Physical) -> WsMessage {
    match message {
        Physical::Binary(bytes) => WsMessage::Binary(bytes),
        Physical::Text(bytes) => match Utf8Bytes::try_from(bytes) {
            Ok(text) => WsMessage::Text(text),
            Err(_) => unreachable!("the client makes texts of texts"),
        },
    }
}

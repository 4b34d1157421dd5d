//! The connection of a replica: it is opened again when it is lost, and resumes by version.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::{Sink, Stream, StreamExt, future};
use manysocket_protocol::client::SocketClose;
use serde_json::Value;
use tokio::sync::watch;
use tracing::debug;

use super::error::StateError;
use super::messages::{Incoming, Outgoing};
use super::replica::Replica;
use crate::native::{Error, Message, MultiWebSocket, WebSocket};

/// The time before the first new attempt, and the most that it doubles to. The actual time is random, so that replicas do not all
/// come back at once.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(10);

/// A client may not send 1002, "protocol error", itself.
const GIVEN_UP: u16 = 4002;

/// A replica, shared by its handles and the task of its connection.
pub(super) struct Shared {
    inner: Mutex<Inner>,
    /// Notified of each change of the data.
    news: watch::Sender<()>,
    multi: MultiWebSocket,
    url: String,
}

pub(super) struct Inner {
    pub(super) replica: Replica,
    pub(super) is_closed: bool,
    /// The task of the connection.
    waker: Option<Waker>,
}

impl Shared {
    /// Opens a document, and starts the task of its connection.
    pub(super) async fn open(multi: &MultiWebSocket, url: &str) -> Result<Arc<Self>, StateError> {
        let unreachable = |why: String| StateError::Unreachable(format!("{url}: {why}"));
        let mut socket = multi.open(url).map_err(|error| unreachable(error.to_string()))?;
        let message = match socket.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(unreachable(error.to_string())),
            None => {
                let SocketClose { code, reason, .. } = socket.closed().await;
                return Err(unreachable(format!("closed with {code} {reason}")));
            }
        };
        let replica = parse(&message).ok().and_then(Replica::new);
        let replica =
            replica.ok_or_else(|| unreachable("it answers with something that is no document".into()))?;
        let shared = Arc::new(Self {
            inner: Mutex::new(Inner { replica, is_closed: false, waker: None }),
            news: watch::Sender::new(()),
            multi: multi.clone(),
            url: url.to_owned(),
        });
        tokio::spawn(run(Arc::clone(&shared), socket));
        Ok(shared)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Changes the replica, and wakes the task of the connection and the watchers.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let result = change(&mut inner);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        self.news.send_replace(());
        result
    }

    /// Closes the document for good. Commits that are not answered fail.
    pub(super) fn close(&self) {
        self.change(|inner| {
            inner.is_closed = true;
            inner.replica.refuse(&StateError::Closed);
        });
    }

    pub(super) fn data(&self) -> Value {
        self.lock().replica.data.clone()
    }

    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// The URL of the next connection: it names the version that is there already.
    fn resumption(&self) -> String {
        let Inner { replica: Replica { document, version, .. }, .. } = &*self.lock();
        let separator = if self.url.contains('?') { '&' } else { '?' };
        let document: String = url::form_urlencoded::byte_serialize(document.as_bytes()).collect();
        format!("{}{separator}document={document}&since={version}", self.url)
    }

    /// Waits until the document is closed.
    fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.is_closed {
            return Poll::Ready(());
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// How a connection has ended.
enum End {
    /// The document is closed for good.
    Closed,
    /// The server has closed it, or the network is gone.
    Lost,
    /// A message of the server does not fit.
    Invalid,
}

async fn run(shared: Arc<Shared>, first: WebSocket) {
    let mut delay = FIRST_DELAY;
    let mut socket = Some(first);
    // The first message of the first connection has been read.
    let mut is_open = true;
    loop {
        if let Some(mut connection) = socket.take() {
            match converse(&shared, &mut connection, is_open, &mut delay).await {
                End::Closed => return,
                End::Invalid => delay = LAST_DELAY,
                End::Lost => lost(&shared, &connection.closed().await),
            }
        }
        let mut sleep = std::pin::pin!(tokio::time::sleep(delay.mul_f64(random())));
        let is_closed = future::poll_fn(|cx| match shared.poll_closed(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => sleep.as_mut().poll(cx).map(|()| false),
        });
        if is_closed.await {
            return;
        }
        delay = (delay * 2).min(LAST_DELAY);
        is_open = false;
        socket = shared.multi.open(&shared.resumption()).inspect_err(|error| debug!("{error}")).ok();
    }
}

/// Exchanges messages over one connection. Before the first message of the server, nothing is sent.
async fn converse(shared: &Shared, socket: &mut WebSocket, mut is_open: bool, delay: &mut Duration) -> End {
    let mut pending = None;
    loop {
        let message =
            match future::poll_fn(|cx| poll_message(shared, socket, is_open, &mut pending, cx)).await {
                Ok(message) => message,
                Err(end) => return end,
            };
        let result =
            parse(&message).and_then(|message| shared.change(|inner| inner.replica.receive(message)));
        if let Err(why) = result {
            debug!(
                url = shared.url,
                "the connection was given up: the server's message is not valid here: {why}"
            );
            let _ = socket.close(Some(GIVEN_UP), "the server's message is not valid here");
            return End::Invalid;
        }
        *delay = FIRST_DELAY;
        if !std::mem::replace(&mut is_open, true) {
            pending = shared.lock().replica.unanswered().and_then(text_of);
        }
    }
}

/// Sends the commits that are due, and returns the next message of the server, or how the connection ended.
fn poll_message(
    shared: &Shared,
    socket: &mut WebSocket,
    is_open: bool,
    pending: &mut Option<String>,
    cx: &mut Context<'_>,
) -> Poll<Result<Message, End>> {
    if shared.poll_closed(cx).is_ready() {
        return Poll::Ready(Err(End::Closed));
    }
    if is_open && send_due(shared, socket, pending, cx).is_err() {
        return Poll::Ready(Err(End::Lost));
    }
    Pin::new(socket).poll_next(cx).map(|message| match message {
        Some(Ok(message)) => Ok(message),
        _ => Err(End::Lost),
    })
}

/// Sends the commits that are due while the socket accepts them; `pending` is one that waits for it.
fn send_due(
    shared: &Shared,
    socket: &mut WebSocket,
    pending: &mut Option<String>,
    cx: &mut Context<'_>,
) -> Result<(), Error> {
    loop {
        if pending.is_none() {
            *pending = shared.lock().replica.next(new_id).and_then(text_of);
        }
        if pending.is_none() {
            return Ok(());
        }
        match Pin::new(&mut *socket).poll_ready(cx) {
            Poll::Pending => return Ok(()),
            Poll::Ready(ready) => ready?,
        }
        if let Some(text) = pending.take() {
            Pin::new(&mut *socket).start_send(text.into())?;
        }
    }
}

/// RFC 6455 §7.4.1: a commit is the cause of some close codes, and would be again.
fn lost(shared: &Shared, close: &SocketClose) {
    let code = match close.code {
        1003 | 1007 | 1008 => "invalid",
        1009 => "too-large",
        _ => return,
    };
    shared.change(|inner| inner.replica.withhold(code, &close.reason, None));
}

fn parse(message: &Message) -> Result<Incoming, String> {
    match message {
        Message::Text(text) => serde_json::from_str(text).map_err(|error| error.to_string()),
        Message::Binary(_) => Err("the message is binary".into()),
    }
}

fn text_of(message: &Outgoing) -> Option<String> {
    serde_json::to_string(message).ok()
}

/// Enough that no two are ever the same: the server takes a commit with a known id for one that is sent again.
fn new_id() -> String {
    let bits = [getrandom::u64(), getrandom::u64()].map(Result::unwrap_or_default);
    format!("{:016x}{:016x}", bits[0], bits[1])
}

/// A random number from 0 to 1.
fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

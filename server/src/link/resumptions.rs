//! Connections that are to carry a link from now on: how they find it, and how they are refused.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::header;
use axum::http::request::Parts;
use manysocket_protocol::{NOT_RESUMED, Physical, Resume, Token};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};
use tracing::debug;

use super::dispatch::Dispatcher;
use crate::metrics::stats::Counted;
use crate::ws::connection::Connection;
use crate::ws::frame::Config;
use crate::ws::frames::{FramedSocket, Received};
use crate::ws::linger::linger;

/// The physical WebSocket of a link.
pub(crate) type Socket = FramedSocket<Connection>;

/// How long a connection may take from its upgrade until it has sent RESUME: as long as a client waits for the answer.
const ARRIVAL: Duration = Duration::from_secs(10);

/// How long a connection may take from its upgrade until it has sent the first batch.
const FIRST: Duration = Duration::from_secs(30);

/// The largest message of a connection that is to resume a link: RESUME has 27 bytes, and later versions may add to it.
const FIRST_MESSAGE: usize = 1024;

/// Connections that wait for a link's task to look at them. Its own client opens one at a time.
const WAITING: usize = 2;

/// The first message of a connection.
#[derive(Debug)]
pub(crate) enum Claim {
    Resume(Resume),
    /// The first batch once more, behind a second handshake. The sender takes the connection back if the link does not take it.
    Again(oneshot::Sender<Box<Arrival>>),
}

/// A connection that is to carry the link. It travels in a box: a channel of tokio has room for 32 items from the start, and
/// 32 arrivals took 12 KB of each link.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) socket: Socket,
    pub(crate) claim: Claim,
    pub(crate) handshake: Arc<Parts>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    /// The bytes of the handshake.
    pub(crate) head: usize,
}

/// An arrival that has to wait, because its link has been resumed often without progress.
#[derive(Debug)]
struct Delayed {
    arrival: Box<Arrival>,
    until: Pin<Box<Sleep>>,
}

/// The links that can be resumed, by their tokens. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resumptions(Arc<Shared>);

/// The keys are hashes under a secret key: how long a search takes says nothing about tokens. The link's task compares the
/// tokens themselves, in constant time.
#[derive(Debug, Default)]
struct Shared {
    hasher: RandomState,
    links: Mutex<HashMap<u64, mpsc::Sender<Box<Arrival>>>>,
    /// The links whose handshakes have a nonce.
    nonces: Mutex<HashMap<String, mpsc::Sender<Box<Arrival>>>>,
    /// How many links of each user wait.
    waiting: Mutex<HashMap<String, usize>>,
}

impl Resumptions {
    /// Returns the mailbox of a new link.
    ///
    /// # Errors
    /// Returns where connections of the link arrive that an earlier handshake with the same nonce has begun.
    pub(crate) fn open(&self, nonce: Option<String>) -> Result<Mailbox, mpsc::Sender<Box<Arrival>>> {
        let (sender, arrivals) = mpsc::channel(WAITING);
        if let Some(nonce) = &nonce {
            let mut nonces = self.nonces();
            if let Some(link) = nonces.get(nonce) {
                return Err(link.clone());
            }
            nonces.insert(nonce.clone(), sender.clone());
        }
        let resumptions = self.clone();
        Ok(Mailbox { resumptions, keys: Vec::new(), nonce, sender, arrivals, delayed: None })
    }

    /// Returns where connections of the link with a token arrive.
    pub(crate) fn find(&self, token: &Token) -> Option<mpsc::Sender<Box<Arrival>>> {
        self.lock().get(&self.key(token)).cloned()
    }

    fn nonces(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<Box<Arrival>>>> {
        self.0.nonces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, token: &Token) -> u64 {
        self.0.hasher.hash_one(token.bytes())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<Box<Arrival>>>> {
        self.0.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the connections of a link arrive, until it is dropped.
pub(crate) struct Mailbox {
    resumptions: Resumptions,
    keys: Vec<u64>,
    nonce: Option<String>,
    sender: mpsc::Sender<Box<Arrival>>,
    arrivals: mpsc::Receiver<Box<Arrival>>,
    /// Boxed: hardly any link has one.
    delayed: Option<Box<Delayed>>,
}

impl Mailbox {
    /// Sets the tokens that lead to the link.
    pub(crate) fn set_tokens(&mut self, tokens: [Option<Token>; 2]) {
        let mut links = self.resumptions.lock();
        for key in self.keys.drain(..) {
            links.remove(&key);
        }
        for token in tokens.into_iter().flatten() {
            let key = self.resumptions.key(&token);
            links.insert(key, self.sender.clone());
            self.keys.push(key);
        }
    }
}

/// A link of a user that waits, until it is dropped.
#[derive(Debug)]
pub(crate) struct WaitingOf {
    resumptions: Resumptions,
    user: String,
}

impl Drop for WaitingOf {
    fn drop(&mut self) {
        let mut waiting = self.resumptions.waiting();
        if let Some(count) = waiting.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.user);
            }
        }
    }
}

/// Counts a link that waits for its client.
#[derive(Debug)]
pub(crate) struct Parked {
    _all: Counted,
    _of_user: Option<WaitingOf>,
}

impl Parked {
    pub(crate) fn new(all: Counted, of_user: Option<WaitingOf>) -> Self {
        Self { _all: all, _of_user: of_user }
    }
}

impl Mailbox {
    /// Counts the link among those of its user that wait. Returns `None` if there are `most` already.
    pub(crate) fn wait_for(&self, user: String, most: usize) -> Option<WaitingOf> {
        let mut waiting = self.resumptions.waiting();
        let count = waiting.get(&user).copied().unwrap_or_default();
        (count < most).then(|| {
            waiting.insert(user.clone(), count + 1);
            WaitingOf { resumptions: self.resumptions.clone(), user }
        })
    }

    /// Returns whether a second handshake can find the link.
    pub(crate) fn has_nonce(&self) -> bool {
        self.nonce.is_some()
    }

    /// Returns a connection that has arrived, or whose delay is over. None that waits here counts for
    /// `max_resuming`.
    pub(crate) fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<Box<Arrival>> {
        if let Poll::Ready(Some(arrival)) = self.arrivals.poll_recv(cx) {
            return Poll::Ready(arrival);
        }
        let Some(delayed) = &mut self.delayed else { return Poll::Pending };
        ready!(delayed.until.as_mut().poll(cx));
        self.delayed.take().map_or(Poll::Pending, |delayed| Poll::Ready(delayed.arrival))
    }

    /// Has a connection wait until `until`. One that waits already is dropped: its client has begun another since.
    pub(crate) fn delay(&mut self, arrival: Box<Arrival>, until: Instant) {
        let until = Box::pin(tokio::time::sleep_until(until));
        if let Some(delayed) = self.delayed.replace(Box::new(Delayed { arrival, until })) {
            tokio::spawn(linger(delayed.arrival.socket));
        }
    }

    /// Returns the bytes of the connection that waits.
    pub(crate) fn delayed_bytes(&self) -> usize {
        let arrival = self.delayed.as_ref().map(|delayed| &delayed.arrival);
        arrival.map_or(0, |arrival| {
            let Arrival { socket, head, .. } = &**arrival;
            head + socket.held() + socket.io().held(false)
        })
    }

    /// Closes the mailbox: the link has ended. Connections that have arrived are refused.
    pub(crate) fn close(&mut self) {
        self.forget();
        self.arrivals.close();
        if let Some(delayed) = self.delayed.take() {
            delayed.arrival.refuse();
        }
        while let Ok(arrival) = self.arrivals.try_recv() {
            arrival.refuse();
        }
    }

    fn forget(&mut self) {
        self.set_tokens([None; 2]);
        if let Some(nonce) = self.nonce.take() {
            self.resumptions.nonces().remove(&nonce);
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        // A task that is cancelled has not closed it.
        self.forget();
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

impl Arrival {
    /// Refuses the connection. A client that has sent the first batch gets another link.
    pub(crate) fn refuse(mut self: Box<Self>) {
        let (none, _) = oneshot::channel();
        match std::mem::replace(&mut self.claim, Claim::Again(none)) {
            Claim::Resume(_) => drop(tokio::spawn(refuse(self.socket))),
            Claim::Again(back) => drop(back.send(self)),
        }
    }
}

/// Reads the first message of a connection whose handshake had no first batch. Returns `None` if the client sends none.
pub(crate) async fn read_first(socket: &mut Socket) -> Option<Physical> {
    let reading = async {
        loop {
            match poll_fn(|cx| socket.poll_next(cx)).await {
                Some(Ok(Received::Text(text))) => return Some(Physical::Text(text)),
                Some(Ok(Received::Binary(bytes))) => return Some(Physical::Binary(bytes)),
                Some(Ok(Received::Ping(_) | Received::Pong(_))) => {}
                Some(Ok(Received::Close(_)) | Err(_)) | None => return None,
            }
        }
    };
    tokio::time::timeout(FIRST, reading).await.ok().flatten()
}

/// Reads RESUME, the first message of a connection. The connection of a client that sends anything else is closed.
pub(crate) async fn read_resume(connection: Connection, max_size: usize) -> Option<(Socket, Resume)> {
    let mut socket = FramedSocket::new(connection, Config::server(FIRST_MESSAGE));
    let first = poll_fn(|cx| socket.poll_next(cx));
    let read = match tokio::time::timeout(ARRIVAL, first).await {
        Ok(Some(Ok(Received::Binary(batch)))) => Resume::read(&batch).ok(),
        _ => None,
    };
    let Some(resume) = read else {
        debug!("a connection that resumes no link");
        refuse(socket).await;
        return None;
    };
    socket.set_config(Config::server(max_size));
    Some((socket, resume))
}

/// Closes a connection that resumes no link. The answer is the same for every reason.
pub(crate) async fn refuse(mut socket: Socket) {
    if socket.start_close(Some((NOT_RESUMED, ""))).is_ok() {
        linger(socket).await;
    }
}

/// Returns a token, unless the system has no random numbers.
pub(crate) fn new_token() -> Option<Token> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(Token::new(bytes))
}

type Identity = dyn Fn(&Parts) -> Option<String> + Send + Sync;

/// Which handshakes may resume a link: those of the same origin and, if the application identifies users, of the same user.
#[derive(Clone, Default)]
pub(crate) struct ResumeRules(Option<Arc<Identity>>);

impl ResumeRules {
    pub(crate) fn by_identity(identity: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(identity)))
    }

    /// Returns the user of a handshake, if the application names one.
    pub(crate) fn user(&self, handshake: &Parts) -> Option<String> {
        self.0.as_ref().and_then(|identity| identity(handshake))
    }

    pub(crate) fn allow(&self, first: &Parts, next: &Parts) -> bool {
        let origin = |parts: &Parts| parts.headers.get(header::ORIGIN).cloned();
        self.user(first) == self.user(next) && origin(first) == origin(next)
    }
}

impl fmt::Debug for ResumeRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ResumeRules").field(&self.0.is_some()).finish()
    }
}

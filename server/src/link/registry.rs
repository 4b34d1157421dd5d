//! Registers links with their handshakes, so that an application can end a link when its authentication expires.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::CloseFrame;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, oneshot, watch};

/// The open links of a [`Multiplexer`](crate::Multiplexer). Clones share the registry.
///
/// An application authenticates a handshake once, but the link lives for hours. When a user logs out, end the user's
/// links:
///
/// ```
/// use axum::extract::ws::CloseFrame;
/// use manysocket_server::{Links, Multiplexer};
///
/// /// The user that an authentication layer stores in a request's extensions.
/// #[derive(Clone, PartialEq)]
/// struct User(u64);
///
/// fn logged_out(links: &Links, user: &User) {
///     let close = CloseFrame { code: 4401, reason: "logged out".into() };
///     links.close_where(|handshake| handshake.extensions.get() == Some(user), &close);
/// }
///
/// let multiplexer = Multiplexer::new("/multiplexer");
/// logged_out(&multiplexer.links(), &User(7));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Links(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The links that can be ended, by their numbers.
    entries: Mutex<HashMap<u64, EndableLink>>,
    /// The number of links that have not closed.
    open: AtomicUsize,
    closed: Notify,
}

#[derive(Debug)]
struct EndableLink {
    /// The newest: of the connection that carries the link, with the cookies that its browser has shown since.
    handshake: watch::Sender<Arc<Parts>>,
    end: oneshot::Sender<CloseFrame>,
}

impl Links {
    /// Ends the links for whose physical handshake `predicate` returns true, and returns their number. Pages see the
    /// code and the reason on every channel; handlers receive nothing more from them. Codes 4000 to 4999 are for
    /// applications (RFC 6455 §7.4.2): 4401, after HTTP's 401, can ask a page to log in again.
    pub fn close_where(&self, predicate: impl Fn(&Parts) -> bool, close: &CloseFrame) -> usize {
        // Call `predicate` without the lock: it is the application's code.
        let open = self.lock().iter().map(|(&id, entry)| (id, entry.handshake())).collect::<Vec<_>>();
        let meant = open.into_iter().filter(|(_, handshake)| predicate(handshake));
        meant.filter(|(id, _)| self.end_one(*id, close.clone())).count()
    }

    fn end_one(&self, id: u64, close: CloseFrame) -> bool {
        self.lock().remove(&id).is_some_and(|entry| entry.end.send(close).is_ok())
    }

    /// Registers a link until the returned guard is dropped. The receiver gets the close frame when the application
    /// ends the link.
    pub(crate) fn register(
        &self,
        id: u64,
        handshake: Arc<Parts>,
    ) -> (Registered, oneshot::Receiver<CloseFrame>) {
        let (end, ended) = oneshot::channel();
        let (handshake, newest) = watch::channel(handshake);
        self.0.open.fetch_add(1, Ordering::AcqRel);
        self.lock().insert(id, EndableLink { handshake, end });
        (Registered { links: self.clone(), id, newest }, ended)
    }

    /// Returns the newest handshake of a link.
    fn handshake(&self, id: u64) -> Option<Arc<Parts>> {
        self.lock().get(&id).map(EndableLink::handshake)
    }

    /// Replaces the cookies of a link's handshake by those of a request that its browser has sent since.
    pub(crate) fn renew_cookies(&self, id: u64, request: &HeaderMap) {
        if let Some(entry) = self.lock().get(&id) {
            let mut handshake = (*entry.handshake()).clone();
            copy_cookies(request, &mut handshake.headers);
            entry.handshake.send_replace(Arc::new(handshake));
        }
    }

    /// Waits until no link is open. It is for the time after [`Multiplexer::shutdown`](crate::Multiplexer::shutdown).
    pub async fn closed(&self) {
        loop {
            // Before the look: a link that closes in between is not missed.
            let closed = self.0.closed.notified();
            let mut closed = std::pin::pin!(closed);
            closed.as_mut().enable();
            if self.0.open.load(Ordering::Acquire) == 0 {
                return;
            }
            closed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, EndableLink>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EndableLink {
    fn handshake(&self) -> Arc<Parts> {
        Arc::clone(&self.handshake.borrow())
    }
}

/// Replaces the cookies of `to` by copies of those of `from`: a value may keep a whole read buffer alive.
pub(crate) fn copy_cookies(from: &HeaderMap, to: &mut HeaderMap) {
    to.remove(header::COOKIE);
    for cookie in from.get_all(header::COOKIE) {
        if let Ok(copy) = HeaderValue::from_bytes(cookie.as_bytes()) {
            to.append(header::COOKIE, copy);
        }
    }
}

/// Keeps a link registered until it is dropped.
#[derive(Debug)]
pub(crate) struct Registered {
    links: Links,
    id: u64,
    newest: watch::Receiver<Arc<Parts>>,
}

impl Registered {
    /// Returns the newest handshake if it has changed since the last call.
    pub(crate) fn renewed(&mut self) -> Option<Arc<Parts>> {
        self.newest.has_changed().unwrap_or_default().then(|| Arc::clone(&self.newest.borrow_and_update()))
    }

    /// Replaces the handshake, because a newer connection carries the link.
    pub(crate) fn renew(&mut self, handshake: Arc<Parts>) {
        if let Some(entry) = self.links.lock().get(&self.id) {
            entry.handshake.send_replace(handshake);
        }
        self.newest.mark_unchanged();
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.links.lock().remove(&self.id);
        if self.links.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.links.0.closed.notify_waiters();
        }
    }
}

type Check = dyn Fn(Arc<Parts>) -> BoxFuture<'static, Result<(), CloseFrame>> + Send + Sync;

/// A check that the application repeats while a link is open.
#[derive(Clone)]
pub(crate) struct Revalidation {
    interval: Duration,
    check: Arc<Check>,
}

impl Revalidation {
    pub(crate) fn new<F, R>(interval: Duration, check: F) -> Self
    where
        F: Fn(Arc<Parts>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), CloseFrame>> + Send + 'static,
    {
        Self { interval, check: Arc::new(move |handshake| Box::pin(check(handshake))) }
    }

    /// Checks a handshake once.
    pub(crate) async fn check(&self, handshake: Arc<Parts>) -> Result<(), CloseFrame> {
        (self.check)(handshake).await
    }

    /// Repeats the check for the newest handshake of one link, and ends the link when the check fails.
    pub(crate) async fn watch(self, links: Links, id: u64) {
        loop {
            tokio::time::sleep(self.interval).await;
            let Some(handshake) = links.handshake(id) else { return };
            if let Err(close) = self.check(handshake).await {
                links.end_one(id, close);
                return;
            }
        }
    }
}

impl fmt::Debug for Revalidation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revalidation").field("interval", &self.interval).finish_non_exhaustive()
    }
}

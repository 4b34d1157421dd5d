//! Calls: a URL per function. A call is a JSON array of arguments, the answer `{"result": …}` or `{"error": …}`, in order.
//! `docs/rpc.md` has the wire protocol.
//!
//! ```
//! use axum::Router;
//! use manysocket_server::Site;
//! use manysocket_server::rpc::{Error, rpc};
//!
//! async fn add(left: f64, right: f64) -> f64 {
//!     left + right
//! }
//!
//! async fn turn(degrees: f64) -> Result<f64, Error> {
//!     if degrees.abs() > 180.0 {
//!         return Err(Error::new("too-far", "a tank turns by at most 180 degrees"));
//!     }
//!     Ok(degrees)
//! }
//!
//! // An object is a folder of functions; its index lists them.
//! let tank = Site::new().endpoint("/turn", rpc(turn).arguments(["degrees"]).endpoint());
//! let site = Site::new()
//!     .endpoint("/add", rpc(add).arguments(["left", "right"]).endpoint())
//!     .nest("/tank65", tank);
//! let app: Router = site.into_router();
//! ```
//!
//! A closure captures state:
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use axum::Router;
//! use manysocket_server::rpc::rpc;
//!
//! let count = Arc::new(AtomicU64::new(0));
//! let next = rpc(move || {
//!     let count = Arc::clone(&count);
//!     async move { count.fetch_add(1, Ordering::Relaxed) }
//! });
//! let app: Router = Router::new().route_service("/next", next);
//! ```

mod arguments;
mod call;
mod callee;
mod caller;
mod control;
mod error;
mod function;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(feature = "nats")]
mod over_nats;
mod result;
mod session;
mod streamed;
mod streams;
#[cfg(feature = "typescript")]
mod typed;

use std::convert::Infallible;
use std::fmt;
#[cfg(feature = "nats")]
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::Request;
#[cfg(feature = "nats")]
use axum::extract::ws::Utf8Bytes;
use axum::response::Response;
use axum::routing::any_service;
use futures_util::future::BoxFuture;
#[cfg(feature = "nats")]
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::metrics::stats::Stats;
#[cfg(feature = "nats")]
use crate::nats::Nats;
use crate::site::endpoint::Endpoint;
#[cfg(feature = "typescript")]
pub use crate::site::typescript::Signature;
use crate::ws::upgrade::WebSocketUpgrade;

use arguments::Peer;
#[cfg(feature = "nats")]
use call::Answered;
use callee::{Callee, Place};
pub use caller::Caller;
pub use error::Error;
pub use function::{Answer, Fallible, Function, Plain, Streaming, Value, WithCaller};
#[cfg(feature = "nats")]
pub use over_nats::Registration;
#[cfg(feature = "nats")]
use over_nats::Remote;
pub use result::{Reply, Written};
use session::Session;
pub use streamed::Streamed;
#[cfg(feature = "typescript")]
pub use typed::{TypedAnswer, TypedFunction, TypedValue, typed};

/// The largest call, in bytes: of arguments that are written by hand, ample.
const MAX_MESSAGE: usize = 256 * 1024;

/// A function with a URL: a [`Service`] for a route.
#[derive(Clone)]
pub struct Rpc {
    callee: Callee,
    max_message: usize,
    #[cfg(feature = "typescript")]
    signature: Signature,
}

/// Returns a function that another process [registers](Rpc::register) under that path.
///
/// A call that no process answers has the error `unavailable`. Without an answer within 30 seconds, the error is `timeout`:
/// its function may have run. Neither call is sent again.
///
/// # Errors
/// Returns an error if the path is too long: above 1,000 bytes, where each byte but letters and digits counts three times.
#[cfg(feature = "nats")]
pub fn remote(nats: &Nats, path: &str) -> io::Result<Rpc> {
    Ok(Rpc::new(Place::Elsewhere(Remote::new(nats, path)?)))
}

/// Makes a function callable: an async function or closure, with up to eight arguments that can be deserialised. It returns a
/// value that can be serialised, or a `Result` of one with an error that becomes an [`Error`].
pub fn rpc<F, A, M>(function: F) -> Rpc
where
    F: Function<A, M>,
{
    Rpc::new(Place::Here(call::erase(function)))
}

/// The most calls of one socket at once: each wake-up of one polls all of them, at some 50 ns each.
const MAX_CONCURRENT: usize = 256;

impl Rpc {
    fn new(place: Place) -> Self {
        Self {
            callee: Callee::new(place),
            max_message: MAX_MESSAGE,
            #[cfg(feature = "typescript")]
            signature: Signature::default(),
        }
    }

    /// Names the arguments, for errors and for the endpoint's description. Without names they are known by position.
    #[must_use]
    pub fn arguments<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.callee.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the largest call, in bytes; a larger one closes its socket with 1009. Default: 256 KiB.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Lets calls that have begun run to their end, even if the page cancels them or has gone. The calls that have arrived
    /// by the time a page is gone run, too. Without this, the server drops the function's future.
    ///
    /// ```
    /// use manysocket_server::rpc::rpc;
    ///
    /// async fn pay(cents: u64) {
    ///     // Two steps that belong together.
    /// }
    /// let app: axum::Router = axum::Router::new().route_service("/pay", rpc(pay).run_to_completion());
    /// ```
    #[must_use]
    pub fn run_to_completion(mut self) -> Self {
        self.callee.runs_to_completion = true;
        self
    }

    /// Lets up to `calls` calls of one socket run at once, at most 256. Default: 1, so that calls run in the order in which the page
    /// made them. Answers leave in that order in any case: a slow call holds the answers to later ones back, and their work is done
    /// by then.
    ///
    /// ```
    /// use manysocket_server::rpc::rpc;
    ///
    /// async fn search(text: String) -> Vec<String> {
    ///     // Asks a database.
    ///     vec![text]
    /// }
    /// let app: axum::Router = axum::Router::new().route_service("/search", rpc(search).max_concurrent(16));
    /// ```
    #[must_use]
    pub fn max_concurrent(mut self, calls: usize) -> Self {
        self.callee.max_concurrent = calls.clamp(1, MAX_CONCURRENT);
        self
    }

    /// Refuses calls for which `limit` returns the time after which to call again: they get the error `limited` with that time, and
    /// the function does not run. The server calls `limit` before each call, while it serves the socket, so `limit` should be quick.
    /// If this is called several times, all limits hold. Calls that [a process registers](Self::register) for others have a caller
    /// without headers: limit them where pages connect, at the function of [`remote`].
    ///
    /// The application decides who the caller is and how often it may call. Here each user may call ten times a second, by
    /// the crate [governor](https://docs.rs/governor):
    ///
    /// ```
    /// use std::num::NonZeroU32;
    /// use governor::clock::{Clock, DefaultClock};
    /// use governor::{Quota, RateLimiter};
    /// use manysocket_server::rpc::{Caller, rpc};
    ///
    /// let calls = RateLimiter::keyed(Quota::per_second(NonZeroU32::new(10).unwrap()));
    /// let by_user = move |caller: &Caller| {
    ///     let user = caller.headers().get("x-user").cloned();
    ///     calls.check_key(&user).map_err(|refused| refused.wait_time_from(DefaultClock::default().now()))
    /// };
    /// let search = rpc(async |text: String| text.len()).rate_limit(by_user);
    /// let app: axum::Router = axum::Router::new().route_service("/search", search);
    /// ```
    #[must_use]
    pub fn rate_limit(
        mut self,
        limit: impl Fn(&Caller) -> Result<(), Duration> + Send + Sync + 'static,
    ) -> Self {
        self.callee.rate_limits.push(Arc::new(limit));
        self
    }

    /// Registers the function on NATS: it then answers the calls of other processes to [`remote`] with this path, until the
    /// `Registration` is dropped. Processes that register the same path share the calls.
    ///
    /// ```no_run
    /// # async fn example() -> std::io::Result<()> {
    /// use manysocket_server::Nats;
    /// use manysocket_server::rpc::{remote, rpc};
    ///
    /// let nats = Nats::connect("nats://127.0.0.1:4222").await?;
    /// // Where the tank is:
    /// let _registration = rpc(async |degrees: f64| degrees).register(&nats, "/tank65/turn").await?;
    /// // Where pages are:
    /// let turn = remote(&nats, "/tank65/turn")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns an error if the path is too long, as with [`remote`], or if the connection has been closed for good.
    #[cfg(feature = "nats")]
    pub async fn register(&self, nats: &Nats, path: &str) -> io::Result<Registration> {
        let (callee, path_of_calls) = (self.callee.clone(), path.to_owned());
        let answer = move |peer: Peer, text: Utf8Bytes, cancelled: CancellationToken| {
            let (callee, path) = (callee.clone(), path_of_calls.clone());
            async move {
                let caller = Caller::unknown();
                let cancelled = if callee.runs_to_completion { CancellationToken::new() } else { cancelled };
                match callee.answer(&peer, &caller, &path, text, &cancelled).await {
                    Answered::Text(answer) => answer,
                    Answered::Stream(_) => {
                        Error::new("stream", "this function returns a stream, which does not pass NATS")
                            .into_answer()
                    }
                }
            }
        };
        over_nats::register(nats, path, self.max_message, answer).await
    }

    /// Returns an endpoint for a [`Site`](crate::Site).
    pub fn endpoint<S: Clone + Send + Sync + 'static>(&self) -> Endpoint<S> {
        let arguments = self.callee.names.join(", ");
        let usage = format!(
            "Send a JSON array of arguments: [{arguments}]. The answer is {{\"result\": …}} or {{\"error\": …}}; answers \
             come in the order of the calls."
        );
        let endpoint = Endpoint::new(any_service(self.clone())).title("A function").usage(&usage);
        #[cfg(feature = "typescript")]
        let endpoint = endpoint.function(self.signature.clone().named(&self.callee.names));
        endpoint
    }

    async fn answer(self, request: Request) -> Response {
        let (mut parts, _) = request.into_parts();
        let path = parts.uri.path().to_owned();
        match WebSocketUpgrade::checked(&mut parts).await {
            Ok(upgrade) => {
                let peer = Peer::new(upgrade.peer(), parts.extensions.get::<Stats>().cloned());
                let caller = Caller::of(&mut parts).await;
                let upgrade = upgrade.max_message_size(self.max_message);
                upgrade.on_upgrade(move |socket| {
                    let mut peer = peer;
                    peer.count_for(&socket);
                    Session::new(self.callee, peer, caller, &path, socket).run()
                })
            }
            Err(refusal) => refusal,
        }
    }
}

impl fmt::Debug for Rpc {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rpc").field("arguments", &self.callee.names).finish_non_exhaustive()
    }
}

impl Service<Request> for Rpc {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let rpc = self.clone();
        Box::pin(async move { Ok(rpc.answer(request).await) })
    }
}

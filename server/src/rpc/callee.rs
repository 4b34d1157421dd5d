//! The function behind a URL: one of this process, or of another.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use tokio_util::sync::CancellationToken;

use super::arguments::Peer;
use super::call::{self, Answered, Call};
use super::caller::Caller;
use super::error::Error;
#[cfg(feature = "nats")]
use super::over_nats::Remote;

/// A function to call.
#[derive(Clone)]
pub(super) struct Callee {
    pub(super) place: Place,
    /// The names of the arguments.
    pub(super) names: Arc<[String]>,
    /// Calls that have begun cannot be cancelled.
    pub(super) runs_to_completion: bool,
    /// The calls of one socket that run at once.
    pub(super) max_concurrent: usize,
    /// All must let a call pass.
    pub(super) rate_limits: Vec<Arc<RateLimit>>,
}

/// Returns the time after which a caller may call again, if it has called too often.
pub(super) type RateLimit = dyn Fn(&Caller) -> Result<(), Duration> + Send + Sync;

/// Where a function is.
#[derive(Clone)]
pub(super) enum Place {
    Here(Arc<Call>),
    #[cfg(feature = "nats")]
    Elsewhere(Remote),
}

impl Callee {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            names: Arc::default(),
            runs_to_completion: false,
            max_concurrent: 1,
            rate_limits: Vec::new(),
        }
    }

    /// Answers one call; with an error once it is cancelled.
    pub(super) async fn answer(
        &self,
        peer: &Peer,
        caller: &Caller,
        path: &str,
        text: Utf8Bytes,
        cancelled: &CancellationToken,
    ) -> Answered {
        if let Err(wait) = self.rate_limits.iter().try_for_each(|limit| limit(caller)) {
            return Error::limited(wait).into();
        }
        match &self.place {
            Place::Here(call) => call::answer(call, &self.names, peer, caller, path, text, cancelled).await,
            #[cfg(feature = "nats")]
            Place::Elsewhere(remote) => Answered::Text(remote.answer(text, cancelled).await),
        }
    }
}

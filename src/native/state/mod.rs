//! A JSON document that programs and pages share: typed data, with the merge rules of `manysocket/state` in pages.

mod align;
mod connection;
mod diff;
mod error;
mod merge;
mod messages;
mod patch;
mod replica;
mod tree;
#[cfg(test)]
mod vectors;
mod withheld;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use json_patch::jsonptr::Pointer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::oneshot;

use super::MultiWebSocket;
use connection::Shared;
pub use error::{Conflict, StateError};

/// Opens the document at a URL, absolute or relative to the multiplexer's, and waits for its data. A URL with a fragment cannot be
/// opened.
///
/// Dropping the future leaves nothing behind.
///
/// # Errors
/// Returns [`StateError::Unreachable`] if the first connection fails, or the server sends no document.
pub async fn state<T>(multi: &MultiWebSocket, url: &str) -> Result<State<T>, StateError> {
    let shared = Shared::open(multi, url).await?;
    Ok(State { owner: Arc::new(Owner { shared }), data: PhantomData })
}

/// A replica of a document. Clones share it; it closes when the last one is dropped, and commits without an answer then fail.
///
/// The replica connects again after a loss, gets the commits that it has missed, and sends a commit without an answer again. The
/// server applies that once.
///
/// ```no_run
/// use manysocket::{MultiWebSocket, State, state};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Poll {
///     yes: u32,
///     no: u32,
/// }
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let multi = MultiWebSocket::new("ws://127.0.0.1:8080/multiplexer")?;
/// let poll: State<Poll> = state(&multi, "/polls/lunch").await?;
/// println!("{} say yes", poll.get()?.yes);
/// let version = poll.update(|poll| poll.yes += 1)?.committed().await?;
/// println!("version {version}");
/// # Ok(())
/// # }
/// ```
pub struct State<T> {
    owner: Arc<Owner>,
    data: PhantomData<fn() -> T>,
}

/// Closes the document when its last handle is dropped.
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// A commit on its way to the server. Dropping it does not stop the commit.
#[derive(Debug)]
#[must_use = "the commit may fail: wait for `committed`"]
pub struct Commit {
    settled: oneshot::Receiver<Result<u64, StateError>>,
}

impl Commit {
    /// Waits until the server has stored the commit, and returns its version. Without a connection, the commit waits for the next.
    ///
    /// # Errors
    /// Returns why the server has refused the commit, [`StateError::Conflict`] if others were first, and [`StateError::Closed`] if
    /// the replica was closed before the answer.
    pub async fn committed(self) -> Result<u64, StateError> {
        self.settled.await.unwrap_or(Err(StateError::Closed))
    }
}

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self { owner: Arc::clone(&self.owner), data: PhantomData }
    }
}

impl<T> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("version", &self.version()).finish_non_exhaustive()
    }
}

impl<T> State<T> {
    /// Returns the version that the data is based on.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.owner.shared.lock().replica.version
    }

    /// Returns the URL, as given.
    #[must_use]
    pub fn url(&self) -> &str {
        self.owner.shared.url()
    }

    /// Gives up the edits of failed commits: the data is the server's again, with the commits under way.
    pub fn discard(&self) {
        self.owner.shared.change(|inner| inner.replica.discard());
    }

    /// Closes the document for good. Commits without an answer fail, and streams of changes end.
    pub fn close(&self) {
        self.owner.shared.close();
    }
}

impl<T: DeserializeOwned> State<T> {
    /// Returns the server's data with this replica's edits.
    ///
    /// # Errors
    /// Returns [`StateError::Json`] if the data is not that of a `T`.
    pub fn get(&self) -> Result<T, StateError> {
        typed(self.owner.shared.data())
    }

    /// Returns a stream of the data: the present data, then the newest data after each change by others or by this replica. A slow
    /// reader misses data in between. An item is [`StateError::Json`] if the data is not that of a `T`. The stream ends when the
    /// document is closed.
    #[must_use]
    pub fn watch(&self) -> BoxStream<'static, Result<T, StateError>>
    where
        T: Send + 'static,
    {
        let shared = Arc::clone(&self.owner.shared);
        let mut news = shared.news();
        news.mark_changed();
        stream::unfold((shared, news, None), async |(shared, mut news, last): (_, _, Option<Value>)| {
            loop {
                news.changed().await.ok()?;
                let (is_closed, data) = {
                    let inner = Shared::lock(&shared);
                    (inner.is_closed, inner.replica.data.clone())
                };
                if is_closed {
                    return None;
                }
                if last.as_ref() != Some(&data) {
                    return Some((typed(data.clone()), (shared, news, Some(data))));
                }
            }
        })
        .boxed()
    }
}

impl<T: Serialize + DeserializeOwned> State<T> {
    /// Edits the data and commits it. Only the places that `edit` changes are sent, and members that `T` does not have stay.
    /// `edit` runs under the replica's lock, so it must not use the replica.
    ///
    /// The commit goes on if the returned [`Commit`] is dropped.
    ///
    /// # Errors
    /// Returns [`StateError::Conflict`] if others have changed places that an earlier, failed commit edited: this commit is not sent,
    /// and the next one overwrites them. Returns [`StateError::Json`] if the data is not that of a `T`, or the result is no JSON, and
    /// [`StateError::Closed`] after [`State::close`].
    pub fn update(&self, edit: impl FnOnce(&mut T)) -> Result<Commit, StateError> {
        let json = |error: serde_json::Error| StateError::Json(error.to_string());
        self.owner.shared.change(|inner| {
            if inner.is_closed {
                return Err(StateError::Closed);
            }
            let data = &mut inner.replica.data;
            let mut value: T = typed(data.clone())?;
            let before = serde_json::to_value(&value).map_err(json)?;
            edit(&mut value);
            let after = serde_json::to_value(&value).map_err(json)?;
            // The differences of `data` from `before` are members that `T` does not have.
            let merged =
                merge::merge(Some(&before), Some(&after), Some(data), &mut Vec::new(), Pointer::root());
            *data = merged.unwrap_or(after);
            Ok(Commit { settled: inner.replica.commit()? })
        })
    }
}

fn typed<T: DeserializeOwned>(data: Value) -> Result<T, StateError> {
    serde_json::from_value(data).map_err(|error| StateError::Json(error.to_string()))
}

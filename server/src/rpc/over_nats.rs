//! Calls that another process answers, over NATS: the request is the call's text, the reply the answer's. A header names the
//! call, and a message with that name on a second subject cancels it.

use std::collections::{HashMap, VecDeque};
use std::io;

use async_nats::{HeaderMap, RequestErrorKind, Subject};
use axum::extract::ws::Utf8Bytes;
use futures_util::StreamExt;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use crate::nats::{Nats, subject};
use crate::ws::peer;

use super::arguments::Peer;
use super::call::refuse;
use super::error::Error;

/// The first tokens of the subjects of functions.
const PREFIX: &str = "manysocket.rpc";

/// The first tokens of the subjects on which calls are cancelled.
const CANCEL_PREFIX: &str = "manysocket.rpc-cancel";

/// The header with the name of a call, which is random.
const CALL: &str = "manysocket-call";

/// The longest name of a call that another process may give it, in bytes.
const MAX_NAME: usize = 64;

/// The processes that offer a function take turns.
const QUEUE: &str = "manysocket";

/// Calls of one function that a process answers at once, for all others together; further ones wait in NATS' queue for it.
const CONCURRENT: usize = 256;

/// Cancelled calls that a process has not seen, and remembers. They may still arrive here; most are those of other processes.
const REMEMBERED: usize = 256;

/// Where a function is that another process has.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    nats: Nats,
    subject: Subject,
    cancel: Subject,
}

/// A function that answers calls of other processes, until this is dropped.
#[derive(Debug)]
#[must_use = "the registration ends when this is dropped"]
pub struct Registration {
    _end: DropGuard,
}

impl Remote {
    pub(super) fn new(nats: &Nats, path: &str) -> io::Result<Self> {
        let (subject, cancel) = (subject_of(PREFIX, path)?, subject_of(CANCEL_PREFIX, path)?);
        Ok(Self { nats: nats.clone(), subject, cancel })
    }

    /// Answers a call in another process; with an error once it is cancelled.
    pub(super) async fn answer(&self, text: Utf8Bytes, cancelled: &CancellationToken) -> String {
        // A call that waited until NATS is back would run long after its caller has gone.
        if !self.nats.is_connected() {
            return fail("unavailable", "the call was not sent: NATS is away");
        }
        let Ok(name) = getrandom::u64().and_then(|high| Ok(format!("{high:016x}{:016x}", getrandom::u64()?)))
        else {
            return fail("unavailable", "the call was not sent: the system has no random numbers");
        };
        let mut headers = HeaderMap::new();
        headers.insert(CALL, name.as_str());
        let client = self.nats.client();
        let reply = client.request_with_headers(self.subject.clone(), headers, text.into());
        let error = match cancelled.run_until_cancelled(reply).await {
            Some(Ok(reply)) => match String::from_utf8(reply.payload.into()) {
                Ok(answer) => return answer,
                Err(_) => {
                    return fail("unavailable", "the responder on this subject is not a manysocket server");
                }
            },
            Some(Err(error)) => error,
            None => {
                self.cancel(name).await;
                return Error::cancelled().into_answer();
            }
        };
        match error.kind() {
            RequestErrorKind::NoResponders => fail("unavailable", "no server answers this function now"),
            RequestErrorKind::TimedOut => {
                self.cancel(name).await;
                fail("timeout", "no answer came in time; whether the function ran is not known")
            }
            RequestErrorKind::MaxPayloadExceeded => fail("call", "the call is larger than NATS takes"),
            RequestErrorKind::InvalidSubject | RequestErrorKind::Other => {
                warn!(subject = %self.subject, "a call failed on NATS: {error}");
                fail("unavailable", "the call got lost on its way; whether the function ran is not known")
            }
        }
    }

    /// Asks the process that runs a call to drop it. Nobody waits for that any more, so a failure has no effect.
    async fn cancel(&self, name: String) {
        if let Err(error) = self.nats.client().publish(self.cancel.clone(), name.into()).await {
            debug!(subject = %self.cancel, "a call cannot be cancelled: {error}");
        }
    }
}

/// The calls that a process runs for others, by name.
#[derive(Default)]
struct Running {
    calls: HashMap<String, CancellationToken>,
    /// Cancelled calls that have not arrived here.
    early: VecDeque<String>,
}

impl Running {
    /// Returns the token that cancels a call that has arrived; it may be cancelled already.
    fn begin(&mut self, name: Option<&str>) -> CancellationToken {
        let cancelled = CancellationToken::new();
        if let Some(name) = name {
            if let Some(place) = self.early.iter().position(|early| early == name) {
                self.early.remove(place);
                cancelled.cancel();
            }
            self.calls.insert(name.to_owned(), cancelled.clone());
        }
        cancelled
    }

    fn cancel(&mut self, name: &[u8]) {
        let Ok(name) = str::from_utf8(name) else { return };
        if let Some(cancelled) = self.calls.get(name) {
            cancelled.cancel();
        } else if name.len() <= MAX_NAME {
            if self.early.len() == REMEMBERED {
                self.early.pop_front();
            }
            self.early.push_back(name.to_owned());
        }
    }

    fn end(&mut self, name: Option<String>) {
        if let Some(name) = name {
            self.calls.remove(&name);
        }
    }
}

/// Answers the calls of other processes with `answer`, and refuses those of more than `max_message` bytes.
pub(super) async fn register<A, F>(
    nats: &Nats,
    path: &str,
    max_message: usize,
    answer: A,
) -> io::Result<Registration>
where
    A: Fn(Peer, Utf8Bytes, CancellationToken) -> F + Send + 'static,
    F: Future<Output = String> + Send + 'static,
{
    let client = nats.client().clone();
    let mut cancels = client.subscribe(subject_of(CANCEL_PREFIX, path)?).await.map_err(io::Error::other)?;
    let calls = client.queue_subscribe(subject_of(PREFIX, path)?, QUEUE.into()).await;
    let mut calls = calls.map_err(io::Error::other)?;
    let end = CancellationToken::new();
    let (ended, path) = (end.clone(), path.to_owned());
    // All that call over NATS are one.
    let peer = peer::number();
    tokio::spawn(async move {
        let (mut running, mut tasks, mut is_over) = (Running::default(), JoinSet::new(), false);
        loop {
            let call = tokio::select! {
                // Calls that have been sent here are answered, also when no more are taken.
                () = ended.cancelled(), if !is_over => {
                    is_over = true;
                    match calls.drain().await {
                        Ok(()) => continue,
                        Err(_) => break,
                    }
                }
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    running.end(ended.unwrap_or_default());
                    continue;
                }
                Some(cancel) = cancels.next() => {
                    running.cancel(&cancel.payload);
                    continue;
                }
                call = calls.next(), if tasks.len() < CONCURRENT => match call {
                    Some(call) => call,
                    None => break,
                },
            };
            let Some(reply) = call.reply else {
                debug!(path, "ignored a call without a reply subject");
                continue;
            };
            let name = call.headers.as_ref().and_then(|headers| headers.get(CALL)).map(ToString::to_string);
            let cancelled = running.begin(name.as_deref());
            let answer = match Utf8Bytes::try_from(call.payload) {
                Ok(text) if text.len() <= max_message => Ok(answer(Peer::new(peer, None), text, cancelled)),
                Ok(_) => Err(refuse("the call is too large")),
                Err(_) => Err(refuse("a call is text in UTF-8")),
            };
            let client = client.clone();
            // In a separate task, so that functions that compute run on all cores.
            tasks.spawn(async move {
                let answer = match answer {
                    Ok(answer) => answer.await,
                    Err(refusal) => refusal,
                };
                if let Err(error) = client.publish(reply.clone(), answer.into()).await {
                    warn!("an answer cannot be sent: {error}");
                    let failure = fail("internal", "the answer is larger than NATS takes");
                    let _ = client.publish(reply, failure.into()).await;
                }
                name
            });
        }
        while tasks.join_next().await.is_some() {}
        // The connection ends with its last user, and drops messages that it has not written by then.
        let _ = client.flush().await;
    });
    Ok(Registration { _end: end.drop_guard() })
}

fn subject_of(prefix: &str, path: &str) -> io::Result<Subject> {
    subject(prefix, path).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the path {path} is too long for a function on NATS"),
        )
    })
}

fn fail(code: &str, why: &str) -> String {
    Error::new(code, why).into_answer()
}

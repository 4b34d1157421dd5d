//! Calls that another process answers, over NATS: the request is the call's text, the reply the answer's.

use std::io;

use async_nats::{RequestErrorKind, Subject};
use axum::extract::ws::Utf8Bytes;
use futures_util::{StreamExt, stream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use crate::nats::{Nats, subject};
use crate::ws::peer;

use super::arguments::Peer;
use super::call::refuse;
use super::error::Error;

/// The first tokens of the subjects of functions.
const PREFIX: &str = "manysocket.rpc";

/// The processes that offer a function take turns.
const QUEUE: &str = "manysocket";

/// Calls of one function that a process answers at once, for all others together; further ones wait in NATS' queue for it.
const CONCURRENT: usize = 256;

/// Where a function is that another process has.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    nats: Nats,
    subject: Subject,
}

/// A function that answers calls of other processes, until this is dropped.
#[derive(Debug)]
#[must_use = "the registration ends when this is dropped"]
pub struct Registration {
    _end: DropGuard,
}

impl Remote {
    pub(super) fn new(nats: &Nats, path: &str) -> io::Result<Self> {
        Ok(Self { nats: nats.clone(), subject: function_subject(path)? })
    }

    /// Has a call answered.
    pub(super) async fn answer(&self, text: Utf8Bytes) -> String {
        // A call that waited until NATS is back would run long after its caller has gone.
        if !self.nats.is_connected() {
            return fail("unavailable", "the call was not sent: NATS is away");
        }
        let error = match self.nats.client().request(self.subject.clone(), text.into()).await {
            Ok(reply) => match String::from_utf8(reply.payload.into()) {
                Ok(answer) => return answer,
                Err(_) => {
                    return fail("unavailable", "the responder on this subject is not a manysocket server");
                }
            },
            Err(error) => error,
        };
        match error.kind() {
            RequestErrorKind::NoResponders => fail("unavailable", "no server answers this function now"),
            RequestErrorKind::TimedOut => {
                fail("timeout", "no answer came in time; whether the function ran is not known")
            }
            RequestErrorKind::MaxPayloadExceeded => fail("call", "the call is larger than NATS takes"),
            RequestErrorKind::InvalidSubject | RequestErrorKind::Other => {
                warn!(subject = %self.subject, "a call failed on NATS: {error}");
                fail("unavailable", "the call got lost on its way; whether the function ran is not known")
            }
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
    A: Fn(Peer, Utf8Bytes) -> F + Send + 'static,
    F: Future<Output = String> + Send + 'static,
{
    let subject = function_subject(path)?;
    let calls = nats.client().queue_subscribe(subject, QUEUE.into()).await.map_err(io::Error::other)?;
    let end = CancellationToken::new();
    let ended = end.clone();
    // Calls that have been sent here are answered, also when no more are taken.
    let calls = stream::unfold((calls, false), move |(mut calls, mut is_over)| {
        let ended = ended.clone();
        async move {
            loop {
                tokio::select! {
                    biased;
                    () = ended.cancelled(), if !is_over => {
                        is_over = true;
                        calls.drain().await.ok()?;
                    }
                    call = calls.next() => return call.map(|call| (call, (calls, is_over))),
                }
            }
        }
    });
    let (client, path) = (nats.client().clone(), path.to_owned());
    // All that call over NATS are one.
    let peer = peer::number();
    let answers = calls.for_each_concurrent(CONCURRENT, move |call| {
        let (client, path) = (client.clone(), path.clone());
        let answer = match Utf8Bytes::try_from(call.payload) {
            Ok(text) if text.len() <= max_message => Ok(answer(Peer::new(peer, None), text)),
            Ok(_) => Err(refuse("the call is too large")),
            Err(_) => Err(refuse("a call is text in UTF-8")),
        };
        async move {
            let Some(reply) = call.reply else {
                return debug!(path, "ignored a call without a reply subject");
            };
            let answer = match answer {
                // In a separate task, so that functions that compute run on all cores.
                Ok(answer) => tokio::spawn(answer).await.unwrap_or_default(),
                Err(refusal) => refusal,
            };
            if let Err(error) = client.publish(reply.clone(), answer.into()).await {
                warn!("an answer cannot be sent: {error}");
                let _ = client
                    .publish(reply, fail("internal", "the answer is larger than NATS takes").into())
                    .await;
            }
        }
    });
    let client = nats.client().clone();
    tokio::spawn(async move {
        answers.await;
        // The connection ends with its last user, and what it has not written by then is lost.
        let _ = client.flush().await;
    });
    Ok(Registration { _end: end.drop_guard() })
}

fn function_subject(path: &str) -> io::Result<Subject> {
    subject(PREFIX, path).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the path {path} is too long for a function on NATS"),
        )
    })
}

fn fail(code: &str, why: &str) -> String {
    Error::new(code, why).into_answer()
}

//! One call: from the text that a page sends to the text that it gets.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::access::excerpt::excerpt;
use crate::surrogates::well_formed;

use super::arguments::{Peer, SMALL, lane};
use super::caller::Caller;
use super::result::{Kind, Reply};
use super::streams::Source;
use super::{Error, Function};

/// A function of any type: from the arguments, their names and the caller to the answer or an error.
pub(super) type Call = dyn Fn(&[&RawValue], &[String], &Caller) -> Result<Running, Error> + Send + Sync;

type Running = BoxFuture<'static, Result<Reply, Error>>;

pub(super) fn erase<F: Function<A, M>, A, M>(function: F) -> Arc<Call> {
    Arc::new(move |arguments: &[&RawValue], names: &[String], caller: &Caller| {
        let (given, wanted) = (arguments.len(), F::COUNT);
        if given != wanted {
            let takes = match wanted {
                0 => "the function takes no arguments".to_owned(),
                1 => "the function takes 1 argument".to_owned(),
                _ => format!("the function takes {wanted} arguments"),
            };
            let what = match given < wanted {
                true => format!("{} is missing", describe(given, names)),
                false => format!("{} is one too many", describe(wanted, names)),
            };
            return Err(argument(given.min(wanted), names, format!("{what}: {takes}, and {given} came")));
        }
        match function.call(arguments, caller) {
            Ok(running) => Ok(running.boxed()),
            Err((position, error)) => Err(argument(
                position,
                names,
                format!("{}: {}", describe(position, names), excerpt(&reason(&error))),
            )),
        }
    })
}

/// `argument 2 (right)`.
fn describe(position: usize, names: &[String]) -> String {
    match names.get(position) {
        Some(name) => format!("argument {} ({name})", position + 1),
        None => format!("argument {}", position + 1),
    }
}

/// The reason of an error without its place in the text, which is that of one argument and says nothing to the caller. It may
/// repeat the whole argument.
fn reason(error: &serde_json::Error) -> String {
    let (reason, place) = (error.to_string(), format!(" at line {} column {}", error.line(), error.column()));
    reason.strip_suffix(&place).map_or(reason.clone(), str::to_owned)
}

fn argument(position: usize, names: &[String], message: String) -> Error {
    Error::new("argument", message).with_data(json!({ "position": position, "name": names.get(position) }))
}

/// Answers a call; with an error once it is cancelled.
///
/// Reading and writing run to their end even so: the memory of work on the thread of large calls must stay counted.
pub(super) async fn answer(
    call: &Arc<Call>,
    names: &Arc<[String]>,
    peer: &Peer,
    caller: &Caller,
    path: &str,
    text: Utf8Bytes,
    cancelled: &CancellationToken,
) -> Answered {
    let share = match cancelled.run_until_cancelled(peer.admit(&text)).await {
        Some(Some(share)) => share,
        Some(None) => {
            let why =
                "the server holds as much for calls as it may: call again when others have been answered";
            return Error::new("busy", why).into();
        }
        None => return Error::cancelled().into(),
    };
    let begun = match lane().filter(|_| text.len() > SMALL) {
        None => begin(call, names, caller, &text),
        Some(lane) => {
            let (call, names, runtime) = (Arc::clone(call), Arc::clone(names), Handle::try_current());
            let caller = caller.clone();
            let span = Span::current();
            let read = move || {
                let _runtime = runtime.as_ref().map(Handle::enter);
                span.in_scope(|| begin(&call, &names, &caller, &text))
            };
            // The thread outlives every call: that it ended would be a bug.
            lane.run(peer.peer(), read)
                .await
                .unwrap_or(Err(Failure::Panic(Box::new("the thread of large calls ended"))))
        }
    };
    let replied = match begun {
        Ok(running) => {
            let running = AssertUnwindSafe(running).catch_unwind();
            let Some(replied) = cancelled.run_until_cancelled(running).await else {
                return Error::cancelled().into();
            };
            replied.map_err(Failure::Panic).and_then(|replied| replied.map_err(Failure::Error))
        }
        Err(failure) => Err(failure),
    };
    let answered = match replied {
        Ok(Reply(Kind::Value(written))) => {
            written.into_message(peer.peer(), "}").await.map_err(Failure::Error)
        }
        Ok(Reply(Kind::Stream(items))) => return Answered::Stream(Source { items, _share: share }),
        Err(failure) => Err(failure),
    };
    match answered {
        Ok(answer) => Answered::Text(answer),
        Err(Failure::Error(error)) => error.into(),
        Err(Failure::Panic(panic)) => {
            let why = panic_message(&*panic);
            Error::internal(format_args!("{:?}: it panicked: {why:?}", excerpt(path))).into()
        }
    }
}

/// The answer to a call.
pub(super) enum Answered {
    Text(String),
    /// Its items follow the answer.
    Stream(Source),
}

impl From<Error> for Answered {
    fn from(error: Error) -> Self {
        Self::Text(error.into_answer())
    }
}

/// Why a call has no result.
enum Failure {
    Error(Error),
    Panic(Box<dyn Any + Send>),
}

/// Reads the arguments of a call, and begins it.
fn begin(call: &Arc<Call>, names: &[String], caller: &Caller, text: &str) -> Result<Running, Failure> {
    let no_call = |why: &str| Err(Failure::Error(Error::new("call", why)));
    let text = &*well_formed(text);
    let arguments = match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(arguments) => arguments,
        Err(error) if error.is_data() => return no_call("a call is a JSON array of arguments"),
        Err(error) => {
            return no_call(&format!("a call is a JSON array of arguments, and this is no JSON: {error}"));
        }
    };
    // The function must keep its own state consistent through a panic, as every handler of a server must.
    let begun = catch_unwind(AssertUnwindSafe(|| call(&arguments, names, caller)));
    begun.map_err(Failure::Panic)?.map_err(Failure::Error)
}

/// Returns the answer to a message that is not a call.
pub(super) fn refuse(why: &str) -> String {
    Error::new("call", why).into_answer()
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("with no message")
}

//! One call: from the text that a page sends to the text that it gets.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use serde_json::value::RawValue;

use crate::access::excerpt::excerpt;

use super::{Error, Function};

/// A function of any type: arguments in, JSON or an error out.
pub(super) type Call = dyn Fn(&[&RawValue], &[String]) -> Result<Running, Error> + Send + Sync;

type Running = BoxFuture<'static, Result<Box<RawValue>, Error>>;

pub(super) fn erase<F: Function<A, M>, A, M>(function: F) -> Arc<Call> {
    Arc::new(move |arguments: &[&RawValue], names: &[String]| {
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
        match function.call(arguments) {
            Ok(running) => Ok(running.boxed()),
            Err((position, error)) => {
                Err(argument(position, names, format!("{}: {}", describe(position, names), reason(&error))))
            }
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

/// The reason of an error without its place in the text, which is that of one argument and says nothing to the caller.
fn reason(error: &serde_json::Error) -> String {
    let (reason, place) = (error.to_string(), format!(" at line {} column {}", error.line(), error.column()));
    reason.strip_suffix(&place).map_or(reason.clone(), str::to_owned)
}

fn argument(position: usize, names: &[String], message: String) -> Error {
    Error::new("argument", message).data(json!({ "position": position, "name": names.get(position) }))
}

/// Answers a call.
pub(super) async fn answer(call: &Arc<Call>, names: &[String], path: &str, text: &str) -> String {
    let arguments = match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(arguments) => arguments,
        Err(error) if error.is_data() => return refuse("a call is a JSON array of arguments"),
        Err(error) => {
            return refuse(&format!("a call is a JSON array of arguments, and this is no JSON: {error}"));
        }
    };
    // What a panic may leave behind is the function's to keep in order, as in every handler of a server.
    let running = AssertUnwindSafe(async { call(&arguments, names)?.await });
    let answered = running.catch_unwind().await.unwrap_or_else(|panic| {
        let why = panic_message(&*panic);
        Err(Error::internal(format_args!("{:?}: it panicked: {why:?}", excerpt(path))))
    });
    match answered {
        Ok(result) => format!(r#"{{"result":{result}}}"#),
        Err(error) => error.into_answer(),
    }
}

/// The answer to what is no call.
pub(super) fn refuse(why: &str) -> String {
    Error::new("call", why).into_answer()
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("with no message")
}

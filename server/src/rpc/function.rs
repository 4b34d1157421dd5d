//! Functions that can be called: async ones whose arguments and results have a form in JSON.

use std::marker::PhantomData;

use futures_util::{Stream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::caller::Caller;
use super::error::Error;
use super::result::{Kind, Reply, Written};
use super::streamed::Streamed;

/// How the answer with a result begins, and a message with an item of a stream.
const RESULT: &str = r#"{"result":"#;
const ITEM: &str = r#"{"item":"#;

/// Marks functions that return a value.
#[derive(Debug)]
pub enum Plain {}

/// Marks functions that return a `Result`.
#[derive(Debug)]
pub enum Fallible {}

/// Marks the arguments of functions that accept a [`Caller`] before them.
#[derive(Debug)]
pub struct WithCaller<A>(PhantomData<A>);

/// Marks functions that return a [`Streamed`] or a `Result` of one.
#[derive(Debug)]
pub struct Streaming<M>(PhantomData<M>);

/// A result, or an item of a stream: a value, or a `Result` of one.
pub trait Value<M> {
    /// Writes the value behind `prefix`; one that is large is written later, on another thread.
    ///
    /// # Errors
    /// Returns the function's own error, or an internal one if the value has no form in JSON.
    fn write(self, prefix: &'static str) -> Result<Written, Error>;
}

impl<T: Serialize + Send + 'static> Value<Plain> for T {
    fn write(self, prefix: &'static str) -> Result<Written, Error> {
        Written::new(prefix, self)
    }
}

impl<T: Serialize + Send + 'static, E: Into<Error>> Value<Fallible> for Result<T, E> {
    fn write(self, prefix: &'static str) -> Result<Written, Error> {
        Written::new(prefix, self.map_err(Into::into)?)
    }
}

/// The return type of a function: a [`Value`], a [`Streamed`], or a `Result` of either.
pub trait Answer<M> {
    /// Returns the answer for the page.
    ///
    /// # Errors
    /// Returns the function's own error, or an internal one if the value has no form in JSON.
    fn into_reply(self) -> Result<Reply, Error>;
}

impl<V: Value<Plain>> Answer<Plain> for V {
    fn into_reply(self) -> Result<Reply, Error> {
        Ok(Reply(Kind::Value(self.write(RESULT)?)))
    }
}

impl<T: Serialize + Send + 'static, E: Into<Error>> Answer<Fallible> for Result<T, E> {
    fn into_reply(self) -> Result<Reply, Error> {
        Ok(Reply(Kind::Value(self.write(RESULT)?)))
    }
}

impl<S, M> Answer<Streaming<M>> for Streamed<S>
where
    S: Stream<Item: Value<M>> + Send + 'static,
    M: 'static,
{
    fn into_reply(self) -> Result<Reply, Error> {
        Ok(Reply(Kind::Stream(self.0.map(|item| item.write(ITEM)).boxed())))
    }
}

impl<S, M, E> Answer<Streaming<(M, E)>> for Result<Streamed<S>, E>
where
    S: Stream<Item: Value<M>> + Send + 'static,
    M: 'static,
    E: Into<Error>,
{
    fn into_reply(self) -> Result<Reply, Error> {
        let streamed = self.map_err(Into::<Error>::into)?;
        Answer::<Streaming<M>>::into_reply(streamed)
    }
}

/// An async function with up to eight arguments, and perhaps a [`Caller`] before them, as [`rpc`](super::rpc) takes it.
pub trait Function<A, M>: Send + Sync + 'static {
    /// How many arguments it takes.
    const COUNT: usize;

    /// Calls the function.
    ///
    /// # Errors
    /// Returns the position, counted from 0, of the argument that does not have the function's type, and the reason.
    fn call(
        &self,
        arguments: &[&RawValue],
        caller: &Caller,
    ) -> Result<impl Future<Output = Result<Reply, Error>> + Send + 'static, (usize, serde_json::Error)>;
}

/// Calls `$implement` for each number of arguments, without and with a [`Caller`] before them.
macro_rules! for_each_function {
    ($implement:ident) => {
        for_each_function!($implement;);
        for_each_function!($implement; A1);
        for_each_function!($implement; A1 A2);
        for_each_function!($implement; A1 A2 A3);
        for_each_function!($implement; A1 A2 A3 A4);
        for_each_function!($implement; A1 A2 A3 A4 A5);
        for_each_function!($implement; A1 A2 A3 A4 A5 A6);
        for_each_function!($implement; A1 A2 A3 A4 A5 A6 A7);
        for_each_function!($implement; A1 A2 A3 A4 A5 A6 A7 A8);
    };
    ($implement:ident; $($argument:ident)*) => {
        $implement!(($($argument,)*); $($argument)*;);
        $implement!(WithCaller<($($argument,)*)>; $($argument)*; Caller);
    };
}

#[cfg(feature = "typescript")]
pub(super) use for_each_function;

macro_rules! function {
    ($marker:ty; $($argument:ident)*; $($caller:ty)?) => {
        impl<F, Fut, M, $($argument),*> Function<$marker, M> for F
        where
            F: Fn($($caller,)? $($argument),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output: Answer<M>> + Send + 'static,
            $($argument: DeserializeOwned + Send + 'static,)*
        {
            const COUNT: usize = <[&str]>::len(&[$(stringify!($argument)),*]);

            #[allow(non_snake_case, reason = "each argument has the name of its type")]
            fn call(
                &self,
                arguments: &[&RawValue],
                caller: &Caller,
            ) -> Result<
                impl Future<Output = Result<Reply, Error>> + Send + 'static,
                (usize, serde_json::Error),
            > {
                let mut values = arguments.iter().copied().enumerate();
                let mut next = || values.next().unwrap_or((Self::COUNT, RawValue::NULL));
                $(
                    // From the text: by way of a `Value`, integers of more than 64 bits would lose digits.
                    let (position, value) = next();
                    let $argument = $argument::deserialize(value).map_err(|error| (position, error))?;
                )*
                let _ = &mut next;
                let _ = caller;
                let answer = self($(<$caller>::clone(caller),)? $($argument),*);
                Ok(async move { answer.await.into_reply() })
            }
        }
    };
}

for_each_function!(function);

//! Functions that can be called: async ones whose arguments and results have a form in JSON.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::caller::Caller;
use super::error::Error;
use super::result::write;

/// Marks functions that return a value.
#[derive(Debug)]
pub enum Plain {}

/// Marks functions that return a `Result`.
#[derive(Debug)]
pub enum Fallible {}

/// Marks the arguments of functions that accept a [`Caller`] before them.
#[derive(Debug)]
pub struct WithCaller<A>(PhantomData<A>);

/// The return type of a function: a value, or a `Result` of one.
pub trait Answer<M> {
    /// The value. serde_json writes it, on another thread if it is large.
    type Value: Serialize + Send + 'static;

    /// Returns the value.
    ///
    /// # Errors
    /// Returns the function's own error.
    fn into_result(self) -> Result<Self::Value, Error>;
}

impl<T: Serialize + Send + 'static> Answer<Plain> for T {
    type Value = T;

    fn into_result(self) -> Result<T, Error> {
        Ok(self)
    }
}

impl<T: Serialize + Send + 'static, E: Into<Error>> Answer<Fallible> for Result<T, E> {
    type Value = T;

    fn into_result(self) -> Result<T, Error> {
        self.map_err(Into::into)
    }
}

/// An async function with up to eight arguments, and perhaps a [`Caller`] before them, as [`rpc`](super::rpc) takes it.
pub trait Function<A, M>: Send + Sync + 'static {
    /// How many arguments it takes.
    const COUNT: usize;

    /// Calls the function, and writes the answer to the page.
    ///
    /// # Errors
    /// Returns the position, counted from 0, of the argument that does not have the function's type, and the reason.
    fn call(
        &self,
        arguments: &[&RawValue],
        caller: &Caller,
    ) -> Result<impl Future<Output = Result<String, Error>> + Send + 'static, (usize, serde_json::Error)>;
}

macro_rules! function {
    ($($argument:ident)*) => {
        function!(($($argument,)*); $($argument)*;);
        function!(WithCaller<($($argument,)*)>; $($argument)*; Caller);
    };
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
                impl Future<Output = Result<String, Error>> + Send + 'static,
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
                let answer = self($(<$caller>::clone(caller),)? $($argument),*);
                let peer = caller.peer();
                Ok(async move {
                    let value = answer.await.into_result()?;
                    write(value, peer).await
                })
            }
        }
    };
}

function!();
function!(A1);
function!(A1 A2);
function!(A1 A2 A3);
function!(A1 A2 A3 A4);
function!(A1 A2 A3 A4 A5);
function!(A1 A2 A3 A4 A5 A6);
function!(A1 A2 A3 A4 A5 A6 A7);
function!(A1 A2 A3 A4 A5 A6 A7 A8);

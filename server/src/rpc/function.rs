//! What can be called: async functions whose arguments and results have a form in JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};

use super::Error;

/// Marks functions that return a value.
#[derive(Debug)]
pub enum Plain {}

/// Marks functions that return a `Result`.
#[derive(Debug)]
pub enum Fallible {}

/// What a function returns.
pub trait Answer<M> {
    /// Writes it as JSON, as serde_json writes the value.
    ///
    /// # Errors
    /// The function's own, or it has no form in JSON.
    fn into_json(self) -> Result<Box<RawValue>, Error>;
}

impl<T: Serialize> Answer<Plain> for T {
    fn into_json(self) -> Result<Box<RawValue>, Error> {
        Ok(to_raw_value(&self)?)
    }
}

impl<T: Serialize, E: Into<Error>> Answer<Fallible> for Result<T, E> {
    fn into_json(self) -> Result<Box<RawValue>, Error> {
        Ok(to_raw_value(&self.map_err(Into::into)?)?)
    }
}

/// An async function with up to eight arguments, as [`rpc`](super::rpc) takes it.
pub trait Function<A, M>: Send + Sync + 'static {
    /// How many arguments it takes.
    const COUNT: usize;

    /// Calls it.
    ///
    /// # Errors
    /// The position of the argument that cannot be what the function takes, counted from 0, and why.
    fn call(
        &self,
        arguments: &[&RawValue],
    ) -> Result<impl Future<Output = Result<Box<RawValue>, Error>> + Send + 'static, (usize, serde_json::Error)>;
}

macro_rules! function {
    ($($argument:ident)*) => {
        impl<F, Fut, M, $($argument),*> Function<($($argument,)*), M> for F
        where
            F: Fn($($argument),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output: Answer<M>> + Send + 'static,
            $($argument: DeserializeOwned + Send + 'static,)*
        {
            const COUNT: usize = <[&str]>::len(&[$(stringify!($argument)),*]);

            #[allow(non_snake_case, reason = "each argument has the name of its type")]
            fn call(
                &self,
                arguments: &[&RawValue],
            ) -> Result<
                impl Future<Output = Result<Box<RawValue>, Error>> + Send + 'static,
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
                let answer = self($($argument),*);
                Ok(async move { answer.await.into_json() })
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

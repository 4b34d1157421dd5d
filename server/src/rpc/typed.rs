//! Functions whose types TypeScript can know, too: their arguments and results implement [`TS`].

use std::any::TypeId;
use std::collections::{BTreeSet, HashSet};

use futures_util::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ts_rs::{Config, TS, TypeVisitor};

use crate::site::typescript::Signature;

use super::caller::Caller;
use super::error::Error;
use super::function::{Answer, Fallible, Function, Plain, Streaming, Value, WithCaller, for_each_function};
use super::streamed::Streamed;
use super::{Rpc, rpc};

/// Makes a function callable as [`rpc`] does, and keeps its types for [`Site::typescript`](crate::Site::typescript).
///
/// The types of its arguments and results must implement [`TS`] of the crate [`ts-rs`](ts_rs), which the application needs as a
/// dependency for `#[derive(TS)]`. Integers of any size are `number`, since the page reads them with `JSON.parse`.
///
/// ```
/// use manysocket_server::Site;
/// use manysocket_server::rpc::{Error, typed};
/// use serde::{Deserialize, Serialize};
/// use ts_rs::TS;
///
/// #[derive(Serialize, Deserialize, TS)]
/// struct Position {
///     x: f64,
///     y: f64,
/// }
///
/// async fn drive(from: Position, degrees: f64) -> Result<Position, Error> {
///     Ok(Position { x: from.x + degrees.cos(), y: from.y + degrees.sin() })
/// }
///
/// # fn main() -> Result<(), manysocket_server::TypeConflict> {
/// let site: Site = Site::new().endpoint("/drive", typed(drive).arguments(["from", "degrees"]).endpoint());
/// assert!(site.typescript()?.contains("drive(from: Position, degrees: number): Position;"));
/// # Ok(())
/// # }
/// ```
pub fn typed<F, A, M>(function: F) -> Rpc
where
    F: TypedFunction<A, M>,
{
    Rpc { signature: F::signature(), ..rpc(function) }
}

/// A [`Value`] whose type TypeScript can know.
pub trait TypedValue<M>: Value<M> {
    /// The value's type.
    type Type: TS + 'static;
}

impl<T: Value<Plain> + TS + 'static> TypedValue<Plain> for T {
    type Type = T;
}

impl<T: Serialize + Send + TS + 'static, E: Into<Error>> TypedValue<Fallible> for Result<T, E> {
    type Type = T;
}

/// An [`Answer`] whose type TypeScript can know.
pub trait TypedAnswer<M>: Answer<M> {
    /// The type of the result, or of a stream's items.
    type Type: TS + 'static;

    /// Whether it is a stream.
    const IS_STREAM: bool;
}

impl<V: TypedValue<Plain>> TypedAnswer<Plain> for V {
    type Type = V::Type;
    const IS_STREAM: bool = false;
}

impl<T: Serialize + Send + TS + 'static, E: Into<Error>> TypedAnswer<Fallible> for Result<T, E> {
    type Type = T;
    const IS_STREAM: bool = false;
}

impl<S, M> TypedAnswer<Streaming<M>> for Streamed<S>
where
    S: Stream<Item: TypedValue<M>> + Send + 'static,
    M: 'static,
{
    type Type = <S::Item as TypedValue<M>>::Type;
    const IS_STREAM: bool = true;
}

impl<S, M, E> TypedAnswer<Streaming<(M, E)>> for Result<Streamed<S>, E>
where
    S: Stream<Item: TypedValue<M>> + Send + 'static,
    M: 'static,
    E: Into<Error>,
{
    type Type = <S::Item as TypedValue<M>>::Type;
    const IS_STREAM: bool = true;
}

/// A [`Function`] whose types TypeScript can know, as [`typed`] accepts it.
pub trait TypedFunction<A, M>: Function<A, M> {
    /// Returns the function's types.
    fn signature() -> Signature;
}

macro_rules! function {
    ($marker:ty; $($argument:ident)*; $($caller:ty)?) => {
        impl<F, Fut, M, $($argument),*> TypedFunction<$marker, M> for F
        where
            F: Fn($($caller,)? $($argument),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output: TypedAnswer<M>> + Send + 'static,
            $($argument: DeserializeOwned + Send + TS + 'static,)*
        {
            fn signature() -> Signature {
                let mut types = Types::new();
                let arguments = vec![$(types.name::<$argument>()),*];
                let result = types.name::<<Fut::Output as TypedAnswer<M>>::Type>();
                let is_stream = <Fut::Output as TypedAnswer<M>>::IS_STREAM;
                let result = if is_stream { format!("AsyncIterable<{result}>") } else { result };
                Signature::new(arguments, result, types.declarations)
            }
        }
    };
}

for_each_function!(function);

/// The types of one function.
struct Types {
    config: Config,
    seen: HashSet<TypeId>,
    /// The names of those that have one, and their declarations.
    declarations: BTreeSet<(String, String)>,
}

impl Types {
    fn new() -> Self {
        let config = Config::new().with_large_int("number");
        Self { config, seen: HashSet::new(), declarations: BTreeSet::new() }
    }

    /// Returns the name of a type, and declares it and those that it depends on.
    fn name<T: TS + 'static>(&mut self) -> String {
        self.visit::<T>();
        T::name(&self.config)
    }
}

impl TypeVisitor for Types {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        if !self.seen.insert(TypeId::of::<T>()) {
            return;
        }
        // Others, such as numbers and arrays, are no declarations.
        if T::output_path().is_some() {
            let (docs, declaration) = (T::docs().unwrap_or_default(), T::decl(&self.config));
            self.declarations.insert((T::ident(&self.config), format!("{docs}export {declaration}")));
        }
        T::visit_generics(self);
        T::visit_dependencies(self);
    }
}

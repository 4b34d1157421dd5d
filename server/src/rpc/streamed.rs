//! A result that is a stream.

/// A result that is a stream: the page gets its items one after the other, while the function makes them.
///
/// The items are values that can be serialised, or `Result`s of them; an error ends the stream. The server polls the stream
/// only while the page has room for items, and drops it when the page leaves the loop, aborts or is gone.
///
/// ```
/// use axum::Router;
/// use futures_util::stream;
/// use manysocket_server::rpc::{Error, Streamed, rpc};
///
/// // In the page: for await (const n of await rpc("/rpc/count")(3)) …
/// async fn count(to: u64) -> Result<Streamed<impl futures_util::Stream<Item = u64>>, Error> {
///     if to > 1_000_000 {
///         return Err(Error::new("too-far", "a million is enough"));
///     }
///     Ok(Streamed(stream::iter(0..to)))
/// }
/// let app: Router = Router::new().route_service("/rpc/count", rpc(count).arguments(["to"]));
/// ```
#[derive(Debug, Clone)]
pub struct Streamed<S>(pub S);

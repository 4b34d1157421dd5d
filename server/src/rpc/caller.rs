//! The caller of a function.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Request, Uri};

use crate::site::endpoint::original_uri;

/// The caller of a function: the request that opened its socket. A function accepts one before its arguments.
///
/// ```
/// use manysocket_server::rpc::{Caller, Error, rpc};
///
/// async fn rename(caller: Caller, name: String) -> Result<String, Error> {
///     let user = caller.headers().get("x-user").and_then(|user| user.to_str().ok());
///     let user = user.ok_or_else(|| Error::new("login", "log in first"))?;
///     let tank = caller.parameter("tank").unwrap_or_default();
///     Ok(format!("{user} calls {tank} {name} now"))
/// }
///
/// let app: axum::Router = axum::Router::new().route_service("/tanks/{tank}/rename", rpc(rename));
/// ```
///
/// A call that arrives from another process over NATS has neither headers nor parameters nor extensions.
#[derive(Debug, Clone)]
pub struct Caller {
    request: Arc<Parts>,
    parameters: Arc<[(Box<str>, Box<str>)]>,
}

impl Caller {
    /// Returns the caller that a request comes from.
    pub(super) async fn of(parts: &mut Parts) -> Self {
        let parameters = match RawPathParams::from_request_parts(parts, &()).await {
            Ok(parameters) => parameters.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            // The route has none, or their text is no UTF-8.
            Err(_) => Arc::default(),
        };
        Self { request: Arc::new(parts.clone()), parameters }
    }

    /// Returns a caller of whom nothing is known.
    pub(super) fn unknown() -> Self {
        let (parts, ()) = Request::new(()).into_parts();
        Self { request: Arc::new(parts), parameters: Arc::default() }
    }

    /// Returns the headers of the request: those of the handshake, and for a virtual socket those that its link has.
    pub fn headers(&self) -> &HeaderMap {
        &self.request.headers
    }

    /// Returns the URL that was called.
    pub fn uri(&self) -> &Uri {
        original_uri(&self.request.extensions, &self.request.uri)
    }

    /// Returns the value of a parameter of the route's path, decoded.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
    }

    /// Returns the extensions that layers have put into the request, such as a user.
    pub fn extensions(&self) -> &Extensions {
        &self.request.extensions
    }
}

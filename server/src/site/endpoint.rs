//! A WebSocket endpoint that describes itself to plain HTTP clients.

use axum::extract::{OriginalUri, Request, State};
use axum::handler::Handler;
use axum::http::{Extensions, Method, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::{MethodRouter, any};
use serde_json::json;
use std::sync::Arc;

use crate::access::as_declared;
use crate::access::reader::{allow_cors, refuse_reader};
use crate::access::tokens::has_token;
use crate::site::html::{escape, page};
use crate::site::listing::Listing;
use crate::site::negotiate::{self, EVENTS, HTML, JSON};
#[cfg(feature = "typescript")]
use crate::site::typescript::Signature;
use crate::ws::upgrade::Offer;

/// A WebSocket endpoint of a [`Site`](crate::Site). It answers plain HTTP requests with a description and the status
/// 426, as a page or JSON by `Accept`. If the request accepts `text/event-stream` and the endpoint [allows
/// it](Endpoint::events), it sends its messages as Server-Sent Events instead.
///
/// ```
/// use axum::{response::Response, routing::any};
/// use manysocket_server::{Endpoint, Site, WebSocketUpgrade};
///
/// async fn echo(upgrade: WebSocketUpgrade) -> Response {
///     upgrade.on_upgrade(async |mut socket| {
///         while let Some(Ok(message)) = socket.recv().await {
///             let _ = socket.send(message).await;
///         }
///     })
/// }
///
/// let echo = Endpoint::new(any(echo)).title("Echo").usage("Send text or binary: it comes back.");
/// let site: Site = Site::new().endpoint("/echo", echo);
/// ```
#[derive(Debug, Clone)]
pub struct Endpoint<S = ()> {
    socket: MethodRouter<S>,
    events: Option<MethodRouter<S>>,
    http: Option<MethodRouter<S>>,
    listing: Option<Listing>,
    about: About,
    #[cfg(feature = "typescript")]
    function: Option<Signature>,
}

/// The script that lets a reader of the page talk to the endpoint.
const TRY_IT: &str = include_str!("try_it.js");

/// The description for plain HTTP clients.
#[derive(Debug, Clone, Default)]
struct About {
    title: String,
    usage: String,
    protocol: Option<String>,
}

impl<S: Clone + Send + Sync + 'static> Endpoint<S> {
    /// Creates an endpoint whose WebSocket requests `socket` answers, for example `any(handler)`.
    pub fn new(socket: MethodRouter<S>) -> Self {
        let about = About { title: "A WebSocket endpoint".into(), ..About::default() };
        Self {
            socket,
            events: None,
            http: None,
            listing: None,
            about,
            #[cfg(feature = "typescript")]
            function: None,
        }
    }

    /// Sets the title: a few words that name the endpoint. The default is "A WebSocket endpoint".
    #[must_use]
    pub fn title(mut self, title: &str) -> Self {
        self.about.title = title.into();
        self
    }

    /// Sets the usage text: a sentence or two about the messages in both directions.
    #[must_use]
    pub fn usage(mut self, usage: &str) -> Self {
        self.about.usage = usage.into();
        self
    }

    /// Sets the URL of a page that describes the messages.
    #[must_use]
    pub fn protocol(mut self, url: &str) -> Self {
        self.about.protocol = Some(url.into());
        self
    }

    /// Sets the listing with the current values of the path's last parameter.
    #[must_use]
    pub fn listing(mut self, names: Listing) -> Self {
        self.listing = Some(names);
        self
    }

    /// Allows clients to read the endpoint's messages as Server-Sent Events: `get(handler)`, whose handler answers
    /// with [`sse`](crate::sse()). Only pages of the server's own origin and of [allowed
    /// origins](crate::Site::allow_origin) may read them.
    #[must_use]
    pub fn events(mut self, events: MethodRouter<S>) -> Self {
        self.events = Some(events);
        self
    }

    /// Sets the handler for plain HTTP requests, `get(handler)`, in place of the description.
    #[must_use]
    pub fn http(mut self, methods: MethodRouter<S>) -> Self {
        self.http = Some(methods);
        self
    }

    /// Makes the endpoint that of a function with this signature.
    #[cfg(feature = "typescript")]
    pub(crate) fn function(mut self, signature: Signature) -> Self {
        self.function = Some(signature);
        self
    }

    /// Returns the signature of the endpoint's function, if it has one.
    #[cfg(feature = "typescript")]
    pub(crate) fn take_function(&mut self) -> Option<Signature> {
        self.function.take()
    }

    /// Returns the handler for all requests to the endpoint, and its listing.
    pub(crate) fn into_parts(mut self) -> (MethodRouter<S>, Option<Listing>) {
        let listing = self.listing.take();
        let this = Arc::new(self);
        let methods = any(async move |State(state): State<S>, request: Request| {
            let methods = match this.answer(&request) {
                ResponseKind::Ready(response) => return response,
                ResponseKind::Events(events) => {
                    let (parts, body) = request.into_parts();
                    if let Some(refusal) = refuse_reader(&parts) {
                        return refusal;
                    }
                    let headers = parts.headers.clone();
                    let request = Request::from_parts(parts, body);
                    return allow_cors(events.call(request, state).await, &headers);
                }
                ResponseKind::By(methods) => methods,
            };
            methods.call(request, state).await
        });
        (methods, listing)
    }

    fn answer(&self, request: &Request) -> ResponseKind<S> {
        if wants_socket(request) {
            return ResponseKind::By(self.socket.clone());
        }
        let forms: &[_] = match self.events {
            Some(_) => &[JSON, HTML, EVENTS],
            None => &[JSON, HTML],
        };
        let form = negotiate::choose(request.headers(), forms);
        match (form, &self.events, &self.http) {
            (Some(EVENTS), Some(events), _) if request.method() == Method::GET => {
                ResponseKind::Events(events.clone())
            }
            (_, _, Some(http)) => ResponseKind::By(http.clone()),
            (form, _, _) => ResponseKind::Ready(self.about.respond(form, request, self.events.is_some())),
        }
    }
}

enum ResponseKind<S> {
    Ready(Response),
    Events(MethodRouter<S>),
    By(MethodRouter<S>),
}

impl About {
    fn respond(&self, form: Option<&str>, request: &Request, has_events: bool) -> Response {
        let Self { title, usage, protocol } = self;
        let path = original_uri(request.extensions(), request.uri()).path();
        let (kind, body) = match form {
            None => return not_acceptable(has_events),
            Some(HTML) => ("text/html; charset=utf-8", self.page(path, has_events)),
            Some(_) => {
                let about = json!({
                    "title": title, "usage": usage, "protocol": protocol, "websocket": path, "events": has_events,
                });
                (JSON, format!("{about}\n"))
            }
        };
        let headers = [
            (header::CONTENT_TYPE, kind),
            (header::VARY, "accept"),
            (header::UPGRADE, "websocket"),
            (header::CONNECTION, "upgrade"),
        ];
        as_declared((StatusCode::UPGRADE_REQUIRED, headers, body))
    }

    fn page(&self, path: &str, has_events: bool) -> String {
        let mut body = format!("<p>{}</p>\n", escape(&self.usage));
        let code = |class| {
            format!("<pre>new {class}(new URL({}, location))</pre>\n", escape(&json!(path).to_string()))
        };
        body += "<p>This is a WebSocket endpoint. Connect from a page of this site:</p>\n";
        body += &code("WebSocket");
        if has_events {
            body += "<p>Or read its messages as Server-Sent Events:</p>\n";
            body += &code("EventSource");
        }
        if let Some(protocol) = &self.protocol {
            body += &format!("<p><a href=\"{}\">The messages</a></p>\n", escape(protocol));
        }
        body += &format!("<script type=\"module\">\n{TRY_IT}</script>\n");
        page(&self.title, path, &body)
    }
}

/// Returns the URL as the client sent it. Inside a nested router, `uri` lacks the outer prefix.
pub(crate) fn original_uri<'a>(extensions: &'a Extensions, uri: &'a Uri) -> &'a Uri {
    extensions.get::<OriginalUri>().map_or(uri, |original| &original.0)
}

/// Builds a 406 response that lists the available media types.
pub(crate) fn not_acceptable(has_events: bool) -> Response {
    let events = if has_events { ", text/event-stream" } else { "" };
    let why = format!(
        "This is a WebSocket endpoint. Plain HTTP gets {JSON}, {HTML}{events}; Accept names none of them.\n"
    );
    as_declared((StatusCode::NOT_ACCEPTABLE, [(header::VARY, "accept")], why))
}

/// Returns whether a request asks for a WebSocket, native or virtual. Over HTTP/2 it is CONNECT (RFC 8441), unless the request
/// has passed the multiplexer.
pub(crate) fn wants_socket(request: &Request) -> bool {
    request.extensions().get::<Offer>().is_some()
        || request.method() == Method::CONNECT
        || has_token(request.headers(), &header::UPGRADE, "websocket")
}

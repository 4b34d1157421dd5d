//! Answers at an interior path with the list of its children, and sends changes of the list.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::ws::{Message as WsMessage, close_code};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::ready;
use futures_util::stream::{self, Stream, StreamExt};
use percent_encoding::percent_decode_str;
use tracing::warn;

use crate::access::as_declared;
use crate::access::reader::{allow_cors, refuse_reader};
use crate::metrics::stats::Stats;
use crate::site::endpoint::{not_acceptable, original_uri, wants_socket};
use crate::site::filter::Filter;
use crate::site::html::page;
use crate::site::index_text::Form;
use crate::site::negotiate::{self, EVENTS, HTML, JSON};
use crate::site::sse::event_stream;
use crate::site::view::{Full, Reader, View};
use crate::ws::socket::{WebSocket, close};
use crate::ws::upgrade::WebSocketUpgrade;

/// The bytes of a list that are handed to a connection at once; the rest waits until the connection has room.
const CHUNK: usize = 64 * 1024;

/// The text above the list in a browser.
const USAGE: &str = "<p>The WebSocket endpoints below this path; a name with a slash at its end has more below it. \
     A WebSocket to this path gets the list and its changes.</p>\n";

/// The name of this limit in logs and metrics.
const LIMIT: &str = "index_memory";

/// Answers at an interior path, with and without a trailing slash.
pub(crate) async fn serve(Extension(view): Extension<Arc<View>>, request: Request) -> Response {
    let wants_socket = wants_socket(&request);
    let method = request.method().clone();
    let (mut parts, _) = request.into_parts();
    let uri = original_uri(&parts.extensions, &parts.uri).clone();
    let path = format!("{}/", uri.path().trim_end_matches('/'));
    if wants_socket {
        let upgrade = match WebSocketUpgrade::checked(&mut parts).await {
            Ok(upgrade) => upgrade,
            Err(refusal) => return refusal,
        };
        return match view.follow().await {
            Ok(reader) => {
                let filter = Filter::new(&parts, &path);
                upgrade.on_upgrade(|socket| run(reader, filter, socket))
            }
            Err(Full) => refuse_full(&parts),
        };
    }
    if !uri.path().ends_with('/') {
        return redirect(&uri);
    }
    let form = negotiate::choose(&parts.headers, &[JSON, HTML, EVENTS]);
    let answered = match form {
        Some(EVENTS) if method == Method::GET => match refuse_reader(&parts) {
            Some(refusal) => Ok(refusal),
            None => events(&view, &parts, &path).await,
        },
        Some(HTML) => html(&view, &parts, &path).await,
        Some(_) => json(&view, &parts, &path).await,
        None => Ok(not_acceptable(true)),
    };
    answered.unwrap_or_else(|Full| refuse_full(&parts))
}

/// Refuses a reader while other readers hold too many outdated lists.
fn refuse_full(parts: &Parts) -> Response {
    warn!(limit = LIMIT, "refusing a reader of an index: slow readers hold too many outdated lists");
    if let Some(stats) = parts.extensions.get::<Stats>() {
        stats.limit_crossed(LIMIT);
    }
    let why = "Slow readers of this index hold too many outdated lists: try again later.\n";
    as_declared((StatusCode::SERVICE_UNAVAILABLE, why))
}

async fn events(view: &Arc<View>, parts: &Parts, path: &str) -> Result<Response, Full> {
    let reader = view.follow().await?;
    let filter = Filter::new(parts, path).map(Arc::new);
    let messages = stream::unfold(reader, async |mut reader| Some((reader.next().await, reader)));
    let response = match filter {
        None => event_stream(messages.map(|message| message.event)),
        Some(filter) => event_stream(messages.filter_map(move |message| {
            let filter = Arc::clone(&filter);
            async move { filter.filter(&message).await.map(|shown| shown.event) }
        })),
    };
    Ok(allow_cors(response, &parts.headers))
}

async fn json(view: &View, parts: &Parts, path: &str) -> Result<Response, Full> {
    let list = view.list().await?.text;
    Ok(match Filter::new(parts, path) {
        None => answer(JSON, Some(list.len()), chunks(list.into())),
        Some(filter) => {
            let around = |text: &'static str| stream::once(ready(Bytes::from(text)));
            answer(JSON, None, around("[").chain(filter.items(list, Form::Json)).chain(around("]")))
        }
    })
}

async fn html(view: &View, parts: &Parts, path: &str) -> Result<Response, Full> {
    let title = percent_decode_str(path).decode_utf8_lossy().into_owned();
    let begin = Bytes::from(page(&title, path, &format!("{USAGE}<ul>\n")));
    let around = |bytes: Bytes| stream::once(ready(bytes));
    let (begin, end) = (around(begin), around(Bytes::from("</ul>\n")));
    let kind = "text/html; charset=utf-8";
    Ok(match Filter::new(parts, path) {
        None => answer(kind, None, begin.chain(chunks(view.html().await?)).chain(end)),
        Some(filter) => {
            let list = view.list().await?.text;
            answer(kind, None, begin.chain(filter.items(list, Form::Html)).chain(end))
        }
    })
}

/// Splits shared bytes into chunks without copying them.
fn chunks(mut bytes: Bytes) -> impl Stream<Item = Bytes> {
    stream::iter(std::iter::from_fn(move || {
        let chunk = bytes.split_to(CHUNK.min(bytes.len()));
        (!chunk.is_empty()).then_some(chunk)
    }))
}

fn answer(kind: &str, length: Option<usize>, chunks: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    // The list differs between requesters and changes at any time.
    let headers =
        [(header::CONTENT_TYPE, kind), (header::VARY, "accept"), (header::CACHE_CONTROL, "no-store")];
    let body = Body::from_stream(chunks.map(Ok::<_, std::convert::Infallible>));
    let mut response = as_declared((headers, body));
    if let Some(length) = length {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// Redirects to the same path with a trailing slash, so that links resolve. The reference is relative: a proxy's
/// prefix or a path of `//` then cannot lead to another place.
fn redirect(uri: &axum::http::Uri) -> Response {
    let last = uri.path().rsplit('/').next().unwrap_or_default();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    as_declared((StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, format!("./{last}/{query}"))]))
}

/// Sends the list and its changes to a page until the page disconnects.
async fn run(mut reader: Reader, filter: Option<Filter>, mut socket: WebSocket) {
    loop {
        let message = tokio::select! {
            message = reader.next() => message,
            received = socket.recv() => match received {
                Some(Ok(WsMessage::Text(_) | WsMessage::Binary(_))) => {
                    let why = "an index tells what is below it, and takes no messages";
                    if socket.send(close(close_code::UNSUPPORTED, why)).await.is_err() {
                        return;
                    }
                    continue;
                }
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
        };
        let message = match &filter {
            Some(filter) => filter.filter(&message).await,
            None => Some(message),
        };
        if let Some(message) = message
            && socket.send(WsMessage::Text(message.text)).await.is_err()
        {
            return;
        }
    }
}

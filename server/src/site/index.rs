//! An interior path: lists what is below it, and how that changes.

use std::fmt;
use std::sync::Arc;

use axum::Extension;
use axum::extract::Request;
use axum::extract::ws::{Message, close_code};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use hyper::upgrade::OnUpgrade;
use percent_encoding::{AsciiSet, percent_decode_str, percent_encode};
use serde_json::json;

use crate::access::reader::{allow_cors, refuse_reader};
use crate::site::endpoint::{not_acceptable, original_uri, wants_socket};
use crate::site::html::{links, page};
use crate::site::listing::{Change, Changes};
use crate::site::negotiate::{self, EVENTS, HTML, JSON};
use crate::site::route_tree::{Entries, Forms, SEGMENT};
use crate::site::sse::events;
use crate::ws::socket::{WebSocket, close};
use crate::ws::upgrade::WebSocketUpgrade;

/// What cannot stand in a segment as it is (RFC 3986 §3.3).
const NEEDED: &AsciiSet = &SEGMENT
    .remove(b':')
    .remove(b'@')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=');

type MayOpen = dyn Fn(&Parts, &str) -> bool + Send + Sync;

/// Decides which children the requester sees: those that all of these say yes to.
#[derive(Clone, Default)]
pub(crate) struct Visibility(pub(crate) Vec<Arc<MayOpen>>);

impl fmt::Debug for Visibility {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Visibility({})", self.0.len())
    }
}

/// Answers at a path with a slash at the end, and without.
pub(crate) async fn serve(Extension(entries): Extension<Arc<Entries>>, request: Request) -> Response {
    let wants_socket = wants_socket(&request);
    let method = request.method().clone();
    let (mut parts, _) = request.into_parts();
    let uri = original_uri(&parts.extensions, &parts.uri).clone();
    if wants_socket {
        let upgrade = match WebSocketUpgrade::checked(&mut parts).await {
            Ok(upgrade) => upgrade,
            Err(refusal) => return refusal,
        };
        // The other way to upgrade a virtual open is not to be kept for as long as the socket lasts.
        parts.extensions.remove::<OnUpgrade>();
        let index = Index::new(&entries, parts, uri.path());
        return upgrade.on_upgrade(|socket| index.run(socket));
    }
    if !uri.path().ends_with('/') {
        return redirect(&uri);
    }
    let index = Index::new(&entries, parts, uri.path());
    match negotiate::choose(&index.parts.headers, &[JSON, HTML, EVENTS]) {
        Some(EVENTS) if method == Method::GET => {
            if let Some(refusal) = refuse_reader(&index.parts) {
                return refusal;
            }
            let headers = index.parts.headers.clone();
            let messages = stream::unfold(index, async |mut index| {
                let message = Message::Text(index.next().await.into());
                Some((message, index))
            });
            allow_cors(events(messages), &headers)
        }
        Some(HTML) => answer("text/html; charset=utf-8", index.page()),
        Some(_) => answer(JSON, json!(index.snapshot()).to_string()),
        None => not_acceptable(true),
    }
}

fn answer(kind: &str, body: String) -> Response {
    // It differs by requester and changes at any time.
    let headers =
        [(header::CONTENT_TYPE, kind), (header::VARY, "accept"), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}

/// To the same with a slash, so that links resolve: as a relative reference, since neither a proxy's prefix nor a path of `//`
/// then leads elsewhere.
fn redirect(uri: &axum::http::Uri) -> Response {
    let last = uri.path().rsplit('/').next().unwrap_or_default();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, format!("./{last}/{query}"))]).into_response()
}

/// A path with as few percent-encodings as there can be: a hook that compares paths must not miss one because the requester
/// spells it otherwise.
fn canonical(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        let bytes: Vec<u8> = percent_decode_str(segment).collect();
        percent_encode(&bytes, NEEDED).to_string()
    });
    segments.collect::<Vec<_>>().join("/")
}

/// One requester's view.
struct Index {
    parts: Parts,
    visibility: Visibility,
    /// The path as it was asked for, with a slash at the end.
    path: String,
    fixed: Vec<String>,
    names: Option<(Changes, Forms)>,
    /// The first list has been told.
    told: bool,
}

impl Index {
    fn new(entries: &Entries, parts: Parts, path: &str) -> Self {
        let visibility = parts.extensions.get::<Visibility>().cloned().unwrap_or_default();
        let path = format!("{}/", path.trim_end_matches('/'));
        let names = entries.names.as_ref().map(|(listing, forms)| (listing.changes(), *forms));
        let mut index = Self { parts, visibility, path, fixed: Vec::new(), names, told: false };
        index.fixed = entries.fixed.iter().filter(|name| index.shows(name)).cloned().collect();
        index
    }

    fn shows(&self, name: &str) -> bool {
        if self.visibility.0.is_empty() {
            return true;
        }
        let path = canonical(&format!("{}{}", self.path, name.trim_start_matches("./")));
        self.visibility.0.iter().all(|may_open| may_open(&self.parts, &path))
    }

    /// What is listed now.
    fn snapshot(&self) -> Vec<String> {
        let names = self.names.as_ref().map(|(changes, forms)| (changes.snapshot(), *forms));
        self.all(names)
    }

    fn all(&self, names: Option<(Vec<Arc<str>>, Forms)>) -> Vec<String> {
        let mut all = names.map(|(names, forms)| self.entries(&names, forms)).unwrap_or_default();
        all.extend(self.fixed.iter().cloned());
        all.sort();
        all
    }

    /// The entries of names that come from a listing. One that is a route of its own, too, is always there.
    fn entries(&self, names: &[Arc<str>], forms: Forms) -> Vec<String> {
        let entries = names.iter().flat_map(|name| forms.encoded(name));
        entries.filter(|name| self.fixed.binary_search(name).is_err() && self.shows(name)).collect()
    }

    /// The next message: the list, then changes. Nothing is lost if the future is dropped.
    async fn next(&mut self) -> String {
        loop {
            let Some((changes, forms)) = &mut self.names else {
                if self.told {
                    std::future::pending::<()>().await;
                }
                self.told = true;
                return json!(self.fixed).to_string();
            };
            let forms = *forms;
            match changes.next().await {
                Change::All(names) => return json!(self.all(Some((names, forms)))).to_string(),
                Change::Some { added, removed } => {
                    let (added, removed) = (self.entries(&added, forms), self.entries(&removed, forms));
                    if !(added.is_empty() && removed.is_empty()) {
                        return json!({ "added": added, "removed": removed }).to_string();
                    }
                }
            }
        }
    }

    /// Tells a page until it leaves.
    async fn run(mut self, mut socket: WebSocket) {
        loop {
            let message = tokio::select! {
                text = self.next() => Message::Text(text.into()),
                received = socket.recv() => match received {
                    Some(Ok(Message::Text(_) | Message::Binary(_))) => close(
                        close_code::UNSUPPORTED,
                        "an index tells what is below it, and takes no messages",
                    ),
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => return,
                },
            };
            if socket.send(message).await.is_err() {
                return;
            }
        }
    }

    fn page(&self) -> String {
        let names = self.snapshot();
        let text = |name: &str| percent_decode_str(name).decode_utf8_lossy().into_owned();
        let up = (self.path != "/").then(|| ("../", "../".to_owned()));
        let here = names.iter().map(|name| (name.as_str(), text(name)));
        page(&text(&self.path), &links(up.into_iter().chain(here)))
    }
}

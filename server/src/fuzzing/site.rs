//! Properties of requests for indexes, of their names, and of messages in event streams.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Path;
use axum::extract::ws::Message;
use axum::http::{Request, header};
use axum::response::Response;
use axum::routing::get;
use data_encoding::BASE64;
use futures_util::{FutureExt, stream};
use percent_encoding::percent_decode_str;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;
use url::Url;

use crate::site::negotiate::{HTML, JSON};
use crate::site::sse::{SseMessage, sse};
use crate::{Listing, Site};

/// The maximum number of names in one input: more take longer without new behaviour.
const MAX_NAMES: usize = 6;

/// The runtime that timers need; no test waits for one.
pub(super) static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

/// Checks an index: the first line is the target of a request, the second its `Accept`, each further one a name.
pub fn index(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.split('\n');
    let (target, accept) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let names = Listing::new();
    let present: BTreeSet<&str> = lines.take(MAX_NAMES).filter(|name| names.insert(name)).collect();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let app = app(names, Arc::clone(&asked));

    // Each entry resolves to its name and to nothing else.
    let (_, listed) = fetch(&app, "/here/", JSON).expect("a request");
    let listed: Vec<String> = serde_json::from_str(&listed).expect("an array of strings");
    let here = Url::parse("https://example.com/here/").expect("a URL");
    let mut found = BTreeSet::new();
    for entry in listed.iter().filter(|entry| !entry.ends_with('/')) {
        let url = here.join(entry).expect("a relative URL");
        assert_eq!(
            (url.host_str(), url.query(), url.fragment()),
            (Some("example.com"), None, None),
            "{entry:?}"
        );
        let segment =
            url.path().strip_prefix("/here/").unwrap_or_else(|| panic!("{entry:?} leads elsewhere"));
        assert!(!segment.contains('/'), "{entry:?} leads further");
        let (_, name) = fetch(&app, url.path(), JSON).expect("a request");
        assert!(present.contains(&*name), "{entry:?} is {name:?}");
        found.insert(name);
    }
    assert!(found.iter().eq(present.iter()), "{listed:?}");
    assert_eq!(listed.len(), 2 * found.len(), "the index lists the path below each name, too: {listed:?}");

    // In a page, names are text.
    let (_, page) = fetch(&app, "/here/", HTML).expect("a request");
    assert_eq!(page.matches('<').count(), NO_NAMES + 3 * listed.len(), "{page}");

    // A hook sees the same path for each spelling.
    asked.lock().expect("no panic").clear();
    let Some((response, _)) = fetch(&app, target, accept) else { return };
    assert!(!response.status().is_server_error(), "{target:?}: {}", response.status());
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let decode = |path: &str| percent_decode_str(path).collect::<Vec<_>>();
    for seen in asked.lock().expect("no panic").iter() {
        let name = seen.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let whole = format!("{}/{name}", path.trim_end_matches('/'));
        assert_eq!(decode(seen.trim_end_matches('/')), decode(&whole), "{target:?}");
        for (at, _) in seen.match_indices('%') {
            let byte = decode(&seen[at..at + 3]);
            assert!(
                !byte[0].is_ascii_alphanumeric() && !b"-._~".contains(&byte[0]),
                "{seen:?} need not be encoded"
            );
        }
    }
    // A redirect keeps the host and prefix, whatever proxy is in front of the server.
    if let Some(location) = response.headers().get(header::LOCATION) {
        let location = str::from_utf8(location.as_bytes()).expect("UTF-8");
        let from = Url::parse(&format!("https://example.com/prefix{target}")).expect("a URL");
        let to = from.join(location).expect("a URL");
        assert_eq!(to.origin(), from.origin());
        // A browser's path is redirected to the same path with a slash.
        if from.as_str().ends_with(target) {
            let same = format!("{}/", from.path());
            assert_eq!((to.path(), to.query()), (&*same, from.query()), "{location:?}");
        }
    }
}

/// The number of tags in a page without names.
const NO_NAMES: usize = 18;

/// Returns an application that lists names at `/{house}/`, each with a route and one below it.
fn app(names: Listing, asked: Arc<Mutex<Vec<String>>>) -> Router {
    Site::new()
        .route("/{house}/{room}", get(async |Path((_, room)): Path<(String, String)>| room))
        .route("/{house}/{room}/log", get(async || "log"))
        .listing("/{house}/{room}", names)
        .visible(move |_, path| {
            asked.lock().expect("no panic").push(path.to_owned());
            true
        })
        .into_router()
}

/// Returns the response and its body; the body is empty if it is endless. Returns `None` if no client could send the
/// request.
fn fetch(app: &Router, target: &str, accept: &str) -> Option<(Response, String)> {
    if !target.starts_with('/') {
        return None;
    }
    let request = Request::get(target).header(header::ACCEPT, accept).body(Body::empty()).ok()?;
    let time = RUNTIME.enter();
    let answer = app.clone().oneshot(request).now_or_never().expect("it waits for nothing");
    let mut response = answer.expect("an answer");
    let body = to_bytes(std::mem::take(response.body_mut()), usize::MAX).now_or_never();
    let body = body.map(|bytes| String::from_utf8(bytes.expect("a body").to_vec()).expect("UTF-8"));
    drop(time);
    // Let the task that followed the list end.
    RUNTIME.block_on(tokio::task::yield_now());
    Some((response, body.unwrap_or_default()))
}

/// Checks an event stream: the first line is a position, the rest a message. A reader must get both unchanged, and the
/// messages after them.
pub fn events(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (id, message) = text.split_once('\n').unwrap_or_default();
    let messages = [
        SseMessage::from(Message::Text(message.into())).id(id),
        SseMessage::from(Message::Binary(input.to_vec().into())),
    ];
    let _time = RUNTIME.enter();
    let response = sse(stream::iter(messages));
    let body = to_bytes(response.into_body(), usize::MAX).now_or_never().expect("it waits for nothing");
    let body = String::from_utf8(body.expect("a body").to_vec()).expect("UTF-8");
    let id = id.replace(['\r', '\0'], "");
    let message = message.replace("\r\n", "\n").replace('\r', "\n");
    let expected = [("", message), ("binary", BASE64.encode(input))].into_iter();
    // An event stream has no empty events.
    let expected = expected.filter(|(_, data)| !data.is_empty());
    let expected: Vec<_> = expected.map(|(kind, data)| (kind.to_owned(), id.clone(), data)).collect();
    assert_eq!(read_events(&body), expected, "{body:?}");
}

/// Returns kind, last id and data of each event, as browsers parse them (HTML §9.2.6).
fn read_events(stream: &str) -> Vec<(String, String, String)> {
    let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
    let (mut events, mut kind, mut last_id, mut data) = (Vec::new(), "", "", String::new());
    for line in stream.strip_prefix('\u{feff}').unwrap_or(&stream).lines() {
        if line.is_empty() {
            if !data.is_empty() {
                data.pop();
                events.push((kind.to_owned(), last_id.to_owned(), std::mem::take(&mut data)));
            }
            kind = "";
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => kind = value,
            "data" => data = data + value + "\n",
            "id" if !value.contains('\0') => last_id = value,
            _ => {}
        }
    }
    events
}

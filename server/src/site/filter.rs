//! Filters an index for one requester, by the application's visibility hooks.

use std::fmt;
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use axum::http::request::Parts;
use bytes::Bytes;
use futures_util::{Stream, stream};
use hyper::upgrade::OnUpgrade;
use percent_encoding::{AsciiSet, percent_decode_str, percent_encode};
use tokio::sync::Semaphore;

use crate::site::index_text::{EVENT, Form};
use crate::site::route_tree::SEGMENT;
use crate::site::view::Message;
use crate::turns::Turns;

/// The characters that a path segment must percent-encode (RFC 3986 §3.3).
const NEEDED: &AsciiSet = &SEGMENT
    .remove(b':')
    .remove(b'@')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=');

/// Limits how many lists are filtered as a whole at once: each filtered list is held beside the shared one until its
/// reader takes it.
static FILTERED: Semaphore = Semaphore::const_new(4);

type MayOpen = dyn Fn(&Parts, &str) -> bool + Send + Sync;

/// Decides which children the requester sees: those that every hook allows.
#[derive(Clone, Default)]
pub(crate) struct Visibility(pub(crate) Vec<Arc<MayOpen>>);

impl fmt::Debug for Visibility {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Visibility({})", self.0.len())
    }
}

/// Filters lists and changes for one requester.
#[derive(Debug)]
pub(super) struct Filter {
    parts: Parts,
    visibility: Visibility,
    /// The requested path, with a trailing slash.
    path: String,
}

impl Filter {
    /// Returns the filter for a request; `None` if every requester sees everything.
    pub(super) fn new(parts: &Parts, path: &str) -> Option<Self> {
        let visibility = parts.extensions.get::<Visibility>()?.clone();
        let mut parts = parts.clone();
        // Drop the upgrade handle: the filter lives for as long as the requester watches the index.
        parts.extensions.remove::<OnUpgrade>();
        Some(Self { parts, visibility, path: path.to_owned() })
    }

    fn shows(&self, entry: &str) -> bool {
        let path = canonical(&format!("{}{}", self.path, entry.trim_start_matches("./")));
        self.visibility.0.iter().all(|may_open| may_open(&self.parts, &path))
    }

    /// Returns the part of a list or a change that the requester may see; `None` if no part of a change is visible.
    pub(super) async fn filter(&self, message: &Message) -> Option<Message> {
        let _turn = FILTERED.acquire().await;
        let text = message.text.as_str();
        let shown =
            match text.strip_prefix("{\"added\":[").and_then(|news| news.split_once("],\"removed\":[")) {
                // Quotation marks inside names are escaped, so this separator occurs nowhere else.
                Some((added, removed)) => {
                    let (added, removed) = (self.pick(added).await, self.pick(removed).await);
                    if added.is_empty() && removed.is_empty() {
                        return None;
                    }
                    format!("{}{{\"added\":[{added}],\"removed\":[{removed}]}}{}", EVENT.0, EVENT.1)
                }
                None => format!("{}[{}]{}", EVENT.0, self.pick(text).await, EVENT.1),
            };
        Some(Message::new(shown.into()))
    }

    async fn pick(&self, text: &str) -> String {
        let (mut shown, mut turns) = (String::new(), Turns::default());
        for (literal, _) in literals(text) {
            if self.shows(&entry(literal)) {
                shown.extend([if shown.is_empty() { "" } else { "," }, literal]);
            }
            turns.spend(literal.len() + HOOK).await;
        }
        shown
    }

    /// Returns a stream of the visible items of a list, built as the requester reads them.
    pub(super) fn items(self, list: Utf8Bytes, form: Form) -> impl Stream<Item = Bytes> + Send {
        let separator = if form == Form::Html { "\n" } else { "," };
        stream::unfold((self, list, 0, ""), move |(filter, list, mut at, mut before)| async move {
            let (mut chunk, mut turns, begin) = (String::new(), Turns::default(), at);
            for (literal, end) in literals(&list[begin..]) {
                at = begin + end;
                let entry = entry(literal);
                if filter.shows(&entry) {
                    chunk.extend([before, &form.item(&entry)]);
                    before = separator;
                }
                turns.spend(literal.len() + HOOK).await;
                if chunk.len() >= CHUNK {
                    break;
                }
            }
            (!chunk.is_empty()).then(|| (chunk.into(), (filter, list, at, before)))
        })
    }
}

/// The cost of asking the application about one entry, in bytes written: some microseconds.
const HOOK: usize = 1024;

/// The bytes of a list that are filtered before the requester reads them: enough for an efficient write, and little to
/// hold.
const CHUNK: usize = 16 * 1024;

/// Returns the JSON string literals in a text, each with its end offset.
fn literals(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let begin = at + text[at..].find('"')?;
        let mut is_escaped = false;
        let length = text[begin + 1..].bytes().position(|byte| {
            let ends = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            ends
        })?;
        at = begin + length + 2;
        Some((&text[begin..at], at))
    })
}

fn entry(literal: &str) -> String {
    serde_json::from_str(literal).unwrap_or_default()
}

/// Returns a path with as few percent-encodings as possible. A hook compares paths, and a requester must not evade it
/// with another spelling.
fn canonical(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        let bytes: Vec<u8> = percent_decode_str(segment).collect();
        percent_encode(&bytes, NEEDED).to_string()
    });
    segments.collect::<Vec<_>>().join("/")
}

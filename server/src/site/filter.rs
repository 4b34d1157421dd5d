//! What one requester sees of an index, where the application decides that.

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

/// Lists that are filtered as a whole at once: each is held beside the shared one until its reader takes it.
static FILTERED: Semaphore = Semaphore::const_new(4);

type MayOpen = dyn Fn(&Parts, &str) -> bool + Send + Sync;

/// Decides which children the requester sees: those that all of these say yes to.
#[derive(Clone, Default)]
pub(crate) struct Visibility(pub(crate) Vec<Arc<MayOpen>>);

impl fmt::Debug for Visibility {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Visibility({})", self.0.len())
    }
}

/// Shows one requester what it may see.
#[derive(Debug)]
pub(super) struct Filter {
    parts: Parts,
    visibility: Visibility,
    /// The path as it was asked for, with a slash at the end.
    path: String,
}

impl Filter {
    /// Returns the filter for a request; `None` if every requester sees everything.
    pub(super) fn new(parts: &Parts, path: &str) -> Option<Self> {
        let visibility = parts.extensions.get::<Visibility>()?.clone();
        let mut parts = parts.clone();
        // What upgrades the request is not to be kept for as long as the index is watched.
        parts.extensions.remove::<OnUpgrade>();
        Some(Self { parts, visibility, path: path.to_owned() })
    }

    fn shows(&self, entry: &str) -> bool {
        let path = canonical(&format!("{}{}", self.path, entry.trim_start_matches("./")));
        self.visibility.0.iter().all(|may_open| may_open(&self.parts, &path))
    }

    /// Returns what the requester sees of a list or of news; `None` if that is nothing new.
    pub(super) async fn filter(&self, message: &Message) -> Option<Message> {
        let _turn = FILTERED.acquire().await;
        let text = message.text.as_str();
        let shown =
            match text.strip_prefix("{\"added\":[").and_then(|news| news.split_once("],\"removed\":[")) {
                // A quotation mark inside of a name is escaped, so this stands nowhere else.
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

    /// Returns the items that the requester sees of a list, made as it reads them.
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

/// What asking the application about one entry costs, compared with writing bytes: some microseconds.
const HOOK: usize = 1024;

/// The bytes of a list that are filtered before the reader takes them.
const CHUNK: usize = 16 * 1024;

/// Returns the JSON strings in a text, each with the place where it ends.
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

/// A path with as few percent-encodings as there can be: a hook that compares paths must not miss one because the requester
/// spells it otherwise.
fn canonical(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        let bytes: Vec<u8> = percent_decode_str(segment).collect();
        percent_encode(&bytes, NEEDED).to_string()
    });
    segments.collect::<Vec<_>>().join("/")
}

//! Holds the entries of an index as one text. An edit copies the unchanged parts.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicUsize};

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::json;

use crate::site::html::escape;
use crate::turns::Turns;

/// The format of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A Server-Sent Event whose data is a JSON array. WebSockets and plain HTTP get the array alone.
    Json,
    /// The items of an HTML list of links.
    Html,
}

/// The bytes of an event before and after the JSON array.
pub(super) const EVENT: (&str, &str) = ("data: ", "\n\n");

impl Form {
    fn begin(self) -> &'static str {
        if self == Self::Json { "data: [" } else { "" }
    }

    /// Returns the byte after each item, the byte after the last item, and the text that follows.
    fn ends(self) -> (u8, u8, &'static str) {
        if self == Self::Json { (b',', b']', EVENT.1) } else { (b'\n', b'\n', "") }
    }

    /// Formats an entry.
    pub(super) fn item(self, entry: &str) -> String {
        match self {
            Self::Json => json!(entry).to_string(),
            Self::Html => {
                let text = percent_decode_str(entry).decode_utf8_lossy();
                format!("<li><a href=\"{}\">{}</a>", escape(entry), escape(&text))
            }
        }
    }
}

/// Shared bytes that `live` counts until the last holder drops them.
struct Counted {
    bytes: Vec<u8>,
    live: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.live.fetch_sub(self.bytes.capacity(), atomic::Ordering::Relaxed);
    }
}

/// Makes shared bytes and counts them in `live`.
pub(super) fn counted(bytes: Vec<u8>, live: &Arc<AtomicUsize>) -> Bytes {
    live.fetch_add(bytes.capacity(), atomic::Ordering::Relaxed);
    Bytes::from_owner(Counted { bytes, live: Arc::clone(live) })
}

/// Returns the data of an event without a copy.
pub(super) fn data(event: &Bytes) -> Utf8Bytes {
    Utf8Bytes::try_from(event.slice(EVENT.0.len()..event.len() - EVENT.1.len())).unwrap_or_default()
}

/// A text, and the offsets of its items.
#[derive(Debug, Clone)]
pub(super) struct Text {
    form: Form,
    pub(super) bytes: Bytes,
    /// The data of the event, once for all readers: to check that a mebibyte is UTF-8 takes some 0.1 ms. Empty in HTML.
    pub(super) data: Utf8Bytes,
    /// The offsets of the items, and the offset after the last one.
    starts: Vec<usize>,
}

/// An edit of an item: the index to remove, or the index before which an entry is inserted.
#[derive(Debug)]
pub(super) enum Edit<'a> {
    Insert(usize, &'a str),
    Remove(usize),
}

impl Text {
    pub(super) fn empty(form: Form, live: &Arc<AtomicUsize>) -> Self {
        Self::finish(form, form.begin().as_bytes().to_vec(), Vec::new(), live)
    }

    /// Returns the number of items.
    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Returns the entry at an index of a JSON text.
    pub(super) fn entry(&self, index: usize) -> Cow<'_, str> {
        let item = &self.bytes[self.starts[index]..self.starts[index + 1] - 1];
        let inner =
            item.get(1..item.len() - 1).and_then(|inner| str::from_utf8(inner).ok()).unwrap_or_default();
        match inner.contains('\\') {
            true => serde_json::from_slice::<String>(item).unwrap_or_default().into(),
            false => inner.into(),
        }
    }

    /// Returns the index of an entry of a JSON text, or the index where it would be inserted.
    fn find(&self, entry: &str) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match (*self.entry(middle)).cmp(entry) {
                Ordering::Equal => return Ok(middle),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Returns the edits of a JSON text that apply the sorted `entries`: true adds an entry, false removes it.
    pub(super) async fn edits<'a>(
        &self,
        entries: impl Iterator<Item = (&'a str, bool)>,
        turns: &mut Turns,
    ) -> Vec<Edit<'a>> {
        let mut edits = Vec::new();
        for (entry, is_present) in entries {
            match self.find(entry) {
                Ok(index) if !is_present => edits.push(Edit::Remove(index)),
                Err(index) if is_present => edits.push(Edit::Insert(index, entry)),
                _ => {}
            }
            // A binary search compares several entries.
            turns.spend(256).await;
        }
        edits
    }

    /// Returns the text with the edits applied.
    pub(super) async fn edited(
        &self,
        edits: &[Edit<'_>],
        live: &Arc<AtomicUsize>,
        turns: &mut Turns,
    ) -> Self {
        let mut new = Vec::with_capacity(self.bytes.len());
        new.extend(self.form.begin().as_bytes());
        let mut starts = Vec::with_capacity(self.starts.len());
        let mut next = 0;
        for edit in edits {
            let (Edit::Insert(index, _) | Edit::Remove(index)) = *edit;
            self.copy(next..index, &mut new, &mut starts, turns).await;
            next = index;
            match edit {
                Edit::Insert(_, entry) => {
                    starts.push(new.len());
                    let item = self.form.item(entry);
                    new.extend(item.as_bytes());
                    new.push(self.form.ends().0);
                    turns.spend(item.len()).await;
                }
                Edit::Remove(_) => next += 1,
            }
        }
        self.copy(next..self.len(), &mut new, &mut starts, turns).await;
        Self::finish(self.form, new, starts, live)
    }

    /// Terminates a text after its last item.
    fn finish(form: Form, mut new: Vec<u8>, mut starts: Vec<usize>, live: &Arc<AtomicUsize>) -> Self {
        let (_, last, end) = form.ends();
        match new.last_mut().filter(|_| !starts.is_empty()) {
            Some(separator) => {
                *separator = last;
                starts.push(new.len());
            }
            None => {
                starts.push(new.len());
                if form == Form::Json {
                    new.push(last);
                }
            }
        }
        new.extend(end.as_bytes());
        new.shrink_to_fit();
        let bytes = counted(new, live);
        let data = match form {
            Form::Json => data(&bytes),
            Form::Html => Utf8Bytes::default(),
        };
        Self { form, bytes, data, starts }
    }

    async fn copy(
        &self,
        items: std::ops::Range<usize>,
        new: &mut Vec<u8>,
        starts: &mut Vec<usize>,
        turns: &mut Turns,
    ) {
        let mut index = items.start;
        while index < items.end {
            let from = self.starts[index];
            let mut to = from;
            let room = turns.left();
            let offset = new.len();
            while index < items.end && to - from < room.max(1) {
                starts.push(offset + self.starts[index] - from);
                index += 1;
                to = self.starts[index];
            }
            new.extend(&self.bytes[from..to]);
            // The last item of the old text ends with another byte.
            if let Some(end) = new.last_mut() {
                *end = self.form.ends().0;
            }
            turns.spend(to - from).await;
        }
    }

    /// Returns the same entries in another format.
    pub(super) async fn to_form(&self, form: Form, live: &Arc<AtomicUsize>, turns: &mut Turns) -> Self {
        let (mut new, mut starts) = (form.begin().as_bytes().to_vec(), Vec::new());
        for index in 0..self.len() {
            starts.push(new.len());
            let item = form.item(&self.entry(index));
            new.extend(item.as_bytes());
            new.push(form.ends().0);
            turns.spend(item.len()).await;
        }
        Self::finish(form, new, starts, live)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures_util::FutureExt;

    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("a small text takes one turn")
    }

    #[test]
    fn an_edited_text_is_that_of_its_entries() {
        let live = Arc::default();
        let (mut text, mut html) = (Text::empty(Form::Json, &live), Text::empty(Form::Html, &live));
        let mut entries = BTreeSet::new();
        let steps: [&[(&str, bool)]; 8] = [
            &[],
            &[("b", true)],
            &[("a", true), ("b", true), ("c\"\n", true), ("d%20", true)],
            &[("a", false), ("d%20", false), ("e", false)],
            &[("a", true), ("b", false), ("z", true)],
            &[("a", false), ("c\"\n", false), ("z", false)],
            &[("only", true)],
            &[("a", true), ("only", false)],
        ];
        for step in steps {
            for &(entry, is_present) in step {
                if is_present {
                    entries.insert(entry)
                } else {
                    entries.remove(entry)
                };
            }
            let mut turns = Turns::default();
            let edits = now(text.edits(step.iter().copied(), &mut turns));
            (text, html) =
                (now(text.edited(&edits, &live, &mut turns)), now(html.edited(&edits, &live, &mut turns)));
            assert_eq!(str::from_utf8(&text.bytes), Ok(&*format!("data: {}\n\n", json!(entries))));
            let items: String = entries.iter().map(|entry| Form::Html.item(entry) + "\n").collect();
            assert_eq!(str::from_utf8(&html.bytes), Ok(&*items));
            assert_eq!(now(text.to_form(Form::Html, &live, &mut turns)).bytes, html.bytes);
        }
        drop((text, html));
        assert_eq!(live.load(atomic::Ordering::Relaxed), 0);
    }
}

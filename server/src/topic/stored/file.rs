//! The messages of topics on disk, in one redb file. Each transaction is written as a whole or not at all, even after a crash.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::ws::Message;
use bytes::Bytes;
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use tracing::warn;

use crate::redb_file::{Failure, RedbFile, checksum};
use crate::topic::positions::Positions;
use crate::topic::ring::{Saved, SavedMessage};

/// Topics by their names: the epoch, the number of the oldest message that is kept, that of the newest, and the bytes of those that are
/// kept. A topic stays here without messages: its numbers go on, so that no old position means a new message.
const TOPICS: TableDefinition<'_, &str, (&str, u64, u64, u64)> = TableDefinition::new("topics");

/// Messages by topic and number: the time in milliseconds since 1970, and the record.
const MESSAGES: TableDefinition<'_, (&str, u64), (u64, &[u8])> = TableDefinition::new("messages");

/// The bytes of a record before its content: a checksum, since redb verifies its own only when it repairs a file, and the kind.
const HEAD: usize = 9;

/// The kinds of messages.
const TEXT: u8 = b't';
const BINARY: u8 = b'b';

/// The file of a store of topics.
#[derive(Debug)]
pub(super) struct TopicFile(RedbFile);

/// A message to store.
pub(super) struct New<'a> {
    pub(super) topic: &'a str,
    /// The epoch of the topic if the file does not have it yet.
    pub(super) epoch: Box<str>,
    pub(super) message: &'a Message,
    pub(super) limits: Positions,
}

/// The numbers of a topic in the file.
struct Tail {
    epoch: Box<str>,
    first: u64,
    last: u64,
    bytes: u64,
}

impl Tail {
    fn messages(&self) -> usize {
        usize::try_from(self.last + 1 - self.first).unwrap_or(usize::MAX)
    }
}

impl TopicFile {
    /// Opens the file, and creates it if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened, or is not a store of topics. The message says what to do.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = RedbFile::new(path);
        RedbFile::create(path, |transaction| {
            transaction.open_table(TOPICS)?;
            transaction.open_table(MESSAGES)?;
            Ok(())
        })
        .and_then(|()| {
            file.using(|database| {
                let view = database.begin_read()?;
                view.open_table(TOPICS)?;
                view.open_table(MESSAGES)?;
                Ok(())
            })
        })
        .map_err(|error| explain(path, &error))?;
        Ok(Self(file))
    }

    /// Reads a topic; `None` if it has had no message.
    pub(super) fn load(&mut self, topic: &str) -> io::Result<Option<Saved>> {
        self.0.reading(|database| {
            let view = database.begin_read()?;
            let Some(row) = view.open_table(TOPICS)?.get(topic)? else { return Ok(None) };
            let (epoch, first, last, _) = row.value();
            let now = now();
            let mut messages = Vec::new();
            for row in view.open_table(MESSAGES)?.range((topic, first)..=(topic, last))? {
                let (place, record) = row?;
                let (number, (at, record)) = (place.value().1, record.value());
                let message = unseal(topic, number, record);
                if message.is_none() {
                    warn!(
                        topic,
                        number, "a stored message is damaged; its subscribers learn that it is missing"
                    );
                }
                let age = Duration::from_millis(now.saturating_sub(at));
                messages.push(SavedMessage { number, message, age });
            }
            Ok(Some(Saved { epoch: epoch.into(), last, messages }))
        })
    }

    /// Stores messages in one transaction, and deletes those that are over the limits. Returns the numbers of the messages once they are
    /// safe against a loss of power.
    pub(super) fn append(&mut self, news: &[New<'_>]) -> io::Result<Vec<u64>> {
        self.0.writing(|transaction| {
            let mut topics = transaction.open_table(TOPICS)?;
            let mut messages = transaction.open_table(MESSAGES)?;
            let mut tails = HashMap::<&str, Tail>::new();
            let mut numbers = Vec::with_capacity(news.len());
            let now = now();
            for New { topic, epoch, message, limits } in news {
                let tail = match tails.remove(topic) {
                    Some(tail) => tail,
                    None => read_tail(&topics, topic)?.unwrap_or_else(|| Tail {
                        epoch: epoch.clone(),
                        first: 1,
                        last: 0,
                        bytes: 0,
                    }),
                };
                let number = tail.last + 1;
                let record = seal(topic, number, message);
                messages.insert((*topic, number), (now, record.as_slice()))?;
                let bytes = tail.bytes + record.len() as u64;
                let tail = trim(Tail { last: number, bytes, ..tail }, topic, now, *limits, &mut messages)?;
                tails.insert(topic, tail);
                numbers.push(number);
            }
            for (topic, Tail { epoch, first, last, bytes }) in &tails {
                topics.insert(topic, (&**epoch, *first, *last, *bytes))?;
            }
            Ok(numbers)
        })
    }
}

fn read_tail(
    topics: &impl ReadableTable<&'static str, (&'static str, u64, u64, u64)>,
    topic: &str,
) -> Result<Option<Tail>, Failure> {
    let row = topics.get(topic)?;
    Ok(row.map(|row| {
        let (epoch, first, last, bytes) = row.value();
        Tail { epoch: epoch.into(), first, last, bytes }
    }))
}

/// Deletes the oldest messages that are over the limits.
fn trim(
    mut tail: Tail,
    topic: &str,
    now: u64,
    limits: Positions,
    messages: &mut redb::Table<'_, (&'static str, u64), (u64, &'static [u8])>,
) -> Result<Tail, Failure> {
    while tail.first <= tail.last {
        let oldest = (topic, tail.first);
        let (at, length) = match messages.get(oldest)? {
            Some(row) => (row.value().0, row.value().1.len() as u64),
            None => (0, 0),
        };
        let age = Duration::from_millis(now.saturating_sub(at));
        if limits.keep(tail.messages(), usize::try_from(tail.bytes).unwrap_or(usize::MAX), age) {
            break;
        }
        messages.remove(oldest)?;
        tail.first += 1;
        tail.bytes = tail.bytes.saturating_sub(length);
    }
    Ok(tail)
}

/// Returns the milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn sum(topic: &str, number: u64, content: &[u8]) -> u64 {
    checksum([b"message ", topic.as_bytes(), b"\0", &number.to_le_bytes(), content])
}

fn seal(topic: &str, number: u64, message: &Message) -> Vec<u8> {
    let (kind, content) = match message {
        Message::Text(text) => (TEXT, text.as_bytes()),
        Message::Binary(bytes) => (BINARY, &bytes[..]),
        // A topic has no others.
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => (BINARY, &[][..]),
    };
    let mut record = vec![0; 8];
    record.reserve(1 + content.len());
    record.push(kind);
    record.extend_from_slice(content);
    let sum = sum(topic, number, &record[8..]);
    record[..8].copy_from_slice(&sum.to_le_bytes());
    record
}

/// Returns the message of a record; `None` if the record is damaged.
fn unseal(topic: &str, number: u64, record: &[u8]) -> Option<Message> {
    let (written, content) = record.split_first_chunk::<8>()?;
    if sum(topic, number, content).to_le_bytes() != *written {
        return None;
    }
    let kind = content.first()?;
    let content = Bytes::copy_from_slice(&record[HEAD..]);
    match *kind {
        TEXT => content.try_into().ok().map(Message::Text),
        BINARY => Some(Message::Binary(content)),
        _ => None,
    }
}

/// Adds the file's name and a remedy to the error.
fn explain(path: &Path, error: &io::Error) -> io::Error {
    let remedy = match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            ". It holds no topics, or is damaged. Put a backup in its place, or move it away: the topics then begin anew"
        }
        io::ErrorKind::ResourceBusy => ": a store belongs to one process at a time",
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot open {}: {error}{remedy}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new<'a>(topic: &'a str, message: &'a Message, limits: Positions) -> New<'a> {
        New { topic, epoch: "e".into(), message, limits }
    }

    fn contents(saved: &Saved) -> Vec<(u64, Option<Message>)> {
        saved.messages.iter().map(|saved| (saved.number, saved.message.clone())).collect()
    }

    #[test]
    fn messages_come_back_with_their_numbers_and_the_oldest_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("topics.redb");
        let texts: Vec<Message> = (1..=5).map(|number| Message::Text(format!("{number}").into())).collect();
        let limits = Positions::new().messages(3);
        {
            let mut file = TopicFile::open(&path).expect("a file");
            assert!(file.load("/a").expect("read").is_none());
            let news: Vec<_> = texts.iter().map(|text| new("/a", text, limits)).collect();
            assert_eq!(file.append(&news).expect("written"), [1, 2, 3, 4, 5]);
            let binary = Message::Binary(vec![0, 255].into());
            assert_eq!(file.append(&[new("/b", &binary, limits)]).expect("written"), [1]);
        }
        let mut file = TopicFile::open(&path).expect("a file");
        let saved = file.load("/a").expect("read").expect("a topic");
        assert_eq!((&*saved.epoch, saved.last), ("e", 5));
        let expected: Vec<_> = (3..=5).map(|n| (n, Some(texts[n as usize - 1].clone()))).collect();
        assert_eq!(contents(&saved), expected);
        let other = file.load("/b").expect("read").expect("a topic");
        assert_eq!(contents(&other), [(1, Some(Message::Binary(vec![0, 255].into())))]);
        // Over the age, all but the new one.
        let none = Positions::new().age(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(file.append(&[new("/a", &texts[0], none)]).expect("written"), [6]);
        let saved = file.load("/a").expect("read").expect("a topic");
        assert_eq!((contents(&saved).len(), saved.last), (1, 6));
        // And by bytes: a record has a head of nine.
        assert_eq!(file.append(&[new("/a", &texts[0], limits.bytes(10))]).expect("written"), [7]);
        assert_eq!(
            contents(&file.load("/a").expect("read").expect("a topic")),
            [(7, Some(texts[0].clone()))]
        );
    }

    #[test]
    fn a_record_is_valid_only_as_it_was_written_and_where() {
        let message = Message::Text("grüße".into());
        let record = seal("/a", 7, &message);
        assert_eq!(unseal("/a", 7, &record), Some(message));
        assert_eq!((unseal("/a", 8, &record), unseal("/b", 7, &record)), (None, None));
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal("/a", 7, &flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn another_file_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("topics.redb");
        std::fs::write(&path, "no store").expect("a file");
        let error = TopicFile::open(&path).expect_err("no store").to_string();
        assert!(error.contains("topics.redb") && error.contains("begin anew"), "{error}");
    }
}

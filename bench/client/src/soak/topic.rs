//! A socket on a topic, which publishes and listens to all others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use fastrand::Rng;
use manysocket_protocol::Message;

use super::socket::{End, Line, Socket, brief, json};
use super::tally::{Tally, lock};

/// The number of topics: few, so that each has many subscribers.
const TOPICS: usize = 4;

#[derive(Debug)]
pub(crate) struct Topic {
    writer: u64,
    sent: u64,
    total: u64,
    /// The next expected number of each publisher.
    heard: HashMap<u64, u64>,
    /// Messages that the topic dropped for this reader, and that no gap has explained yet.
    dropped: u64,
}

impl Topic {
    pub(crate) fn begin(prefix: &str, rng: &mut Rng) -> (String, Box<dyn Socket>) {
        let topic =
            Self { writer: rng.u64(..), sent: 0, total: rng.u64(20..200), heard: HashMap::new(), dropped: 0 };
        (format!("{prefix}/topics/soak{}", rng.usize(..TOPICS)), Box::new(topic))
    }

    /// Handles the next number of a publisher.
    fn hear(&mut self, writer: u64, number: u64) -> Result<(), String> {
        let expected = match self.heard.entry(writer) {
            Entry::Vacant(slot) if writer != self.writer || number == 0 => {
                slot.insert(number + 1);
                return Ok(());
            }
            Entry::Vacant(_) => 0,
            Entry::Occupied(slot) => std::mem::replace(slot.into_mut(), number + 1),
        };
        self.missed(number.checked_sub(expected), || format!("message {number} of {writer}, not {expected}"))
    }

    /// Accounts for missing messages.
    fn missed(&mut self, count: Option<u64>, what: impl FnOnce() -> String) -> Result<(), String> {
        self.dropped = count.and_then(|count| self.dropped.checked_sub(count)).ok_or_else(what)?;
        Ok(())
    }

    /// Handles a message that was published after others had closed: all of theirs must have arrived before it.
    fn settle(&mut self, published: u128, tally: &Tally) -> Result<(), String> {
        let finished = lock(&tally.finished);
        let (writer, before) = (self.writer, published);
        let done = self.heard.iter().filter_map(|(&of, &next)| {
            let &(total, at) = finished.get(&of)?;
            (of != writer && at < before).then_some((of, next, total))
        });
        let done = done.collect::<Vec<_>>();
        drop(finished);
        for (of, next, total) in done {
            self.heard.remove(&of);
            self.missed(total.checked_sub(next), || {
                format!("{next} messages of {of}, which closed after {total}")
            })?;
        }
        Ok(())
    }
}

impl Socket for Topic {
    fn tick(&mut self, line: &mut Line<'_>) -> bool {
        if self.sent < self.total && line.rng.u8(..) < 64 {
            let padding = "~".repeat(line.rng.usize(..400));
            let text = format!("{} {} {} {padding}", self.writer, self.sent, line.tally.now());
            line.send(Message::text(text));
            self.sent += 1;
        }
        self.sent == self.total
    }

    fn receive(&mut self, line: &mut Line<'_>, message: Message) -> Result<(), String> {
        let Message::Text(bytes) = &message else { return Err(format!("not text: {}", brief(&message))) };
        if bytes.starts_with(b"{") {
            let dropped = json(&message)?["dropped"].as_u64();
            let dropped = dropped.ok_or_else(|| format!("not a notice: {}", brief(&message)))?;
            self.dropped += dropped;
            line.tally.count(|counts| counts.dropped += dropped);
            return Ok(());
        }
        let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let mut words = text.split(' ').map(str::parse::<u128>);
        let (Some(Ok(writer)), Some(Ok(number)), Some(Ok(published))) =
            (words.next(), words.next(), words.next())
        else {
            return Err(format!("not as published: {}", brief(&message)));
        };
        let writer = u64::try_from(writer).map_err(|error| error.to_string())?;
        self.hear(writer, u64::try_from(number).map_err(|error| error.to_string())?)?;
        self.settle(published, line.tally)
    }

    fn ended(&mut self, end: &End, tally: &Tally) -> Result<(), String> {
        if *end == End::Closed {
            lock(&tally.finished).insert(self.writer, (self.sent, tally.now()));
        }
        Ok(())
    }
}

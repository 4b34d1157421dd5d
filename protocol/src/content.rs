//! Physical messages taken apart, and the contents of events found in them, for hosts that hold messages as bytes.

use bytes::Bytes;

use crate::connection::Span;
use crate::physical;
use crate::text;
use crate::violation::Rule;
use crate::{Channel, Violation};

/// A message that fills a physical message is copied up to this length, and shared from
/// there on: a WebSocket implementation may have put several small ones into one buffer, and a
/// slow reader of one would keep all of it. Out of a batch messages are always copied. Longer ones
/// must arrive in a buffer of exactly their length, or a host that counts memory counts too little.
const COPY: usize = 4096;

/// The columns of a batch (§2.3).
pub(crate) struct Columns<'a> {
    pub(crate) headers: &'a [u8],
    pub(crate) text: &'a str,
    pub(crate) binary: Bytes,
}

impl<'a> Columns<'a> {
    /// Takes a batch apart.
    pub(crate) fn of(bytes: &'a Bytes) -> Result<Self, Violation> {
        let length = u32::try_from(bytes.len()).map_err(|_| Rule::Huge.broken())?;
        let [headers_at, text_at, binary_at] = physical::read_lengths(bytes, length)?.map(|at| at as usize);
        let text = str::from_utf8(&bytes[text_at..binary_at]).map_err(|_| physical::NOT_UTF8)?;
        Ok(Self { headers: &bytes[headers_at..text_at], text, binary: bytes.slice(binary_at..) })
    }
}

/// A physical text message (§2.2).
pub(crate) struct LoneText<'a> {
    pub(crate) channel: Channel,
    /// Whether it completes its message.
    pub(crate) fin: bool,
    pub(crate) text: &'a str,
    /// The bytes of `text`.
    pub(crate) content: Bytes,
}

impl<'a> LoneText<'a> {
    /// Takes the number and sign off the front.
    pub(crate) fn of(bytes: &'a Bytes) -> Result<Self, Violation> {
        let text = str::from_utf8(bytes).map_err(|_| Rule::TextNotUtf8.broken())?;
        let (channel, fin, head) =
            physical::read_text_head(|at| bytes.get(at as usize).map(|&byte| byte.into()))?;
        // The head is ASCII.
        let head = head as usize;
        Ok(Self { channel, fin, text: &text[head..], content: bytes.slice(head..) })
    }
}

/// Finds spans, which are in units, in runs, which are bytes. Spans of text come in ascending order.
pub(crate) struct Contents<'a> {
    text: &'a str,
    ascii: bool,
    binary: Option<&'a Bytes>,
    /// Set if the physical message is a single message or piece, to be shared rather than copied.
    whole: Option<&'a Bytes>,
    /// How far the text has been read: units and bytes.
    position: std::cell::Cell<(u32, usize)>,
}

/// How far the text of a batch has been read, and whether it is ASCII.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadPosition {
    ascii: bool,
    position: (u32, usize),
}

impl<'a> Contents<'a> {
    /// Those of a batch.
    pub(crate) fn batch(text: &'a str, binary: &'a Bytes) -> Self {
        Self { ascii: text.is_ascii(), text, binary: Some(binary), whole: None, position: Default::default() }
    }

    /// Those of the rest of a batch.
    pub(crate) fn rest_of_batch(text: &'a str, binary: &'a Bytes, read_position: ReadPosition) -> Self {
        let ReadPosition { ascii, position } = read_position;
        Self { ascii, text, binary: Some(binary), whole: None, position: position.into() }
    }

    /// Where the rest of a batch begins.
    pub(crate) fn read_position(&self) -> ReadPosition {
        ReadPosition { ascii: self.ascii, position: self.position.get() }
    }

    /// That of a physical text message, which is `whole`.
    pub(crate) fn text(text: &'a str, whole: &'a Bytes) -> Self {
        Self { binary: None, whole: Some(whole), ..Self::batch(text, whole) }
    }

    /// That of a physical binary message that is a payload.
    pub(crate) fn binary(whole: &'a Bytes) -> Self {
        Self { whole: Some(whole), ..Self::batch("", whole) }
    }

    fn str(&self, span: Span) -> Result<&'a str, Violation> {
        let end = span.start + span.units;
        let (from, to) = if self.ascii {
            (span.start as usize, end as usize)
        } else {
            (self.advance(span.start)?, self.advance(end)?)
        };
        self.text.get(from..to).ok_or(OUTSIDE)
    }

    /// The byte offset of a unit offset that is not before the last one asked for.
    fn advance(&self, units: u32) -> Result<usize, Violation> {
        let (units_before, bytes_before) = self.position.get();
        let ahead = units.checked_sub(units_before).ok_or(OUTSIDE)?;
        let (bytes, taken) = text::prefix(&self.text[bytes_before..], ahead);
        if taken != ahead {
            return Err(physical::PAIR_CUT);
        }
        self.position.set((units, bytes_before + bytes));
        Ok(bytes_before + bytes)
    }

    pub(crate) fn string(&self, span: Span) -> Result<String, Violation> {
        Ok(self.str(span)?.to_owned())
    }

    pub(crate) fn text_of(&self, span: Span) -> Result<Bytes, Violation> {
        match self.whole {
            Some(whole) if whole.len() > COPY => Ok(whole.clone()),
            _ => Ok(Bytes::copy_from_slice(self.str(span)?.as_bytes())),
        }
    }

    pub(crate) fn binary_of(&self, span: Span) -> Result<Bytes, Violation> {
        match self.whole {
            Some(whole) if whole.len() > COPY => Ok(whole.clone()),
            _ => {
                let range = span.start as usize..(span.start + span.units) as usize;
                self.binary.and_then(|run| run.get(range)).map(Bytes::copy_from_slice).ok_or(OUTSIDE)
            }
        }
    }
}

const OUTSIDE: Violation = Rule::Outside.broken();

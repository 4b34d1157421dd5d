//! Messages as bytes: a channel's, and the physical WebSocket's.

use bytes::{BufMut, Bytes, BytesMut};

use crate::frame::Kind;
use crate::physical::text_head;
use crate::text;
use crate::transmit::{Batch, Payload, Transmit};
use crate::varint;

/// A message of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text: always valid UTF-8.
    Text(Bytes),
    /// Binary.
    Binary(Bytes),
}

impl Message {
    /// Makes a text message.
    pub fn text(text: impl Into<String>) -> Self {
        Message::Text(text.into().into())
    }

    /// Makes a binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Message::Binary(bytes.into())
    }

    /// Its content.
    pub(crate) fn bytes(&self) -> &Bytes {
        let (Message::Text(bytes) | Message::Binary(bytes)) = self;
        bytes
    }

    /// The message that [`Message::into_data`] queued.
    pub(crate) fn from_data(data: Data) -> Self {
        if data.is_text { Message::Text(data.bytes) } else { Message::Binary(data.bytes) }
    }

    /// The message as a connection queues it.
    pub(crate) fn into_data(self) -> (Kind, Data) {
        match self {
            Message::Text(bytes) => (Kind::Text, Data::text(bytes)),
            Message::Binary(bytes) => (Kind::Binary, Data::binary(bytes)),
        }
    }

    /// Its length as the protocol counts it: UTF-16 code units of text, bytes of binary.
    pub fn units(&self) -> u32 {
        match self {
            Message::Text(bytes) => text::units(bytes),
            Message::Binary(bytes) => u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        }
    }
}

/// A message of the physical WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Physical {
    /// Text: valid UTF-8, as any WebSocket implementation ensures (RFC 6455 §8.1).
    Text(Bytes),
    /// Binary.
    Binary(Bytes),
}

/// Bytes with their length in units: the [`Payload`] of an [`Endpoint`](crate::Endpoint).
#[derive(Debug, Default)]
pub(crate) struct Data {
    bytes: Bytes,
    units: u32,
    is_text: bool,
}

impl Data {
    /// `bytes` are valid UTF-8: from a `str`, or checked on receipt.
    pub(crate) fn text(bytes: Bytes) -> Self {
        let units = text::units(&bytes);
        Self { bytes, units, is_text: true }
    }

    pub(crate) fn str(text: &str) -> Self {
        Self::text(Bytes::copy_from_slice(text.as_bytes()))
    }

    pub(crate) fn binary(bytes: Bytes) -> Self {
        Self { units: u32::try_from(bytes.len()).unwrap_or(u32::MAX), bytes, is_text: false }
    }
}

impl Payload for Data {
    type Held = Physical;

    fn units(&self) -> u32 {
        self.units
    }

    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn split_to(&mut self, units: u32) -> Self {
        let (at, units) = if self.is_text && self.units as usize != self.bytes.len() {
            text::prefix(str::from_utf8(&self.bytes).unwrap_or_default(), units)
        } else {
            (units as usize, units)
        };
        self.units -= units;
        Self { bytes: self.bytes.split_to(at), units, is_text: self.is_text }
    }
}

impl Physical {
    /// Its content.
    pub(crate) fn bytes(&self) -> &Bytes {
        let (Physical::Text(bytes) | Physical::Binary(bytes)) = self;
        bytes
    }

    /// Encodes the output of a connection (§2.2 to §2.4).
    pub(crate) fn encode(transmit: Transmit<Data>, batch: &Batch<Data>) -> Self {
        match transmit {
            Transmit::Text { channel, fin, text } => {
                let head = text_head(channel, fin);
                let mut out = BytesMut::with_capacity(head.len() + text.bytes.len());
                out.put_slice(&head);
                out.put(text.bytes);
                Physical::Text(out.freeze())
            }
            Transmit::Batch => Physical::Binary(encode_batch(batch)),
            Transmit::Raw { payload, .. } => Physical::Binary(payload.bytes),
            Transmit::Again(message) => message,
        }
    }
}

pub(crate) fn encode_batch(batch: &Batch<Data>) -> Bytes {
    let text_bytes: usize = batch.text.iter().map(|part| part.payload.bytes.len()).sum();
    let binary_bytes: usize = batch.binary.iter().map(|part| part.payload.bytes.len()).sum();
    let mut out = Vec::with_capacity(10 + batch.headers.len() + text_bytes + binary_bytes);
    varint::write(&mut out, batch.headers.len() as u32);
    varint::write(&mut out, text_bytes as u32);
    out.extend_from_slice(&batch.headers);
    for run in [&batch.text, &batch.binary] {
        for part in run {
            out.extend_from_slice(&part.payload.bytes);
        }
    }
    out.into()
}

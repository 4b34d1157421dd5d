//! Output that waits for a connection, and its memory.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::frame::opcode::CONTINUATION;
use super::mask::mask;

/// The bytes that are gathered before a write: past 32 KiB larger writes gain nothing.
const GATHER: usize = 32 * 1024;

/// A content of at least this length is written from where it is: to copy 4 KiB takes 0.1 µs, about as long as one more part of a
/// write.
const SHARE: usize = 4 * 1024;

/// The most bytes in one write to a stream of HTTP/2. hyper copies them all and holds several copies, so a message of megabytes
/// would be held twice.
pub(crate) const PART_OF_STREAM: usize = GATHER;

/// Parts of one write: of the largest batches, 64 KiB and more.
const PARTS: usize = 16;

/// The buffer of small frames is kept when it is empty and no larger than this, so that a lone small message needs none of
/// its own.
const KEEP: usize = 256;

/// The largest content of a client's frame, in bytes. Chromium cuts messages there, and servers limit the size of a frame.
const PIECE: usize = 128 * 1024;

/// The bit of the last frame of a message.
const FIN: u8 = 0x80;

/// Frames of this side, in order.
#[derive(Debug)]
pub(crate) struct Output {
    masks: bool,
    /// Frames that are sent first.
    parts: VecDeque<Bytes>,
    /// Small frames, behind the parts, and how much of them has been written.
    tail: Vec<u8>,
    written: usize,
    /// Bytes of the parts that are not written.
    shared: usize,
    /// Bytes of the first part that are written: it is held until all of it is.
    begun: usize,
}

impl Output {
    /// `masks`: the frames are a client's.
    pub(crate) fn new(masks: bool) -> Self {
        Self { masks, parts: VecDeque::new(), tail: Vec::new(), written: 0, shared: 0, begun: 0 }
    }

    /// Bytes that wait to be written.
    pub(crate) fn len(&self) -> usize {
        self.shared + self.tail.len() - self.written
    }

    /// Bytes of memory that they take.
    pub(crate) fn held(&self) -> usize {
        self.shared + self.begun + self.tail.capacity() + self.parts.capacity() * size_of::<Bytes>()
    }

    /// Adds a message or a control frame. A client cuts large messages into frames.
    pub(crate) fn push(&mut self, opcode: u8, content: Bytes) {
        if !self.masks {
            return self.push_frame(FIN | opcode, None, content);
        }
        // In its place, if nobody else has it.
        let mut rest = content.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
        let mut opcode = opcode;
        while rest.len() > PIECE {
            self.push_masked(opcode, rest.split_to(PIECE));
            opcode = CONTINUATION;
        }
        self.push_masked(FIN | opcode, rest);
    }

    fn push_masked(&mut self, first: u8, mut content: BytesMut) {
        let key = key();
        mask(&mut content, key, 0);
        self.push_frame(first, Some(key), content.freeze());
    }

    /// Adds a frame (RFC 6455 §5.2), whose content is masked with the key.
    fn push_frame(&mut self, first: u8, key: Option<[u8; 4]>, content: Bytes) {
        let masked = if key.is_some() { 0x80 } else { 0 };
        self.tail.push(first);
        match content.len() {
            length @ 0..=125 => self.tail.push(masked | length as u8),
            length @ 126..=0xffff => {
                self.tail.push(masked | 126);
                self.tail.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                self.tail.push(masked | 127);
                self.tail.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        self.tail.extend_from_slice(key.as_ref().map_or(&[], |key| key));
        if content.len() < SHARE {
            self.tail.extend_from_slice(&content);
            return;
        }
        let mut tail = Bytes::from(std::mem::take(&mut self.tail));
        tail.advance(std::mem::take(&mut self.written));
        self.shared += tail.len() + content.len();
        self.parts.push_back(tail);
        self.parts.push_back(content);
    }

    /// Ready while there is room for more; writes if there is not.
    pub(crate) fn poll_room<S>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        while self.len() >= GATHER {
            ready!(self.poll_once(io, cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes all.
    pub(crate) fn poll_write<S>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        while self.len() > 0 {
            ready!(self.poll_once(io, cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_once<S>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        let mut slices = [IoSlice::new(&[]); PARTS];
        let tail = &self.tail[self.written..];
        let parts = self.parts.iter().map(|part| &**part).chain([tail]);
        let count = slices.iter_mut().zip(parts).map(|(slice, part)| *slice = IoSlice::new(part)).count();
        let io = Pin::new(io);
        let written = if io.is_write_vectored() {
            ready!(io.poll_write_vectored(cx, &slices[..count]))?
        } else {
            let first = &slices[0];
            ready!(io.poll_write(cx, &first[..first.len().min(PART_OF_STREAM)]))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(written);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(part) = self.parts.front_mut() {
            let length = part.len().min(written);
            part.advance(length);
            written -= length;
            self.shared -= length;
            self.begun += length;
            if !part.is_empty() {
                return;
            }
            self.parts.pop_front();
            self.begun = 0;
        }
        self.written += written;
        if self.written == self.tail.len() {
            self.written = 0;
            self.tail.clear();
            self.tail.shrink_to(if self.tail.capacity() > KEEP { 0 } else { KEEP });
            self.parts = VecDeque::new();
        } else if self.written >= GATHER {
            // A peer that reads a little at a time must not have the written part grow.
            self.tail.drain(..std::mem::take(&mut self.written));
        }
    }
}

/// A key that the peer's application cannot guess (RFC 6455 §5.3).
fn key() -> [u8; 4] {
    let mut key = [0; 4];
    // Without a source of random numbers TLS and ids of documents would have ended the program before.
    getrandom::fill(&mut key).expect("random numbers");
    key
}

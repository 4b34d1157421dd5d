//! Fuzz target of the buffers of a WebSocket: a peer that sends anything, and reads as little as it likes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{Broken, Config, opcode};
use super::frames::{FramedSocket, Received};
use super::mask::mask;

/// A connection in memory, and the peer at its other end.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// The input, and how much of it one read gets.
    pub(crate) sent: BytesMut,
    pub(crate) per_read: usize,
    /// The output, and how much more the peer reads.
    pub(crate) read: Vec<u8>,
    pub(crate) room: usize,
    /// Writing to it fails.
    pub(crate) is_gone: bool,
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.sent.len().min(buffer.remaining()).min(self.per_read);
        if length == 0 {
            return Poll::Pending;
        }
        buffer.put_slice(&self.sent[..length]);
        self.sent.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let before = self.read.len();
        for slice in slices {
            let length = slice.len().min(self.room);
            self.read.extend_from_slice(&slice[..length]);
            self.room -= length;
        }
        let written = self.read.len() - before;
        if written == 0 { Poll::Pending } else { Poll::Ready(Ok(written)) }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A frame as the peer writes it.
pub(crate) fn frame(first: u8, content: &[u8], is_masked: bool) -> Vec<u8> {
    let mut frame = vec![first];
    let bit = if is_masked { 0x80 } else { 0 };
    match content.len() {
        length @ 0..=125 => frame.push(bit | length as u8),
        length @ 126..=0xffff => {
            frame.push(bit | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(bit | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    let key = [0x12, 0x34, 0x56, 0x78];
    if is_masked {
        frame.extend(key);
    }
    let start = frame.len();
    frame.extend(content);
    if is_masked {
        mask(&mut frame[start..], key, 0);
    }
    frame
}

/// Reads frames that were written; a frame that is cut off at the end is left out.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    loop {
        let [first, second, rest @ ..] = bytes else { return frames };
        let (length, rest) = match second & 0x7f {
            126 => match rest {
                [a, b, rest @ ..] => (u16::from_be_bytes([*a, *b]) as usize, rest),
                _ => return frames,
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length) as usize, rest),
                None => return frames,
            },
            length => (length.into(), rest),
        };
        let (key, rest) = match rest.split_first_chunk() {
            Some((key, rest)) if second & 0x80 != 0 => (*key, rest),
            _ if second & 0x80 != 0 => return frames,
            _ => ([0; 4], rest),
        };
        let Some((content, rest)) = rest.split_at_checked(length) else { return frames };
        let mut content = content.to_vec();
        mask(&mut content, key, 0);
        frames.push((*first, content));
        bytes = rest;
    }
}

/// The largest message that the socket accepts, and that it sends.
const LARGEST: usize = 1 << 14;

/// For any input of the peer, however little it reads: the buffers stay below a bound that does not depend on it, and it
/// reads whole frames, with all messages in order.
pub fn buffers(input: &[u8]) {
    let mut bytes = input.iter().copied();
    let mut next = || bytes.next();
    let is_client = next().is_some_and(|byte| byte & 1 == 1);
    let config = if is_client { Config::client(LARGEST) } else { Config::server(LARGEST) };
    let mut socket = FramedSocket::new(Peer::default(), config);
    let cx = &mut Context::from_waker(Waker::noop());
    let (mut messages, mut ended, mut per_read) = (Vec::new(), false, 1000);
    while let (Some(kind), Some(amount)) = (next(), next()) {
        let amount = usize::from(amount);
        match kind % 6 {
            0 => {
                let raw: Vec<u8> = std::iter::from_fn(&mut next).take(amount).collect();
                socket.io_mut().sent.extend_from_slice(&raw);
            }
            1 => {
                let ping = frame(0x80 | opcode::PING, &vec![kind; amount % 126], !is_client).repeat(20);
                socket.io_mut().sent.extend_from_slice(&ping);
            }
            2 => {
                let part = frame(kind & 0x83, &vec![kind; amount * 37], !is_client);
                socket.io_mut().sent.extend_from_slice(&part);
            }
            3 => {
                let content = vec![kind; amount * 64];
                let content = Bytes::from(content);
                if socket.poll_ready(cx).is_ready()
                    && socket.start_send(opcode::BINARY, content.clone()).is_ok()
                {
                    messages.push(content);
                }
            }
            4 => socket.io_mut().room += amount * 16,
            _ => per_read = amount * amount + 1,
        }
        // To read all byte by byte would take most of the time.
        let io = socket.io_mut();
        io.per_read = per_read.max(io.sent.len() / 64);
        while !ended {
            let left = socket.io_mut().sent.len();
            match socket.poll_next(cx) {
                Poll::Ready(Some(Ok(Received::Text(content) | Received::Binary(content)))) => {
                    assert!(content.len() <= LARGEST);
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(Broken::Io(error)))) => panic!("{error}"),
                Poll::Ready(Some(Err(_)) | None) => ended = true,
                // Its turn is over, if it has read.
                Poll::Pending if socket.io_mut().sent.len() < left => {}
                Poll::Pending => break,
            }
        }
        let _ = socket.poll_flush(cx);
        // Gathered messages and the last of them, answers, and heads of frames.
        assert!(socket.queued() <= (32 << 10) + LARGEST + (16 << 10) + 200, "{}", socket.queued());
        // The input, and twice the waiting output in small frames, which were written up to a half.
        assert!(socket.held() <= socket.queued() + 2 * LARGEST + (160 << 10), "{}", socket.held());
    }
    socket.io_mut().room = usize::MAX;
    assert!(socket.poll_flush(cx).is_ready());
    assert_eq!(socket.queued(), 0);
    let read = frames(&socket.io_mut().read);
    let binary = read.iter().filter(|(first, _)| *first == 0x80 | opcode::BINARY);
    assert!(binary.map(|(_, content)| content.as_slice()).eq(messages.iter().map(|sent| &**sent)));
    let known = [opcode::BINARY, opcode::PONG, opcode::CLOSE].map(|opcode| 0x80 | opcode);
    assert!(read.iter().all(|(first, _)| known.contains(first)));
}

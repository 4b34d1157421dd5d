//! Tests the reads, the writes and the memory of a socket.

use std::task::Waker;

use super::*;
use crate::ws::fuzzing::{Peer, frame, frames};

const LARGEST: usize = 1 << 20;

fn server() -> FramedSocket<Peer> {
    FramedSocket::new(Peer { per_read: usize::MAX, ..Peer::default() }, Config::server(LARGEST))
}

/// Reads until there is nothing more for now.
fn received(socket: &mut FramedSocket<Peer>) -> Vec<Result<Received, String>> {
    let cx = &mut Context::from_waker(Waker::noop());
    let mut received = Vec::new();
    loop {
        let left = socket.io_mut().sent.len();
        match socket.poll_next(cx) {
            Poll::Ready(Some(next)) => received.push(next.map_err(|broken| broken.to_string())),
            // Its turn is over, if it has read.
            Poll::Pending if socket.io_mut().sent.len() < left => {}
            Poll::Ready(None) | Poll::Pending => return received,
        }
    }
}

fn flushed(socket: &mut FramedSocket<Peer>) -> bool {
    socket.poll_flush(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn a_message_arrives_however_it_is_cut() {
    for length in [0, 1, 125, 126, 5_000, 0xffff, 0x1_0000, 200_000] {
        let content: Vec<u8> = (0..length).map(|at| at as u8).collect();
        for (pieces, per_read) in [(1, usize::MAX), (1, 1000), (1, 7), (3, usize::MAX), (3, 1000), (100, 64)]
        {
            let mut socket = server();
            socket.io_mut().per_read = per_read;
            let mut parts: Vec<&[u8]> = content.chunks(content.len().div_ceil(pieces).max(1)).collect();
            if parts.is_empty() {
                parts.push(&[]);
            }
            for (at, part) in parts.iter().enumerate() {
                let kind = if at == 0 { BINARY } else { CONTINUATION };
                let fin = if at + 1 == parts.len() { 0x80 } else { 0 };
                socket.io_mut().sent.extend(frame(fin | kind, part, true));
                // Control frames may stand between pieces.
                socket.io_mut().sent.extend(frame(0x8a, b"", true));
            }
            let mut messages = received(&mut socket);
            messages.retain(|message| !matches!(message, Ok(Received::Pong(_))));
            assert_eq!(messages, [Ok(Received::Binary(content.clone().into()))], "{length} in {pieces}");
            assert_eq!(socket.held(), 0, "an idle socket has no buffers");
        }
    }
}

#[test]
fn messages_that_arrive_together_keep_nothing_but_themselves() {
    let mut socket = server();
    let large = vec![1; 12_000];
    for content in [&large[..], b"small", &large[..]] {
        socket.io_mut().sent.extend(frame(0x82, content, true));
    }
    for message in received(&mut socket) {
        let Ok(Received::Binary(content)) = message else { panic!("{message:?}") };
        let length = content.len();
        let alone = content.try_into_mut().expect("nobody else has it");
        assert_eq!(alone.capacity(), length);
    }
}

#[test]
fn of_pings_whose_answers_are_not_read_the_latest_is_answered() {
    for size in [0, 1, 125] {
        let mut socket = server();
        for round in 0..200_u8 {
            socket.io_mut().sent.extend(frame(0x89, &vec![round; size], true).repeat(100));
            assert_eq!(received(&mut socket).len(), 100);
            assert!(socket.held() <= 3 * ANSWERS, "{}", socket.held());
        }
        // A message has its place all the same.
        assert!(socket.start_send(BINARY, vec![7; 100_000].into()).is_ok());
        assert!(!flushed(&mut socket));
        socket.io_mut().room = usize::MAX;
        assert!(flushed(&mut socket));
        let written = frames(&socket.io_mut().read);
        let pongs: Vec<_> = written.iter().filter(|(first, _)| *first == 0x8a).collect();
        let most = ANSWERS / (2 + size) + 2;
        assert!(pongs.len() <= most, "{} of {most}", pongs.len());
        assert_eq!(pongs.last().expect("an answer").1, vec![199; size]);
        assert!(written.contains(&(0x82, vec![7; 100_000])));
        assert!(socket.held() <= 256, "{}", socket.held());
    }
}

#[test]
fn a_peer_that_reads_byte_by_byte_does_not_have_the_buffers_grow() {
    let mut socket = server();
    let cx = &mut Context::from_waker(Waker::noop());
    let mut sent = 0;
    for _ in 0..200_000 {
        socket.io_mut().room += 10;
        if socket.poll_ready(cx).is_ready() {
            assert!(socket.start_send(BINARY, vec![0; 8].into()).is_ok());
            sent += 1;
        }
    }
    assert!(sent > 100_000);
    assert!(socket.held() <= 4 * 32 * 1024, "{}", socket.held());
    socket.io_mut().room = usize::MAX;
    assert!(flushed(&mut socket));
    assert_eq!(frames(&socket.io_mut().read).len(), sent);
}

#[test]
fn breaches_of_the_protocol_are_named() {
    let masked = |first: u8, content: &[u8]| frame(first, content, true);
    for (bytes, expected) in [
        (masked(0xc2, b""), "a reserved bit is set"),
        (frame(0x82, b"", false), "a client's frame is not masked"),
        (masked(0x83, b""), "an unknown kind of frame"),
        (masked(0x8b, b""), "an unknown kind of frame"),
        (masked(0x80, b""), "a piece of no message"),
        ([masked(0x01, b""), masked(0x81, b"")].concat(), "a message inside another"),
        (masked(0x09, b""), "a control frame is cut in pieces"),
        (masked(0x89, &[0; 126]), "a control frame is too long"),
        (masked(0x88, b"x"), "half a close code"),
        (masked(0x88, &1005_u16.to_be_bytes()), "a close code that may not be sent"),
        (masked(0x88, &[3, 232, 0xff]), "a close reason that is not UTF-8"),
        (masked(0x82, &vec![0; LARGEST + 1])[..14].to_vec(), "larger than allowed"),
        ([&masked(0x02, &vec![0; LARGEST])[..], &masked(0x00, b"x")[..]].concat(), "larger than allowed"),
        ([&[0x82, 0xff], &u64::MAX.to_be_bytes()[..], &[0; 4]].concat(), "the first bit of a length"),
        ([&[0x82, 0xff], &(u64::MAX / 2).to_be_bytes()[..], &[0; 4]].concat(), "larger than allowed"),
    ] {
        let mut socket = server();
        socket.io_mut().sent.extend(&bytes);
        let received = received(&mut socket);
        let [Err(why)] = &received[..] else { panic!("{expected}: {received:?}") };
        assert!(why.contains(expected), "{why}");
        // A Close can still be sent to the peer.
        assert!(socket.start_close(Some((1002, ""))).is_ok());
    }
}

#[test]
fn a_close_is_answered_with_the_same_and_nothing_follows() {
    for content in [&b""[..], &[15, 160, b'b', b'y', b'e']] {
        let mut socket = server();
        socket.io_mut().sent.extend(frame(0x88, content, true));
        assert!(matches!(received(&mut socket)[..], [Ok(Received::Close(_))]));
        assert!(matches!(socket.start_send(TEXT, Bytes::new()), Err(Broken::Closed)));
        socket.io_mut().room = usize::MAX;
        assert!(received(&mut socket).is_empty());
        assert_eq!(frames(&socket.io_mut().read), [(0x88, content.to_vec())]);
    }
}

#[test]
fn what_is_only_announced_is_not_counted() {
    let mut socket = server();
    socket.io_mut().sent.extend(&frame(0x82, &vec![0; LARGEST], true)[..20_000]);
    assert!(received(&mut socket).is_empty());
    assert!((19_900..=40_000).contains(&socket.held()), "{}", socket.held());
}

/// Browsers refuse lengths that are not in their shortest form; servers accept them.
#[test]
fn only_a_client_insists_on_the_shortest_length() {
    let lengths: [&[u8]; 3] =
        [&[126, 0, 5], &[127, 0, 0, 0, 0, 0, 0, 0, 5], &[127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]];
    for length in lengths {
        let content =
            vec![0; usize::from(length[length.len() - 1]) | usize::from(length[length.len() - 2]) << 8];
        let mut server = server();
        let mut masked = [&[0x82], length, &[0; 4], &content[..]].concat();
        masked[1] |= 0x80;
        server.io_mut().sent.extend(masked);
        assert_eq!(received(&mut server), [Ok(Received::Binary(content.clone().into()))]);
        let peer = Peer { per_read: usize::MAX, ..Peer::default() };
        let mut client = FramedSocket::new(peer, Config::client(LARGEST));
        client.io_mut().sent.extend([&[0x82], length, &content[..]].concat());
        assert!(matches!(&received(&mut client)[..], [Err(why)] if why.contains("shortest")));
    }
}

#[test]
fn an_older_answer_never_follows_a_newer_one() {
    let mut socket = server();
    let ping = |number: u16| frame(0x89, &[&number.to_be_bytes()[..], &[0; 120]].concat(), true);
    for number in 0..1000 {
        socket.io_mut().sent.extend(ping(number));
        assert_eq!(received(&mut socket).len(), 1);
        // Some is read, now and then: not all that waits.
        socket.io_mut().room += if number % 100 == 0 { 5000 } else { 0 };
    }
    socket.io_mut().room = usize::MAX;
    assert!(flushed(&mut socket));
    let pongs = frames(&socket.io_mut().read);
    let numbers: Vec<_> =
        pongs.iter().map(|(_, content)| u16::from_be_bytes([content[0], content[1]])).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert_eq!(numbers.last(), Some(&999));
}

/// The whole allocation of a message is held until its last byte is written.
#[test]
fn a_message_that_is_partly_written_is_counted_whole() {
    let mut socket = server();
    socket.io_mut().room = LARGEST - 1000;
    assert!(socket.start_send(BINARY, vec![7; LARGEST].into()).is_ok());
    assert!(!flushed(&mut socket));
    assert!(socket.queued() <= 1100);
    assert!(socket.held() >= LARGEST, "{}", socket.held());
    socket.io_mut().room = usize::MAX;
    assert!(flushed(&mut socket));
    assert!(socket.held() <= 256, "{}", socket.held());
}

/// Input that was read with the beginning of a frame, or is not yet taken, counts.
#[test]
fn the_beginning_of_a_frame_keeps_nothing_but_itself() {
    let mut socket = server();
    socket.io_mut().sent.extend(frame(0x82, b"", true).repeat(2000));
    socket.io_mut().sent.extend([0x82]);
    let first = socket.poll_next(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(first, Poll::Ready(Some(Ok(Received::Binary(_))))));
    assert!(socket.held() >= 12_000, "{}", socket.held());
    assert_eq!(received(&mut socket).len(), 1999);
    assert!((1..=64).contains(&socket.held()), "{}", socket.held());
}

#[test]
fn a_close_ends_an_unfinished_message() {
    let mut socket = server();
    socket.io_mut().sent.extend(frame(0x02, &[1; 50_000], true));
    socket.io_mut().sent.extend(frame(0x88, b"", true));
    socket.io_mut().sent.extend(frame(0x80, b"the rest", true));
    assert!(matches!(received(&mut socket)[..], [Ok(Received::Close(None))]));
    assert!(socket.held() <= 256, "{}", socket.held());
}

/// A peer that sends its last words and leaves, without reading the answers.
#[test]
fn what_a_peer_sent_before_it_left_is_received() {
    let mut socket = server();
    socket.io_mut().is_gone = true;
    for content in [frame(0x89, b"?", true), frame(0x81, b"the last", true), frame(0x88, b"", true)] {
        socket.io_mut().sent.extend(content);
        socket.io_mut().per_read = 8;
    }
    let received = received(&mut socket);
    let [Ok(Received::Ping(_)), Ok(Received::Text(text)), Ok(Received::Close(None))] = &received[..] else {
        panic!("{received:?}")
    };
    assert_eq!(text, "the last");
}

#[test]
fn frames_that_the_peer_would_refuse_are_not_sent() {
    let mut socket = server();
    assert!(matches!(socket.start_send(PING, vec![0; 126].into()), Err(Broken::Io(_))));
    assert!(socket.start_send(PONG, vec![0; 125].into()).is_ok());
    assert!(socket.start_close(Some((1000, &"ä".repeat(100)))).is_ok());
    socket.io_mut().room = usize::MAX;
    assert!(flushed(&mut socket));
    let close = [&1000_u16.to_be_bytes()[..], "ä".repeat(61).as_bytes()].concat();
    assert_eq!(frames(&socket.io_mut().read)[1..], [(0x88, close)]);
}

#[test]
fn each_byte_of_an_unfinished_message_is_counted() {
    let mut socket = server();
    let message = frame(0x80 | BINARY, &[1; 40_000], true);
    let mut sent = 0;
    for part in [1, 5, 100, 20_000, 1] {
        socket.io_mut().sent.extend(&message[sent..sent + part]);
        sent += part;
        assert_eq!(received(&mut socket), []);
        assert_eq!(socket.received_bytes(), sent as u64);
    }
}

#[test]
fn a_bridged_socket_leaves_pings_to_its_user() {
    for (config, answers) in [(Config::client(LARGEST), true), (Config::bridged(LARGEST), false)] {
        let peer = Peer { per_read: usize::MAX, room: usize::MAX, ..Peer::default() };
        let mut socket = FramedSocket::new(peer, config);
        socket.io_mut().sent.extend(frame(0x80 | PING, b"a", false));
        assert_eq!(received(&mut socket), [Ok(Received::Ping("a".into()))]);
        assert!(flushed(&mut socket));
        assert_eq!(!socket.io_mut().read.is_empty(), answers);
    }
}

/// A stream of HTTP/2, which copies each write: the largest write.
#[derive(Default)]
struct Copying(usize);

impl AsyncRead for Copying {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Copying {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0 = self.0.max(bytes.len());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_stream_that_copies_gets_a_large_message_in_parts() {
    let mut socket = FramedSocket::new(Copying::default(), Config::server(LARGEST));
    socket.start_send(BINARY, vec![0; LARGEST].into()).expect("an open socket");
    assert!(socket.poll_flush(&mut Context::from_waker(Waker::noop())).is_ready());
    assert_eq!(socket.io_mut().0, 32 * 1024);
}

//! Passes connections on to a server, and counts the pings and pongs in them.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The opcodes of a ping and a pong (RFC 6455 §5.5).
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// A server whose connections lead to another one.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    /// The pings to the server, and its pongs, over all connections.
    counts: watch::Receiver<(usize, usize)>,
}

impl Relay {
    pub(crate) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (sender, counts) = watch::channel((0, 0));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(to).await.expect("a server");
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let (pings, pongs) = (sender.clone(), sender.clone());
                tokio::spawn(pass_on(from_client, to_server, move |opcode| {
                    pings.send_if_modified(|(pings, _)| count(opcode == PING, pings));
                }));
                tokio::spawn(pass_on(from_server, to_client, move |opcode| {
                    pongs.send_if_modified(|(_, pongs)| count(opcode == PONG, pongs));
                }));
            }
        });
        Self { address, counts }
    }

    /// The pings that the server has been sent.
    pub(crate) fn pings(&self) -> usize {
        self.counts.borrow().0
    }

    pub(crate) fn unanswered(&self) -> usize {
        let (pings, pongs) = *self.counts.borrow();
        pings - pongs
    }

    /// Waits until the client has been sent the answers to all pings.
    pub(crate) async fn all_answered(&self) {
        let answered = |&(pings, pongs): &(usize, usize)| pings == pongs;
        self.counts.clone().wait_for(answered).await.expect("a relay");
    }
}

fn count(is_one: bool, number: &mut usize) -> bool {
    *number += usize::from(is_one);
    is_one
}

/// Passes on a head and then frames, each of which is reported once it has been written.
async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut passed: impl FnMut(u8),
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(from.read_u8().await?);
    }
    to.write_all(&head).await?;
    loop {
        let mut frame = vec![0; 2];
        from.read_exact(&mut frame).await?;
        let key = if frame[1] & 0x80 != 0 { 4 } else { 0 };
        let length = usize::from(frame[1] & 0x7f);
        assert!(length < 126, "a short frame");
        frame.resize(2 + key + length, 0);
        from.read_exact(&mut frame[2..]).await?;
        to.write_all(&frame).await?;
        passed(frame[0] & 0xf);
    }
}

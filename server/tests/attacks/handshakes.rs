//! Connections by the thousand, that never become links or do nothing as such.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::common::{Link, PATIENCE};
use crate::measure::survive;

/// Whether the server has not hung up.
fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0; 1024]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// "Slowloris", by the thousand; every other one says nothing at all.
#[tokio::test]
async fn handshakes_that_never_end() {
    survive("2,000 handshakes that never end", &[], 128, async |binary| {
        let mut streams = Vec::new();
        for _ in 0..2000 {
            streams.push(TcpStream::connect(binary.server.address).await.expect("a connection"));
        }
        for stream in streams.iter_mut().step_by(2) {
            stream.write_all(b"GET /multiplexer HTTP/1.1\r\nX: ").await.expect("a server");
        }
        let cut = async {
            while !streams.is_empty() {
                tokio::time::sleep(Duration::from_millis(500)).await;
                for stream in streams.iter_mut().step_by(2) {
                    // It may have been cut.
                    let _ = stream.write_all(b"x").await;
                }
                streams.retain(is_open);
            }
        };
        timeout(PATIENCE, cut).await.expect("the server cuts all of them");
    })
    .await;
}

/// Heads that do not come to an end, either, but as fast as the server takes them.
#[tokio::test]
async fn heads_of_any_length() {
    survive("200 heads of 1 MiB each", &[], 64, async |binary| {
        let lines = format!("X: {}\r\n", "x".repeat(1000)).repeat(50);
        let mut tasks = JoinSet::new();
        for _ in 0..200 {
            let (address, lines) = (binary.server.address, lines.clone());
            tasks.spawn(async move {
                let mut stream = TcpStream::connect(address).await.expect("a connection");
                stream.write_all(b"GET /multiplexer HTTP/1.1\r\n").await.expect("a server");
                for _ in 0..20 {
                    if stream.write_all(lines.as_bytes()).await.is_err() {
                        break;
                    }
                }
                let mut answer = Vec::new();
                // Unread input resets the connection.
                let _ = stream.read_to_end(&mut answer).await;
                answer
            });
        }
        let answers = tasks.join_all().await;
        assert!(answers.iter().any(|answer| answer.starts_with(b"HTTP/1.1 431 ")));
    })
    .await;
}

#[tokio::test]
async fn links_without_end() {
    survive("links without end", &["--max-links", "500"], 64, async |binary| {
        let mut links = Vec::new();
        let refused = loop {
            match Link::dial_with(&binary.server, &[], |_| {}).await {
                Ok(link) => links.push(link),
                Err(status) => break status,
            }
        };
        // One is the neighbour's.
        assert_eq!((refused, links.len()), (503, 499));
        binary.logged("there are 500 links already").await;
    })
    .await;
}

#[tokio::test]
async fn links_that_only_sit() {
    survive("3,000 links that only sit", &[], 256, async |binary| {
        let mut links = Vec::new();
        for _ in 0..3000 {
            links.push(Link::dial(&binary.server).await);
        }
    })
    .await;
}

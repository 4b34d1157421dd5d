//! Indexes with long names, opened and requested many times by clients that do not read.

use manysocket_protocol::Event;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::common::{Link, Server};
use crate::measure::survive;

/// Topics, and the length of their names: an index of them has 1 MiB.
const NAMES: (usize, usize) = (1_000, 980);

/// Opens topics with long names, which last as long as the link.
async fn long_names(server: &Server) -> Link {
    let mut link = Link::dial(server).await;
    let (mut opened, mut accepted) = (0, 0);
    while accepted < NAMES.0 {
        while opened < NAMES.0 && opened < accepted + 200 {
            let path = format!("/demo/topics/{opened:05}{}", "n".repeat(NAMES.1 - 5));
            link.endpoint.open(&path, "").expect("below the limit");
            opened += 1;
        }
        accepted += usize::from(matches!(link.event().await, Ok(Event::Accepted { .. })));
    }
    link
}

#[tokio::test]
async fn many_opens_of_a_long_index() {
    survive("3,000 opens of an index of 1 MiB", &[], 120, async |binary| {
        let _names = long_names(&binary.server).await;
        let mut link = Link::dial(&binary.server).await;
        for _ in 0..3_000 {
            link.endpoint.open("/demo/topics/", "").expect("below the limit");
        }
        // Each list counts for the link, although all are one: the link ends at its limit.
        let code = loop {
            if let Err(code) = link.event().await {
                break code;
            }
        };
        assert!(matches!(code, 1008 | 1006), "{code}");
        binary.logged("link_memory").await;
    })
    .await;
}

#[tokio::test]
async fn requests_of_a_long_index_that_nobody_reads() {
    survive("500 requests of an index of 1 MiB, unread", &[], 64, async |binary| {
        let _names = long_names(&binary.server).await;
        let mut unread = Vec::new();
        for n in 0..500 {
            let mut stream = TcpStream::connect(binary.server.address).await.expect("a connection");
            let accept = ["application/json", "text/html", "text/event-stream"][n % 3];
            let request = format!(
                "GET /demo/topics/ HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\n\r\n",
                binary.server.address
            );
            stream.write_all(request.as_bytes()).await.expect("a server");
            unread.push(stream);
        }
        // Each has its answer begun.
        for stream in &unread {
            stream.readable().await.expect("an answer");
        }
    })
    .await;
}

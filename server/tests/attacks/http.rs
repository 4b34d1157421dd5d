//! Attacks on the requests of HTTP carriers.

use std::io::ErrorKind;
use std::time::Duration;

use axum::body::Body;
use manysocket_protocol::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::common::http::{self, CARRIER, KINDS, Requests};
use crate::common::{Link, PATIENCE, Server};
use crate::measure::survive;
use crate::wire::{ECHO, physical};

/// The head of a request that sends over a carrier, up to its own lines.
fn head(server: &Server, command: &str) -> String {
    let address = server.address;
    format!(
        "POST /multiplexer HTTP/1.1\r\nhost: {address}\r\norigin: http://{address}\r\n{CARRIER}: {command}\r\n"
    )
}

/// Opens a carrier by polls, and returns its id.
async fn polls(server: &Server) -> String {
    Requests::new(server).open("poll").await.expect("a carrier").0
}

/// A ping that changes nothing.
fn ping() -> Vec<u8> {
    physical(0x89, b"ping")
}

/// The first requests of a carrier, after attacks on it: it has taken in nothing of them.
async fn assert_unharmed(server: &Server, id: &str) {
    let requests = Requests::new(server);
    assert_eq!(requests.send(id, 1, ping()).await, 409, "nothing has been sent");
    assert_eq!(requests.send(id, 0, ping()).await, 204);
    let mut all = Vec::new();
    while !all.ends_with(b"ping") {
        all.extend(requests.receive(id, all.len() as u64).await.expect("an answer"));
    }
}

/// Sends requests over one connection, each with a separate header, and returns their statuses.
async fn flood(requests: &Requests, commands: impl Iterator<Item = String>) -> Vec<u16> {
    let mut sender = requests.connect().await;
    let mut statuses = Vec::new();
    for command in commands {
        let requests = requests.clone().with(&[(CARRIER, &command)]);
        let answer = requests.over(&mut sender, "POST", Body::from(ping())).await.expect("an answer");
        statuses.push(answer.status.as_u16());
        answer.rest().await;
    }
    statuses
}

#[tokio::test]
async fn requests_of_other_sites() {
    survive("4,000 requests of another site to HTTP carriers", &[], 32, async |binary| {
        let id = polls(&binary.server).await;
        let evil =
            Requests::new(&binary.server).with(&[("origin", "https://evil.example"), ("cookie", "a=1")]);
        // It even knows the id.
        let commands = (0..4000).map(|n| match n % 4 {
            0 => "stream".to_owned(),
            1 => "poll".to_owned(),
            2 => format!("send {id} 0"),
            _ => format!("receive {id} 0"),
        });
        assert!(flood(&evil, commands).await.iter().all(|status| *status == 403));
        // A form needs no permission, and cannot set the header.
        let form = evil.clone().with(&[("content-type", "text/plain")]);
        assert_eq!(form.request("POST", ping()).await.status, 403);
        // A script needs it.
        let asked = evil.clone().with(&[("access-control-request-method", "POST")]);
        assert_eq!(asked.request("OPTIONS", Body::empty()).await.status, 403);
        for origin in ["null", "http://127.0.0.1", ""] {
            let other = Requests::new(&binary.server).with(&[("origin", origin)]);
            assert_eq!(other.open("poll").await.err(), Some(403), "{origin:?}");
        }
        assert_unharmed(&binary.server, &id).await;
    })
    .await;
}

#[tokio::test]
async fn ids_that_are_guessed() {
    survive("4,000 guessed ids of HTTP carriers", &[], 32, async |binary| {
        let id = polls(&binary.server).await;
        let number = u128::from_str_radix(&id, 16).expect("digits");
        // All that differ in one bit, and more.
        let guesses = (0..2000).map(|n: u32| number ^ (1 << (n % 128)) ^ u128::from(n / 128) << 64);
        let commands = guesses
            .filter(|guess| *guess != number)
            .flat_map(|guess| [format!("send {guess:032x} 0"), format!("receive {guess:032x} 0")]);
        let statuses = flood(&Requests::new(&binary.server), commands).await;
        assert!(statuses.iter().all(|status| *status == 410));
        assert_unharmed(&binary.server, &id).await;
    })
    .await;
}

#[tokio::test]
async fn smuggled_lengths() {
    survive("lengths of requests that contradict each other", &[], 32, async |binary| {
        let server = Server::at(binary.server.address);
        let id = polls(&server).await;
        let inner =
            format!("{}content-length: 10\r\n\r\n{}", head(&server, &format!("send {id} 0")), "x".repeat(10));
        let (length, half) = (inner.len(), inner.len() / 2);
        for lines in [
            "content-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n\r\n0\r\n\r\n"),
            format!("content-length: 0\r\ncontent-length: {length}\r\n\r\n"),
            format!("content-length: {length}, 0\r\n\r\n"),
            "content-length: -1\r\n\r\n".to_owned(),
            "content-length: +0\r\n\r\n".to_owned(),
            "content-length: 0x0\r\n\r\n".to_owned(),
            "content-length: 18446744073709551616\r\n\r\n".to_owned(),
            "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n".to_owned(),
            "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n".to_owned(),
            "transfer-encoding: chunked\r\n\r\n-1\r\n\r\n".to_owned(),
            "transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n".to_owned(),
            "transfer-encoding: chunked\r\n\r\n0x0\r\n\r\n".to_owned(),
            format!("content-length : {half}\r\n\r\n"),
        ] {
            let outer = head(&server, &format!("send {} 0", "0".repeat(32)));
            let mut stream = TcpStream::connect(server.address).await.expect("a connection");
            // The server may have hung up.
            let _ = stream.write_all(format!("{outer}{lines}{inner}").as_bytes()).await;
            let mut answer = Vec::new();
            let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end");
            let answer = String::from_utf8_lossy(&answer);
            assert!(!answer.contains("HTTP/1.1 204"), "{lines:?}: {answer}");
            assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{lines:?}: {answer}");
        }
        // The offset smuggles nothing, either.
        for offset in ["0 0", "0,0", "00x", "1e0", "\t0"] {
            let command = format!("send {id} {offset}");
            assert_eq!(flood(&Requests::new(&server), [command].into_iter()).await, [400]);
        }
        assert_unharmed(&server, &id).await;
    })
    .await;
}

#[tokio::test]
async fn requests_that_never_end() {
    survive("1,000 requests of HTTP carriers that never end", &[], 128, async |binary| {
        let server = Server::at(binary.server.address);
        let mut streams = Vec::new();
        for n in 0..1000 {
            let id = polls(&server).await;
            let mut stream = TcpStream::connect(server.address).await.expect("a connection");
            let length = ["content-length: 1000000", "transfer-encoding: chunked"][n % 2];
            let part = ["xxx", "ffff\r\nxxx"][n % 2];
            let request = format!("{}{length}\r\n\r\n{part}", head(&server, &format!("send {id} 0")));
            stream.write_all(request.as_bytes()).await.expect("a server");
            streams.push(stream);
        }
        for mut stream in streams {
            let mut answer = Vec::new();
            // Unread input may reset the connection.
            let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
                .await
                .expect("the server cuts all of them");
        }
    })
    .await;
}

#[tokio::test]
async fn requests_that_are_repeated() {
    survive("4,000 repeated requests of an HTTP carrier", &[], 32, async |binary| {
        let id = polls(&binary.server).await;
        assert_unharmed(&binary.server, &id).await;
        let requests = Requests::new(&binary.server);
        // The client sends again, and asks again for bytes that it has received.
        let statuses = flood(&requests, (0..2000).map(|_| format!("send {id} 0"))).await;
        assert!(statuses.iter().all(|status| *status == 204));
        let statuses = flood(&requests, (0..2000).map(|n| format!("receive {id} {}", 1_000_000 + n))).await;
        assert!(statuses.iter().all(|status| *status == 409));
        assert_eq!(requests.send(&id, ping().len() as u64, ping()).await, 204);
    })
    .await;
}

/// As "pages that never read", over HTTP carriers.
#[tokio::test]
async fn answers_that_are_never_read() {
    survive("300 HTTP carriers that are never read", &[], 200, async |binary| {
        let server = Server::at(binary.server.address);
        let mut links: Vec<Link> = Vec::new();
        for n in 0..300 {
            let mut link = http::link(&server, KINDS[n % 2], &[], |_| {}).await.expect("a link");
            let channel = link.open(ECHO).await;
            for _ in 0..20 {
                link.endpoint.send(channel, Message::binary(vec![0; 60_000]));
            }
            link.flush().await;
            links.push(link);
        }
    })
    .await;
}

/// Nobody ever receives. Each is a link until it is given up.
#[tokio::test]
async fn polls_without_requests() {
    survive("3,000 HTTP carriers without a request to receive", &[], 256, async |binary| {
        for _ in 0..3000 {
            polls(&binary.server).await;
        }
    })
    .await;
}

/// Streams whose clients read nothing at all: not even the id.
#[tokio::test]
async fn streams_without_readers() {
    survive("1,000 streams whose clients read nothing", &[], 128, async |binary| {
        let request = format!("{}content-length: 0\r\n\r\n", head(&binary.server, "stream"));
        let mut streams = Vec::new();
        for _ in 0..1000 {
            let mut stream = TcpStream::connect(binary.server.address).await.expect("a connection");
            stream.write_all(request.as_bytes()).await.expect("a server");
            streams.push(stream);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let is_open = |stream: &TcpStream| {
            matches!(stream.try_read(&mut [0; 16 * 1024]), Ok(1..))
                || matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
        };
        assert!(streams.iter().all(is_open), "they are links like others");
    })
    .await;
}

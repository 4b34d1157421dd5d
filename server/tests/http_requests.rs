//! Single requests of HTTP carriers: which are refused, and that each byte arrives once (docs/protocol.md §3.3).

mod common;

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use common::http::{CARRIER, KINDS, Requests, frame};
use common::upstream::pass;
use common::{PATIENCE, Server};
use futures_util::{StreamExt, future, stream};
use manysocket_server::{Limits, Multiplexer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A ping as a client sends it.
fn ping(payload: &str) -> Vec<u8> {
    frame(0x89, payload.as_bytes())
}

/// The answer of a server.
fn pong(payload: &str) -> Vec<u8> {
    [&[0x8a, payload.len() as u8], payload.as_bytes()].concat()
}

async fn server() -> Server {
    Server::start(Router::new()).await
}

async fn until(what: impl Fn() -> bool) {
    let looking = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, looking).await.expect("in time");
}

/// A carrier by polls, with the number of bytes that have been sent and received.
struct Polls {
    requests: Requests,
    id: String,
    sent: u64,
    received: u64,
}

impl Polls {
    async fn open(requests: Requests) -> Self {
        let (id, answer) = requests.open("poll").await.expect("a carrier");
        assert!(answer.rest().await.is_empty());
        let mut polls = Self { requests, id, sent: 0, received: 0 };
        polls.say("first").await;
        polls
    }

    /// Sends a ping and receives until its answer.
    async fn say(&mut self, payload: &str) {
        let bytes = ping(payload);
        assert_eq!(self.requests.send(&self.id, self.sent, bytes.clone()).await, 204);
        self.sent += bytes.len() as u64;
        self.hear(payload).await;
    }

    async fn hear(&mut self, payload: &str) {
        let mut all = Vec::new();
        while !all.ends_with(&pong(payload)) {
            let bytes = self.requests.receive(&self.id, self.received).await.expect("an answer");
            self.received += bytes.len() as u64;
            all.extend(bytes);
        }
    }

    async fn send(&self, offset: u64, body: impl Into<Body>) -> u16 {
        self.requests.send(&self.id, offset, body).await
    }
}

#[tokio::test]
async fn a_carrier_is_opened_as_a_link_is() {
    let multiplexer = Multiplexer::new("/multiplexer")
        .limits(Limits::new().max_links(2))
        .allow_origin("https://other.example".parse().expect("an origin"));
    let server = Server::with(multiplexer, Router::new()).await;
    let requests = Requests::new(&server);
    for kind in KINDS {
        for (refused, status) in [
            (requests.clone().with(&[("origin", "https://evil.example")]), 403),
            (requests.clone().with(&[("origin", "null")]), 403),
            (requests.clone().without("origin"), 403),
        ] {
            assert_eq!(refused.open(kind).await.err(), Some(status));
        }
        let answer = requests.post(kind, Body::empty()).await;
        assert_eq!(answer.status, 200);
        for (name, value) in [
            ("cache-control", "no-store, no-transform"),
            ("x-accel-buffering", "no"),
            ("content-type", "application/octet-stream"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(answer.headers[name], value);
        }
        std::mem::forget(answer);
    }
    let answer =
        requests.clone().with(&[("origin", "https://other.example")]).post("poll", Body::empty()).await;
    assert_eq!(answer.status, 503, "there are two links");
    assert_eq!(answer.headers["access-control-allow-origin"], "https://other.example");
    let totals = server.stats.totals();
    assert_eq!(
        (totals.links_opened, totals.links_refused.get(&403), totals.links_refused.get(&503)),
        (2, Some(&6), Some(&1))
    );
    assert_eq!(totals.limits_crossed.get("max_links"), Some(&1));
}

#[tokio::test]
async fn commands_that_are_none_are_refused() {
    let server = server().await;
    let requests = Requests::new(&server);
    let id = "0".repeat(32);
    for (command, status) in [
        ("", 400),
        ("websocket", 400),
        ("send", 400),
        (&*format!("send {id} -1"), 400),
        (&*format!("send {id} 99999999999999999999"), 400),
        (&*format!("send {id} 0"), 410),
        (&*format!("receive {id} 18446744073709551615"), 410),
    ] {
        let answer = requests.post(command, Body::empty()).await;
        assert_eq!(answer.status, status, "{command:?}");
        assert_eq!(answer.headers["cache-control"], "no-store, no-transform");
    }
    // Other methods do nothing, and a request without the header is one for cookies.
    for (method, status) in [("GET", 426), ("PUT", 426), ("DELETE", 426), ("OPTIONS", 426)] {
        let answer = requests.clone().with(&[(CARRIER, "poll")]).request(method, Body::empty()).await;
        assert_eq!(answer.status, status, "{method}");
    }
    assert_eq!(requests.request("POST", Body::empty()).await.status, 404);
    let totals = server.stats.totals();
    assert_eq!(totals.links_opened, 0);
    assert_eq!(totals.http_refused.into_iter().collect::<Vec<_>>(), [(400, 5), (410, 2)]);
}

#[tokio::test]
async fn pages_of_allowed_origins_may_ask_and_no_others() {
    let multiplexer =
        Multiplexer::new("/multiplexer").allow_origin("https://other.example".parse().expect("an origin"));
    let server = Server::with(multiplexer, Router::new()).await;
    let asked = [("access-control-request-method", "POST"), ("access-control-request-headers", CARRIER)];
    let preflight = async |origin: &str| {
        let requests = Requests::new(&server).with(&asked).with(&[("origin", origin)]);
        requests.request("OPTIONS", Body::empty()).await
    };
    let answer = preflight("https://other.example").await;
    assert_eq!(answer.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://other.example"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", CARRIER),
        ("vary", "origin"),
    ] {
        assert_eq!(answer.headers[name], value);
    }
    let answer = preflight("https://evil.example").await;
    assert_eq!(answer.status, 403);
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn only_the_origin_that_opened_a_carrier_uses_it() {
    let multiplexer =
        Multiplexer::new("/multiplexer").allow_origin("https://other.example".parse().expect("an origin"));
    let server = Server::with(multiplexer, Router::new()).await;
    let mut polls = Polls::open(Requests::new(&server)).await;
    for other in ["https://other.example", "https://evil.example"] {
        let other = Requests::new(&server).with(&[("origin", other)]);
        assert_eq!(other.send(&polls.id, polls.sent, ping("evil")).await, 403);
        assert_eq!(other.receive(&polls.id, polls.received).await, Err(403));
    }
    assert_eq!(Requests::new(&server).without("origin").send(&polls.id, polls.sent, ping("evil")).await, 403);
    polls.say("unharmed").await;
}

#[tokio::test]
async fn bytes_that_are_sent_again_are_skipped_and_gaps_are_refused() {
    let server = server().await;
    let mut polls = Polls::open(Requests::new(&server)).await;
    let start = polls.sent;
    let two = [ping("one"), ping("two")].concat();
    let one = ping("one").len() as u64;
    // Half of a frame, then all of it, then both.
    assert_eq!(polls.send(start, two[..4].to_vec()).await, 204);
    assert_eq!(polls.send(start, two[..one as usize].to_vec()).await, 204);
    polls.hear("one").await;
    // They wait for the bytes before, and not for long.
    let gaps = [start + one + 1, start + 1000, u64::MAX];
    let refused = future::join_all(gaps.map(|gap| polls.send(gap, ping("gap")))).await;
    assert_eq!(refused, [409; 3]);
    assert_eq!(polls.send(start, two.clone()).await, 204);
    polls.hear("two").await;
    // From before the beginning of all: the bytes that are known are not compared.
    assert_eq!(polls.send(0, vec![0xff; (start + 4) as usize]).await, 204);
    assert_eq!(polls.send(start + 2 * one, vec![]).await, 204);
    polls.sent = start + 2 * one;
    polls.say("and on").await;
}

/// A body whose parts the test sends.
fn slow() -> (mpsc::UnboundedSender<Vec<u8>>, Body) {
    let (parts, mut receiver) = mpsc::unbounded_channel();
    let stream = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (parts, Body::from_stream(stream.map(|part| Ok::<_, Infallible>(Bytes::from(part)))))
}

/// A request that sends, whose body is the test's to end. It is under way: the server has the first part of the body.
struct Slow {
    parts: mpsc::UnboundedSender<Vec<u8>>,
    answer: JoinHandle<u16>,
}

impl Slow {
    /// Begins one with a whole ping, which is answered.
    async fn begin(polls: &mut Polls, offset: u64, payload: &str) -> Self {
        let (parts, body) = slow();
        let answer = send(polls, offset, body);
        parts.send(ping(payload)).expect("a request");
        polls.hear(payload).await;
        Self { parts, answer }
    }

    /// Ends the body with bytes, and returns the status.
    async fn end(self, bytes: Vec<u8>) -> u16 {
        self.parts.send(bytes).expect("a request");
        drop(self.parts);
        answered(self.answer).await
    }
}

/// Sends beside other requests.
fn send(polls: &Polls, offset: u64, body: impl Into<Body>) -> JoinHandle<u16> {
    let (requests, id, body) = (polls.requests.clone(), polls.id.clone(), body.into());
    tokio::spawn(async move { requests.send(&id, offset, body).await })
}

async fn answered(answer: JoinHandle<u16>) -> u16 {
    timeout(PATIENCE, answer).await.expect("in time").expect("no panic")
}

#[tokio::test]
async fn a_request_that_is_stuck_does_not_hold_up_the_same_one_again() {
    let server = server().await;
    let mut polls = Polls::open(Requests::new(&server)).await;
    let start = polls.sent;
    let stuck = Slow::begin(&mut polls, start, "half").await;
    // From its offset on, from the end of the server's bytes, and from within them.
    let all = [ping("half"), ping("rest")].concat();
    assert_eq!(polls.send(start, all.clone()).await, 204);
    polls.hear("rest").await;
    polls.sent = start + all.len() as u64;
    polls.say("on").await;
    assert_eq!(polls.send(polls.sent - 5, [&ping("on")[3..], &ping("and on")].concat()).await, 204);
    polls.hear("and on").await;
    polls.sent += ping("and on").len() as u64;
    // It ends, and not its carrier.
    pass(11).await;
    assert_eq!(answered(stuck.answer).await, 409);
    polls.say("after").await;
}

#[tokio::test]
async fn the_same_request_again_may_be_stuck_too() {
    let server = server().await;
    let mut polls = Polls::open(Requests::new(&server)).await;
    let start = polls.sent;
    let all = [ping("half"), ping("rest")].concat();
    let first = Slow::begin(&mut polls, start, "half").await;
    let (parts, body) = slow();
    let second = send(&polls, start, body);
    // Less than the first one has brought.
    parts.send(all[..3].to_vec()).expect("a request");
    assert_eq!(polls.send(start, all.clone()).await, 204);
    polls.hear("rest").await;
    // All bytes of the first have arrived otherwise, and it arrives late.
    assert_eq!(first.end(ping("rest")).await, 204);
    pass(11).await;
    assert_eq!(answered(second).await, 409);
    polls.sent = start + all.len() as u64;
    polls.say("after").await;
}

#[tokio::test]
async fn a_request_that_arrives_late_disturbs_no_other() {
    let server = server().await;
    let mut polls = Polls::open(Requests::new(&server)).await;
    let (start, one) = (polls.sent, ping("half").len() as u64);
    let under_way = Slow::begin(&mut polls, start, "half").await;
    // A copy of all that came before, whole and in part.
    assert_eq!(polls.send(0, vec![0xff; start as usize]).await, 204);
    let broken = Slow::begin(&mut polls, start + one, "more").await;
    broken.answer.abort();
    assert_eq!(under_way.end([ping("more"), ping("rest")].concat()).await, 204);
    polls.hear("rest").await;
    polls.sent = start + 3 * one;
    polls.say("after").await;
}

#[tokio::test]
async fn last_words_wait_for_the_request_that_they_overtake() {
    let server = server().await;
    let mut polls = Polls::open(Requests::new(&server)).await;
    for is_under_way in [true, false] {
        let start = polls.sent;
        let end = start + 2 * ping("half").len() as u64;
        if is_under_way {
            let first = Slow::begin(&mut polls, start, "half").await;
            let last = send(&polls, end, ping("last"));
            assert_eq!(first.end(ping("rest")).await, 204);
            assert_eq!(answered(last).await, 204);
        } else {
            // It waits, or comes right behind the first.
            let last = send(&polls, end, ping("last"));
            assert_eq!(polls.send(start, [ping("half"), ping("rest")].concat()).await, 204);
            assert_eq!(answered(last).await, 204);
        }
        polls.hear("last").await;
        polls.sent = end + ping("last").len() as u64;
    }
    polls.say("after").await;
}

#[tokio::test]
async fn three_requests_send_at_a_time() {
    let server = server().await;
    let mut polls = Polls::open(Requests::new(&server)).await;
    let start = polls.sent;
    let one = ping("one").len() as u64;
    let mut waiting = Vec::new();
    for (nth, payload) in ["one", "two", "six"].into_iter().enumerate() {
        waiting.push(Slow::begin(&mut polls, start + nth as u64 * one, payload).await);
    }
    // The oldest makes room.
    let fourth = Slow::begin(&mut polls, start + 3 * one, "ten").await;
    let oldest = waiting.remove(0);
    assert_eq!(answered(oldest.answer).await, 409);
    for (slow, rest) in waiting.into_iter().zip([[ping("six"), ping("ten")].concat(), ping("ten")]) {
        assert_eq!(slow.end(rest).await, 204);
    }
    assert_eq!(fourth.end(ping("end")).await, 204);
    polls.hear("end").await;
}

#[tokio::test]
async fn a_request_that_breaks_can_be_sent_again() {
    let server = server().await;
    let mut polls = Polls::open(Requests::new(&server)).await;
    let (parts, body) = slow();
    let (requests, id, sent) = (polls.requests.clone(), polls.id.clone(), polls.sent);
    let first = tokio::spawn(async move { requests.send(&id, sent, body).await });
    parts.send(ping("half")).expect("a request");
    polls.hear("half").await;
    first.abort();
    let both = [ping("half"), ping("rest")].concat();
    let again = async {
        // Until the server knows that the first one has gone.
        while polls.send(polls.sent, both.clone()).await == 409 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("in time");
    polls.hear("rest").await;
}

#[tokio::test]
async fn a_request_whose_body_stops_ends_the_carrier() {
    let server = server().await;
    let mut polls = Polls::open(Requests::new(&server)).await;
    let (parts, body) = slow();
    let (requests, id, sent) = (polls.requests.clone(), polls.id.clone(), polls.sent);
    let first = tokio::spawn(async move { requests.send(&id, sent, body).await });
    parts.send([ping("half"), ping("rest")[..3].to_vec()].concat()).expect("a request");
    // It is under way.
    polls.hear("half").await;
    let waiting = tokio::spawn({
        let (requests, id, received) = (polls.requests.clone(), polls.id.clone(), polls.received);
        async move { requests.receive(&id, received).await }
    });
    pass(11).await;
    assert_eq!(first.await.expect("no panic"), 408);
    assert_eq!(waiting.await.expect("no panic"), Err(410));
    assert_eq!(polls.send(0, vec![]).await, 410);
}

#[tokio::test]
async fn an_answer_is_kept_until_it_is_confirmed() {
    let server = server().await;
    let mut polls = Polls::open(Requests::new(&server)).await;
    assert_eq!(polls.send(polls.sent, ping("one")).await, 204);
    let at = polls.received;
    let mut answers = Vec::new();
    // The first two are lost.
    for _ in 0..3 {
        answers.push(polls.requests.receive(&polls.id, at).await.expect("an answer"));
    }
    assert_eq!(answers, [pong("one"), pong("one"), pong("one")]);
    let end = at + pong("one").len() as u64;
    for wrong in [0, at - 1, at + 1, end + 1, u64::MAX] {
        assert_eq!(polls.requests.receive(&polls.id, wrong).await, Err(409), "{wrong}");
    }
    polls.received = end;
    polls.sent += ping("one").len() as u64;
    polls.say("two").await;
    assert_eq!(polls.requests.receive(&polls.id, at).await, Err(409), "that was confirmed");
}

/// Two requests to receive that are under way: they have displaced another one.
async fn waiting(polls: &Polls) -> Vec<JoinHandle<Result<Vec<u8>, u16>>> {
    let receive = |_| {
        let (requests, id, received) = (polls.requests.clone(), polls.id.clone(), polls.received);
        tokio::spawn(async move { requests.receive(&id, received).await })
    };
    // Whichever came first.
    let all = future::select_all((0..3).map(receive));
    let (displaced, _, others) = timeout(PATIENCE, all).await.expect("in time");
    assert_eq!(displaced.expect("no panic"), Err(409));
    others
}

/// The first may be a copy of the second that arrives late.
#[tokio::test]
async fn each_of_two_requests_gets_the_answer() {
    let server = server().await;
    let mut polls = Polls::open(Requests::new(&server)).await;
    let waiting = waiting(&polls).await;
    // One of no use changes nothing.
    assert_eq!(polls.requests.receive(&polls.id, polls.received + 1).await, Err(409));
    assert_eq!(polls.send(polls.sent, ping("now")).await, 204);
    for answer in waiting {
        assert_eq!(answer.await.expect("no panic"), Ok(pong("now")));
    }
    polls.sent += ping("now").len() as u64;
    polls.received += pong("now").len() as u64;
    polls.say("after").await;
}

/// The tunnel wakes the task of one request only.
#[tokio::test]
async fn a_request_that_breaks_leaves_the_answer_to_the_other() {
    let server = server().await;
    for broken in 0..2 {
        let polls = Polls::open(Requests::new(&server)).await;
        let mut waiting = waiting(&polls).await;
        waiting.remove(broken).abort();
        let answer = waiting.remove(0);
        assert_eq!(polls.send(polls.sent, ping("now")).await, 204);
        assert_eq!(timeout(PATIENCE, answer).await.expect("in time").expect("no panic"), Ok(pong("now")));
    }
}

#[tokio::test]
async fn a_poll_waits_and_then_has_nothing() {
    let server = server().await;
    let mut polls = Polls::open(Requests::new(&server)).await;
    let waiting = waiting(&polls).await;
    pass(26).await;
    for answer in waiting {
        assert_eq!(answer.await.expect("no panic"), Ok(vec![]));
    }
    polls.say("still here").await;
}

#[tokio::test]
async fn a_stream_has_no_polls_and_ends_with_its_reader() {
    let server = server().await;
    let requests = Requests::new(&server);
    let (id, mut answer) = requests.open("stream").await.expect("a carrier");
    assert_eq!(requests.receive(&id, 0).await, Err(409));
    assert_eq!(requests.send(&id, 0, ping("one")).await, 204);
    let mut all = Vec::new();
    while !all.ends_with(&pong("one")) {
        all.extend(answer.next().await);
    }
    drop(answer);
    let ending = async {
        while requests.send(&id, 0, vec![]).await != 410 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, ending).await.expect("in time");
    assert_eq!((server.stats.links(), server.stats.memory()), (0, 0));
}

/// As nginx does by default.
#[tokio::test]
async fn a_proxy_that_speaks_http_1_0_passes_streams_on() {
    let server = server().await;
    let address = server.address;
    let head = |command: &str, length: usize| {
        format!(
            "POST /multiplexer HTTP/1.0\r\nhost: {address}\r\norigin: http://{address}\r\n\
             {CARRIER}: {command}\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(head("stream", 0).as_bytes()).await.expect("a server");
    let mut answer = Vec::new();
    let id = loop {
        answer.push(timeout(PATIENCE, stream.read_u8()).await.expect("in time").expect("an answer"));
        let text = String::from_utf8_lossy(&answer);
        match text.split_once("\r\n\r\n") {
            Some((_, id)) if id.len() == 32 => break id.to_owned(),
            _ => {}
        }
    };
    let mut sending = TcpStream::connect(address).await.expect("a connection");
    let bytes = [head(&format!("send {id} 0"), ping("one").len()).into_bytes(), ping("one")].concat();
    sending.write_all(&bytes).await.expect("a server");
    let mut sent = String::new();
    timeout(PATIENCE, sending.read_to_string(&mut sent)).await.expect("in time").expect("an answer");
    assert!(sent.starts_with("HTTP/1.0 204"), "{sent}");
    while !answer.ends_with(&pong("one")) {
        answer.push(timeout(PATIENCE, stream.read_u8()).await.expect("in time").expect("an answer"));
    }
}

/// They are kept for a while for clients that have not read all.
#[tokio::test]
async fn carriers_whose_links_have_ended_are_bounded() {
    let multiplexer = Multiplexer::new("/multiplexer").limits(Limits::new().max_links(1));
    let server = Server::with(multiplexer, Router::new()).await;
    let requests = Requests::new(&server);
    let mut opened = 0;
    let refused = loop {
        match requests.open("poll").await {
            Ok((id, _)) => {
                opened += 1;
                assert_eq!(requests.send(&id, 0, frame(0x88, &1000_u16.to_be_bytes())).await, 204);
                until(|| server.stats.links() == 0).await;
            }
            Err(status) => break status,
        }
    };
    assert_eq!((refused, opened, server.stats.http_polls()), (503, 1 + 1024, 1 + 1024));
    assert_eq!(server.stats.totals().limits_crossed.get("max_links"), Some(&1));
    pass(31).await;
    until(|| server.stats.http_polls() == 0 && server.stats.memory() == 0).await;
    Polls::open(requests).await;
}

//! Upstreams that fail behind a gateway, each beside one that does not, on the same link: docs/faults.md has the promises.
#![cfg(target_os = "linux")]

mod common;

use std::sync::Arc;

use common::binary::Binary;
use common::network::Wire;
use common::relay::Relay;
use common::upstream::{accepted, frame, pass, upstream_at};
use common::{Link, Server};
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::{Event, Message};
use manysocket_server::Gateway;
use tokio::io::AsyncWriteExt;

/// In steps beyond the gateway's own of 25 s, so that all that is due in each has happened before the next.
const NEARLY_A_MINUTE: [u64; 3] = [26, 26, 7];

/// How many sockets lead to each.
const EACH: usize = 4;

/// A gateway, and a link with sockets to the upstream that fails and to the one that does not.
struct Setting {
    _server: Server,
    link: Link,
    failing: Vec<u32>,
    other: u32,
}

impl Setting {
    async fn new(failing: &Server, other: &Server) -> Self {
        let gateway = |prefix: &str, to: &Server| {
            Gateway::new(prefix, &format!("ws://{}/demo", to.address)).expect("a gateway")
        };
        let app = gateway("/failing", failing).mount(axum::Router::new());
        let server = Server::start(gateway("/other", other).mount(app)).await;
        let mut link = Link::dial(&server).await;
        let mut channels = Vec::new();
        for _ in 0..EACH {
            channels.push(link.open("/failing/echo").await);
        }
        let other = link.open("/other/echo").await;
        Self { _server: server, link, failing: channels, other }
    }

    /// Lets the gateway ping it; an echo after the answer shows that the ping has come.
    async fn the_failing_answers_pings(&mut self) {
        pass(26).await;
        for channel in self.failing.clone() {
            self.link.assert_echo(channel, "here").await;
        }
    }

    async fn the_other_goes_on(&mut self) {
        self.link.assert_echo(self.other, "still there").await;
    }
}

#[tokio::test]
async fn an_upstream_that_is_killed_takes_its_own_sockets_with_it() {
    let (failing, other) = (Binary::start(&[], &[]).await, Binary::start(&[], &[]).await);
    let mut setting = Setting::new(&failing.server, &other.server).await;
    // Messages are under way in both directions, to both.
    const UNDER_WAY: usize = 500;
    let (link, all) = (&mut setting.link, [&setting.failing[..], &[setting.other]].concat());
    for channel in all {
        for number in 0..UNDER_WAY {
            link.endpoint.send(channel, Message::text(number.to_string()));
        }
    }
    let (mut echoes, mut lost, mut killed) = (vec![0; 64], 0, false);
    while lost < EACH || echoes[setting.other as usize] < UNDER_WAY {
        match setting.link.news().await {
            Event::Message { channel, message } => {
                let count = &mut echoes[channel as usize];
                assert_eq!(message, Message::text(count.to_string()), "in order, each once");
                *count += 1;
                if !killed {
                    failing.signal("KILL").await;
                    killed = true;
                }
            }
            Event::Closed { channel, close } => {
                assert_eq!((close.code, channel != setting.other), (Some(1006), true));
                setting.link.endpoint.close(channel, None, "");
                lost += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    let refused = setting.link.endpoint.open("/failing/echo", "");
    let news = setting.link.news().await;
    assert!(
        matches!(news, Event::Refused { channel, status: 502, .. } if Some(channel) == refused),
        "{news:?}"
    );
    setting.the_other_goes_on().await;
}

/// Its connections stay open, and its kernel still accepts bytes.
#[tokio::test]
async fn an_upstream_that_stands_still_is_given_up_after_a_minute() {
    let (failing, other) = (Binary::start(&[], &[]).await, Binary::start(&[], &[]).await);
    let mut setting = Setting::new(&failing.server, &other.server).await;
    setting.the_failing_answers_pings().await;
    failing.stand_still().await;
    given_up_after_a_minute(setting).await;
}

/// As when a suspended machine goes on: it answers the messages sent meanwhile.
#[tokio::test]
async fn an_upstream_that_goes_on_in_time_has_lost_nothing() {
    let (failing, other) = (Binary::start(&[], &[]).await, Binary::start(&[], &[]).await);
    let relay = Relay::start(failing.server.address).await;
    let mut setting = Setting::new(&Server::at(relay.address), &other.server).await;
    setting.the_failing_answers_pings().await;
    failing.stand_still().await;
    for &channel in &setting.failing {
        setting.link.endpoint.send(channel, Message::text("meanwhile"));
    }
    for seconds in NEARLY_A_MINUTE {
        pass(seconds).await;
        setting.the_other_goes_on().await;
    }
    assert!(relay.unanswered() >= EACH, "it has been asked for a sign of life");
    failing.signal("CONT").await;
    for _ in 0..EACH {
        let news = setting.link.news().await;
        assert!(
            matches!(&news, Event::Message { message, .. } if *message == Message::text("meanwhile")),
            "{news:?}"
        );
    }
    // It answers pings again, and may say nothing else for as long as it likes.
    let asked = relay.pings();
    for seconds in [NEARLY_A_MINUTE, NEARLY_A_MINUTE].concat() {
        // The gateway has read all bytes before the other's message when the echo arrives.
        relay.all_answered().await;
        setting.the_other_goes_on().await;
        pass(seconds).await;
        setting.the_other_goes_on().await;
    }
    assert!(relay.pings() >= asked + EACH, "only its answers were signs of life");
}

/// There are servers that never do, and a browser never asks. After that, their messages still arrive.
#[tokio::test]
async fn an_upstream_that_never_answers_pings_is_kept() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let upstream = upstream_at(("127.0.0.1", 0), move |stream, head: String| {
        let mut gone = gone.clone();
        async move {
            // It reads its input and ignores it.
            let (mut read, mut write) = accepted(stream, &head).await.into_inner().into_split();
            tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
            gone.wait_for(|&go| go).await.expect("a test");
            write.write_all(&frame(0x81, b"at last")).await.expect("a gateway");
            std::future::pending::<()>().await;
        }
    })
    .await;
    let other = Binary::start(&[], &[]).await;
    let mut setting = Setting::new(&Server::at(upstream), &other.server).await;
    for seconds in [26; 20] {
        pass(seconds).await;
        setting.the_other_goes_on().await;
    }
    go.send_replace(true);
    for _ in 0..EACH {
        let news = setting.link.news().await;
        assert!(
            matches!(&news, Event::Message { message, .. } if *message == Message::text("at last")),
            "{news:?}"
        );
    }
}

/// Neither an end nor a reset, and nothing is acknowledged.
#[test]
fn an_upstream_whose_network_has_gone_away_is_given_up_after_a_minute() {
    let Some(wire) = Wire::new().map(Arc::new) else { return };
    let (tell, told) = std::sync::mpsc::channel();
    // Ends with the test's process.
    wire.run_at(1, async move || {
        let echo = async |stream, head: String| {
            let mut socket = accepted(stream, &head).await;
            while let Some(Ok(message)) = socket.next().await {
                let _ = socket.send(message).await;
            }
        };
        tell.send(upstream_at((Wire::address(1), 0), echo).await).expect("a test");
        std::future::pending::<()>().await;
    });
    let failing = Server::at(told.recv().expect("an address"));
    let wire_of_gateway = Arc::clone(&wire);
    let gateway = wire.run_at(0, async move || {
        let other = Binary::start(&[], &[]).await;
        let mut setting = Setting::new(&failing, &other.server).await;
        setting.the_failing_answers_pings().await;
        wire_of_gateway.cut();
        given_up_after_a_minute(setting).await;
    });
    gateway.join().expect("what was promised");
}

/// For a minute nothing happens; then its sockets are lost, and opens that wait for an answer are refused with 504.
async fn given_up_after_a_minute(mut setting: Setting) {
    let waiting = setting.link.endpoint.open("/failing/echo", "");
    for seconds in NEARLY_A_MINUTE {
        setting.the_other_goes_on().await;
        pass(seconds).await;
    }
    setting.the_other_goes_on().await;
    pass(4).await;
    let mut lost = setting.failing.clone();
    let mut refused = None;
    while !lost.is_empty() || refused.is_none() {
        match setting.link.news().await {
            Event::Closed { channel, close } => {
                assert_eq!(close.code, Some(1006));
                setting.link.endpoint.close(channel, None, "");
                lost.retain(|&other| other != channel);
            }
            Event::Refused { channel, status, .. } => {
                assert_eq!((Some(channel), status), (waiting, 504));
                refused = Some(status);
            }
            other => panic!("{other:?}"),
        }
    }
    setting.the_other_goes_on().await;
}

//! Limits on the work that a client can cause, each crossed.

use manysocket_protocol::{Endpoint, Event, Message, Settings, Side, Violation};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

/// A client and a server, at a time that stands still.
struct Pair {
    client: Endpoint,
    server: Endpoint,
}

impl Pair {
    fn settle(&mut self) {
        self.try_settle().expect("a correct client");
    }

    /// Carries everything, until the server has had enough.
    fn try_settle(&mut self) -> Result<(), Violation> {
        loop {
            let mut any = false;
            while let Some(message) = self.client.poll_transmit() {
                self.server.receive(0, message)?;
                any = true;
            }
            while let Some(message) = self.server.poll_transmit() {
                self.client.receive(0, message).expect("a correct server");
                any = true;
            }
            if !any {
                return Ok(());
            }
        }
    }
}

fn pair(settings: Settings) -> Pair {
    let client = Endpoint::new(Side::Client, Settings::default(), 0);
    let mut pair = Pair { client, server: Endpoint::new(Side::Server, settings, 0) };
    pair.settle();
    pair
}

#[test]
fn an_open_that_is_too_long_is_refused_before_the_host_sees_it() {
    let mut pair = pair(Settings::new().max_open(100));
    for (target, protocols, fits) in [(100, 0, true), (60, 40, true), (101, 0, false), (60, 41, false)] {
        let channel = pair.client.open(&"/".repeat(target), &"p".repeat(protocols)).expect("a channel");
        pair.settle();
        if fits {
            assert!(matches!(pair.server.poll_event(), Some(Event::Open { .. })));
            pair.server.refuse(channel, 404, "");
            pair.settle();
        }
        assert!(pair.server.poll_event().is_none_or(|event| matches!(event, Event::Drained { .. })));
        let status = if fits { 404 } else { 431 };
        let refused = Event::Refused { channel, status, reason: String::new() };
        assert_eq!(pair.client.poll_event(), Some(refused), "{target} {protocols}");
    }
}

/// Aborts opens in one way until the server ends the link; returns their number.
fn churn(spend: impl Fn(&mut Pair, u32)) -> u32 {
    let mut pair = pair(Settings::new().max_churn(50).max_message(10));
    for count in 0..1000 {
        let channel = pair.client.open("/", "").expect("a channel");
        if let Err(violation) = pair.try_settle() {
            assert_eq!((violation.code(), violation.reason()), (1008, "too many opens that came to nothing"));
            return count;
        }
        spend(&mut pair, channel);
        pair.settle();
        while pair.server.poll_event().is_some() || pair.client.poll_event().is_some() {}
    }
    panic!("no limit")
}

#[test]
fn opens_that_come_to_nothing_are_limited() {
    let taken_back = churn(|pair, channel| {
        pair.client.close(channel, None, "");
        pair.settle();
        pair.server.abort(channel);
    });
    assert_eq!(taken_back, 50, "taken back");
    assert_eq!(churn(|pair, channel| pair.server.refuse(channel, 404, "")), 50, "refused");
    let oversize = churn(|pair, channel| {
        pair.server.accept(channel, "");
        pair.settle();
        pair.client.send(channel, Message::text("more than ten"));
        pair.settle();
        pair.client.close(channel, None, "");
    });
    assert_eq!(oversize, 50, "oversize");
}

#[test]
fn channels_that_were_used_are_not() {
    let mut pair = pair(Settings::new().max_churn(1));
    for _ in 0..100 {
        let channel = pair.client.open("/", "").expect("a channel");
        pair.settle();
        pair.server.accept(channel, "");
        pair.settle();
        pair.client.close(channel, None, "");
        pair.settle();
        pair.server.close(channel, None, "");
        pair.settle();
    }
    assert_eq!(pair.server.channels(), 0);
}

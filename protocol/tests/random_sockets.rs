//! Virtual sockets do random things over a simulated link, with a server that answers as it likes or not at all. Each
//! socket sees the events that a native one would: at most one `open`, its messages in order, at most one `error`, one
//! `close` with the right code. No open and no close waits for ever.
//!
//! `MANYSOCKET_SEED=n` replays a run that failed, `MANYSOCKET_SEEDS=n` asks for more than a test's share;
//! `fuzz/` runs the same with libFuzzer.

mod support;

use support::{rng::Rng, sockets};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

#[test]
fn each_socket_sees_the_events_of_a_native_one() {
    let mut all = sockets::Counts::default();
    let seeds = support::seeds(1000, 60);
    let runs = seeds.end - seeds.start;
    for seed in seeds {
        // Shown if the test fails: the last one is to be replayed.
        println!("seed {seed}");
        let counts = sockets::run(Rng::new(seed));
        all.opens += counts.opens;
        all.messages += counts.messages;
        all.failures += counts.failures;
        all.clean += counts.clean;
        all.lost += counts.lost;
        all.unanswered += counts.unanswered;
    }
    println!("{runs} runs: {all:?}");
    if runs > 1 {
        let sockets::Counts { opens, messages, failures, clean, lost, unanswered } = all;
        let least = [opens, messages, failures, clean, lost, unanswered].into_iter().min();
        assert!(least > Some(0), "the runs did something of everything");
    }
}

//! Two correct peers do random things over a link with random delays and cuts. Whatever they do, nothing is lost,
//! duplicated or reordered within a channel, credit is conserved, and both sides end in the same state.
//!
//! `MANYSOCKET_SEED=n` replays a run that failed, `MANYSOCKET_SEEDS=n` asks for more than a test's share;
//! `fuzz/` runs the same with libFuzzer.

mod support;

use support::{operations, rng::Rng};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

#[test]
fn nothing_is_lost_and_everything_ends() {
    let (mut runs, mut opens, mut messages, mut cuts, mut resumptions) = (0, 0, 0, 0, 0);
    for seed in support::seeds(2000, 200) {
        // Shown if the test fails: the last one is to be replayed.
        println!("seed {seed}");
        let counts = operations::run(Rng::new(seed));
        runs += 1;
        opens += counts.opens;
        messages += counts.messages;
        cuts += counts.cuts;
        resumptions += counts.resumptions;
    }
    println!("{runs} runs, {opens} channels, {messages} messages, {cuts} cuts, {resumptions} resumptions");
    assert!(
        runs == 1 || (opens > runs && messages > runs && cuts > resumptions && resumptions > 0),
        "the runs did something"
    );
}

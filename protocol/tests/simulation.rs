//! Many clients and servers on a network that delays, stalls and cuts, for thousands of seeds. Whatever happens, each
//! channel's messages arrive in order and once, or its reader learns that the channel broke; a link outlives its carriers for
//! as long as its server has announced; credit is conserved; both sides agree; nothing is kept of ended channels; a dead
//! carrier is found in the time that `docs/protocol.md` states; and servers that shut down come to an end.
//!
//! `MANYSOCKET_SEED=n` replays a run that failed, `MANYSOCKET_SEEDS=n` asks for more than a test's share.

mod support;

use support::{rng::Rng, simulation};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

#[test]
fn whatever_happens_nothing_is_lost_in_silence_and_everything_ends() {
    let mut all = simulation::Counts::default();
    let seeds = support::seeds(3000, 100);
    let runs = seeds.end - seeds.start;
    for seed in seeds {
        // Shown if the test fails: the last one is to be replayed.
        println!("seed {seed}");
        all += simulation::run(Rng::new(seed));
    }
    println!("{runs} runs: {all:?}");
    if runs > 1 {
        let simulation::Counts {
            links,
            opens,
            messages,
            cuts,
            resumed,
            out_of_patience,
            stalls,
            found_dead,
            drains,
            crashes,
            lost,
            ..
        } = all;
        let carriers = [cuts, resumed, out_of_patience];
        let others = [links, opens, messages, stalls, found_dead, drains, crashes, lost];
        let least = carriers.into_iter().chain(others).min();
        assert!(least > Some(0), "the runs did something of everything");
    }
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 0..20 {
        assert_eq!(simulation::run(Rng::new(seed)), simulation::run(Rng::new(seed)), "seed {seed}");
    }
}

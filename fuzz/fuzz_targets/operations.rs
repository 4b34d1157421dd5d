//! Whatever two correct peers do, nothing is lost and everything ends: the input makes their choices.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../protocol/tests/support/mod.rs"]
mod support;

fuzz_target!(|input: &[u8]| {
    support::operations::run(support::rng::Rng::from_input(input));
});

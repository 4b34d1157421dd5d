//! Whatever virtual sockets and their server do, each socket sees the events of a native one: the input makes the choices.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../protocol/tests/support/mod.rs"]
mod support;

fuzz_target!(|input: &[u8]| {
    support::sockets::run(support::rng::Rng::from_input(input));
});

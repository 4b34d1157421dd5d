//! Bytes from a peer: an endpoint accepts them or reports a violation.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../protocol/tests/support/mod.rs"]
mod support;

fuzz_target!(|input: &[u8]| support::hostile::decode(input));

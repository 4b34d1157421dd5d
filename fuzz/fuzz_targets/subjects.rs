//! Paths of topics and functions on NATS: `server/src/fuzzing/` has the conditions.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| manysocket_server::fuzzing::subjects(input));

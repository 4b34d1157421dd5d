//! Requests of indexes, and names in them: `server/src/fuzzing/` has the conditions.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| manysocket_server::fuzzing::index(input));

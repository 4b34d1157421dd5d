//! Changes of an index and its readers, in any order: `server/src/fuzzing/` has the conditions.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| manysocket_server::fuzzing::readers(input));

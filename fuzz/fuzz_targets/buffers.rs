//! Target of the buffers of WebSockets: `server/src/ws/fuzzing.rs` has the conditions.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| manysocket_server::fuzzing::buffers(input));

//! Attacks on multiplexers: the end of each, and its effect on another link and on the server. Most run against the
//! binary; with `--nocapture` each of those prints a line of figures. `cargo xtask bench attacks` has them print the rows of the
//! table in `docs/security.md` instead, and runs those that are ignored here, too.
#![cfg(target_os = "linux")]

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod entry;
mod floods;
mod handshakes;
mod harmless;
mod held;
mod http;
mod http2;
mod indexes;
mod lies;
mod limits;
mod log;
mod measure;
mod memory;
mod opens;
mod rows;
mod rows_kept;
mod table;
mod unread;
mod wire;

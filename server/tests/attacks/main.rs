//! Attacks on multiplexers: what each comes to, and what the link beside it and the server feel of it. Most run against the
//! binary; with `--nocapture` each of those prints a line for the table in `docs/security.md`.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;
mod entry;
mod floods;
mod handshakes;
mod held;
mod lies;
mod limits;
mod log;
mod measure;
mod memory;
mod opens;
mod unread;
mod wire;

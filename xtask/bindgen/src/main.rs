//! wasm-bindgen and its test runner as one binary: `xtask-bindgen bindgen …` and `xtask-bindgen test-runner …`.
//!
//! Built from the library of the crate `wasm-bindgen-cli`, so that Cargo.lock holds its version beside the client's
//! and nothing needs to be installed. It is a separate crate because it takes a minute to compile: `cargo xtask`
//! works without it, and builds it when it must process the wasm.

mod occupied;

use anyhow::{Result, bail};
use std::ffi::OsString;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let tool = arguments.next().unwrap_or_default();
    if tool == "test-runner" && std::env::var_os(occupied::ADDRESS).is_none() {
        let status = occupied::run_test_runner(arguments)?;
        std::process::exit(status.code().unwrap_or(1));
    }
    // Both command lines expect the name of a program in front.
    let arguments = std::iter::once(OsString::from("xtask-bindgen")).chain(arguments);
    match tool.to_str() {
        Some("bindgen") => wasm_bindgen_cli::wasm_bindgen::run_cli_with_args(arguments),
        Some("test-runner") => wasm_bindgen_cli::wasm_bindgen_test_runner::run_cli_with_args(arguments),
        _ => bail!("xtask-bindgen {tool:?}: no such tool; use `bindgen` or `test-runner`"),
    }
}

//! The project's commands: `cargo xtask build`, `demo`, `test`, `bench`, `fuzz`, `reference` and `release`. Each installs its tools.

mod attacks;
mod bench;
mod build;
mod command;
mod demo;
mod failures;
mod features;
mod fuzz;
mod inline;
mod reference;
mod release;
mod setup;
mod test;
mod workspace;

use anyhow::{Result, bail};
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask build                    build the npm package into pkg/ and print its sizes
cargo xtask demo [--listen ADDRESS]  build everything and serve the demo (default address 127.0.0.1:8080)
cargo xtask bench [--quick] [NAME]…  measure against native sockets and peers, and write docs/benchmarks.md;
                                     with names, run only these workloads of bench/workloads.mjs, and write nothing
cargo xtask bench soak [MINUTES]     run everything while connections break (default 30 minutes), and write
                                     docs/faults.md
cargo xtask bench attacks [WORD]…    measure the latency of a neighbour during each attack, and write docs/security.md;
                                     with words, run only attacks with such names, and write nothing
cargo xtask fuzz SECONDS [TARGET]…   run all fuzz targets, or only the named ones, for SECONDS each
cargo xtask reference                write the API reference of the npm package and the crates
cargo xtask release --dry-run        check whether a release could be made, and pack it; publishes nothing
cargo xtask test [STEP]…             run all tests, or only the named steps:
                                     fmt clippy features native wasm browser package fuzz";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["build"] => build::build(),
        ["demo"] => demo::demo(demo::DEFAULT_ADDRESS),
        ["demo", "--listen", address] => demo::demo(address),
        ["release", "--dry-run"] => release::dry_run(),
        ["reference"] => reference::reference(),
        ["test", steps @ ..] => test::test(steps),
        ["fuzz", seconds, targets @ ..] => fuzz::fuzz(seconds, targets),
        ["bench", "soak"] => bench::soak(bench::SOAK),
        ["bench", "soak", minutes] => bench::soak(minutes),
        ["bench", "attacks", words @ ..] => attacks::attacks(words),
        ["bench", arguments @ ..] => bench::bench(arguments),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        other => bail!("cannot understand `{}`. The commands are:\n{USAGE}", other.join(" ")),
    }
}

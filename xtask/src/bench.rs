//! `cargo xtask bench`: builds the servers and clients of `bench/`, and runs the measurements.

use crate::{build, command, setup, workspace};
use anyhow::Result;

/// The default length of the soak, in minutes.
pub(crate) const SOAK: &str = "30";

/// Runs the named workloads, or all of them and then writes `docs/benchmarks.md`.
/// `--quick` runs each once, without peers, and writes nothing.
pub(crate) fn bench(arguments: &[&str]) -> Result<()> {
    run("bench/run.mjs", "manysocket-test-server", arguments)
}

/// Runs everything for the given minutes while connections break; half an hour or more writes `docs/faults.md`.
pub(crate) fn soak(minutes: &str) -> Result<()> {
    run("bench/soak.mjs", "manysocket-server", &[minutes])
}

/// Runs a program of `bench/` with the given server.
fn run(program: &str, server: &str, arguments: &[&str]) -> Result<()> {
    build::package()?;
    let browser = setup::browser::browser()?;
    println!("Building the servers …");
    command::run(command::cargo()?.args(["build", "--quiet", "--release"]).args([
        "--package",
        server,
        "--package",
        "manysocket-bench-client",
        "--all-features",
    ]))?;
    setup::node::install("bench", "the measured peers, and the library for the charts")?;
    let mut run = command::program("node")?;
    run.arg(program).arg(workspace::target()?).args(arguments).env("CHROMIUM", browser.chromium);
    command::run(&mut run)
}

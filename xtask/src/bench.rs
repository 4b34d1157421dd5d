//! `cargo xtask bench`: builds what `bench/` measures, and runs it.

use crate::{build, command, setup, workspace};
use anyhow::Result;

/// How long the soak lasts, in minutes, unless it is told.
pub(crate) const SOAK: &str = "30";

/// Runs the workloads that are named, or all of them, and then writes `docs/benchmarks.md`; `--quick` tries them all
/// once, without peers, and writes nothing.
pub(crate) fn bench(arguments: &[&str]) -> Result<()> {
    run("bench/run.mjs", "manysocket-test-server", arguments)
}

/// Runs everything for so many minutes, while connections break; half an hour or more writes `docs/faults.md`.
pub(crate) fn soak(minutes: &str) -> Result<()> {
    run("bench/soak.mjs", "manysocket-server", &[minutes])
}

/// Runs a program of `bench/` with that server.
fn run(program: &str, server: &str, arguments: &[&str]) -> Result<()> {
    build::package()?;
    let browser = setup::browser::browser()?;
    println!("Building the servers …");
    command::run(command::cargo()?.args(["build", "--quiet", "--release"]).args([
        "--package",
        server,
        "--package",
        "manysocket-bench-client",
    ]))?;
    setup::node::install("bench", "the peers that are measured, and what draws the charts")?;
    let mut run = command::program("node")?;
    run.arg(program).arg(workspace::target()?).args(arguments).env("CHROMIUM", browser.chromium);
    command::run(&mut run)
}

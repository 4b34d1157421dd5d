//! `cargo xtask bench`: builds what `bench/` measures, and runs it.

use crate::{build, command, setup, workspace};
use anyhow::Result;

/// Runs the workloads that are named, or all of them, and then writes `docs/benchmarks.md`; `--quick` tries them all
/// once, without peers, and writes nothing.
pub(crate) fn bench(arguments: &[&str]) -> Result<()> {
    build::package()?;
    let browser = setup::browser::browser()?;
    println!("Building the servers …");
    command::run(command::cargo()?.args(["build", "--quiet", "--release"]).args([
        "--package",
        "manysocket-test-server",
        "--package",
        "manysocket-bench-client",
    ]))?;
    setup::node::install("bench", "the peers that are measured, and what draws the charts")?;
    let mut run = command::program("node")?;
    run.arg("bench/run.mjs").arg(workspace::target()?).args(arguments).env("CHROMIUM", browser.chromium);
    command::run(&mut run)
}

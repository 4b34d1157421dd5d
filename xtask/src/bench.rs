//! `cargo xtask bench`: builds what `bench/` measures, and runs it.

use crate::{build, command, setup, workspace};
use anyhow::{Context, Result};

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
    let bench = workspace::root()?.join("bench");
    let node_modules = bench.join("node_modules");
    if !workspace::is_newer(&node_modules.join(setup::node::STAMP), &[&bench.join("package-lock.json")]) {
        println!("Installing the peers that are measured, and what draws the charts …");
        let mut npm = command::program("npm")?;
        npm.current_dir(&bench).args(["ci", "--no-audit", "--no-fund"]);
        command::run_quietly(&mut npm).context("npm must reach its registry once")?;
    }
    let mut run = command::program("node")?;
    run.arg("bench/run.mjs").arg(workspace::target()?).args(arguments).env("CHROMIUM", browser.chromium);
    command::run(&mut run)
}

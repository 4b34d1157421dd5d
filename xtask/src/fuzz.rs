//! `cargo xtask fuzz`: the targets of `fuzz/` with libFuzzer, one after the other, from their saved inputs.

use crate::{command, setup, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Seconds for each target in a test: enough for the saved inputs and similar ones, and below a minute for all.
pub(crate) const SHORT: &str = "4";

/// Seconds that one input may take; the slowest of the saved ones takes a hundredth of a second.
const HANG: &str = "-timeout=20";

/// The longest input that libFuzzer makes: longer ones reach no other code, and take longer. It would cut longer saved inputs,
/// so these run beforehand.
const LONGEST: &str = "-max_len=1024";

/// Runs the named targets, or all, and prints how many inputs each got. Stops at the first target that fails.
pub(crate) fn fuzz(seconds: &str, wanted: &[&str]) -> Result<()> {
    if !setup::compiler::compiler() {
        return Ok(());
    }
    let folder = workspace::root()?.join("fuzz");
    let targets = targets(&folder)?;
    if let Some(unknown) = wanted.iter().find(|name| !targets.iter().any(|target| target == *name)) {
        bail!("there is no target `{unknown}`; the targets are: {}", targets.join(" "));
    }
    // The flags that libFuzzer needs are in the configuration of that folder.
    command::run(command::cargo()?.args(["build", "--quiet", "--release"]).current_dir(&folder))?;
    println!("{:12} {:>12} {:>8} {:>8} {:>8}", "target", "executions", "seconds", "inputs", "edges");
    for target in targets.iter().filter(|name| wanted.is_empty() || wanted.contains(&name.as_str())) {
        let start = Instant::now();
        let printed = run(&folder, target, seconds)?;
        let [executions, inputs, edges] =
            ["number_of_executed_units: ", "corp: ", "cov: "].map(|name| last(&printed, name));
        let seconds = start.elapsed().as_secs();
        println!("{target:12} {executions:>12} {seconds:>8} {inputs:>8} {edges:>8}");
    }
    Ok(())
}

/// Returns the names of the targets, which are those of their files.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.join("fuzz_targets");
    let files = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let names =
        files.map(|file| Ok(file?.path().file_stem().unwrap_or_default().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

/// Runs one target and returns libFuzzer's output. Inputs that reach new code stay in `fuzz/target/corpus/`, a failing
/// one in `fuzz/artifacts/`.
fn run(folder: &Path, target: &str, seconds: &str) -> Result<String> {
    let (found, failing) = (folder.join("target/corpus").join(target), folder.join("artifacts"));
    for folder in [&found, &failing] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let saved = folder.join("corpus").join(target);
    let inputs = fs::read_dir(&saved).with_context(|| format!("cannot read {}", saved.display()))?;
    let inputs = inputs.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
    let libfuzzer = |arguments: &[&std::ffi::OsStr]| {
        let mut cargo = command::cargo()?;
        cargo.current_dir(folder).args(["run", "--quiet", "--release", "--bin", target, "--", HANG]);
        cargo.arg(format!("-artifact_prefix={}/", failing.display())).args(arguments);
        let output = cargo.output().context("cannot start cargo")?;
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            bail!("{target} failed ({}):\n{}", output.status, printed.trim_end());
        }
        Ok(printed)
    };
    libfuzzer(&inputs.iter().map(|input| input.as_os_str()).collect::<Vec<_>>())?;
    let time = format!("-max_total_time={seconds}");
    libfuzzer(&[
        found.as_os_str(),
        saved.as_os_str(),
        time.as_ref(),
        LONGEST.as_ref(),
        "-print_final_stats=1".as_ref(),
    ])
}

/// Returns the last number that follows a name.
fn last<'a>(printed: &'a str, name: &str) -> &'a str {
    let rest = printed.rsplit_once(name).map_or("", |(_, rest)| rest);
    rest.split(|character: char| !character.is_ascii_digit()).next().unwrap_or_default()
}

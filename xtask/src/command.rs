//! Runs other programs, with a clear error when one is missing or fails.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// Returns a command for the cargo of the workspace's toolchain.
pub(crate) fn cargo() -> Result<Command> {
    cargo_at("cargo")
}

/// Returns a command for the cargo at the given path.
pub(crate) fn cargo_at(path: &str) -> Result<Command> {
    let mut command = program(path)?;
    // The outer cargo set these to files of its toolchain, which another toolchain's cargo would then call.
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "CARGO_MANIFEST_DIR"] {
        command.env_remove(variable);
    }
    Ok(command)
}

/// Returns a command that runs a program in the root of the repository.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Result<Command> {
    let mut command = Command::new(name);
    command.current_dir(crate::workspace::root()?);
    Ok(command)
}

/// Runs it and passes its output on; a status other than success is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// Runs it silently; shows its output only if it fails.
pub(crate) fn run_quietly(command: &mut Command) -> Result<()> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!(
            "`{}` failed ({}):\n{}",
            line(command),
            output.status,
            String::from_utf8_lossy(&said).trim_end()
        );
    }
    Ok(())
}

/// Returns its standard output; `None` if it cannot be started or fails.
pub(crate) fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns the command line, with paths shortened to the programs' names.
pub(crate) fn line(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

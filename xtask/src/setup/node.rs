//! Node.js, and the npm packages of `tests/package.json`: wasm-opt, the browser's remote control, the package checker.

use crate::{command, workspace};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// The file in `node_modules` that npm writes at the end of an installation.
pub(crate) const STAMP: &str = ".package-lock.json";

/// The oldest Node.js that works: from this version on, its test runner accepts patterns of file names.
const OLDEST_NODE: u32 = 20;

/// Checks Node.js and installs the packages when the lock file has changed; returns the folder `node_modules`.
pub(crate) fn packages() -> Result<PathBuf> {
    check_node()?;
    install("tests", "wasm-opt and the driver of the browser")
}

/// Installs the packages of a folder of the repository when its lock file has changed; returns its `node_modules`.
pub(crate) fn install(folder: &str, what: &str) -> Result<PathBuf> {
    let path = workspace::root()?.join(folder);
    let node_modules = path.join("node_modules");
    if !workspace::is_newer(&node_modules.join(STAMP), &[&path.join("package-lock.json")]) {
        println!("Installing the npm packages of {folder}/: {what} …");
        let mut npm = command::program("npm")?;
        npm.current_dir(&path).args(["ci", "--no-audit", "--no-fund"]);
        command::run_quietly(&mut npm)
            .context("the npm packages are missing: npm must reach its registry once")?;
    }
    Ok(node_modules)
}

fn check_node() -> Result<()> {
    let version = command::answer(command::program("node")?.arg("--version"));
    let major = version
        .as_deref()
        .and_then(|version| version.trim_start_matches('v').split('.').next()?.parse().ok());
    if major.is_some_and(|major: u32| major >= OLDEST_NODE) && workspace::on_path("npm").is_some() {
        return Ok(());
    }
    let found = version.map_or("none was found".to_owned(), |version| format!("this one is {version}"));
    anyhow::bail!(
        "Node.js {OLDEST_NODE} or newer with npm is needed ({found}): install it from https://nodejs.org or with your \
         system's package manager"
    )
}

//! Finds a Rust toolchain that compiles for the browser: the one in use, with the wasm32 target added by rustup.
//! Where rustup cannot download the target, it makes one from a Debian-like system's packages.

use super::wasm_debian;
use crate::build::WASM;
use crate::{command, workspace};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

/// The toolchain that compiles for wasm32: the workspace's own, or one by its name in rustup.
pub(crate) struct Toolchain {
    name: Option<&'static str>,
}

impl Toolchain {
    /// Returns a command for the cargo of this toolchain.
    pub(crate) fn cargo(&self) -> Result<Command> {
        let mut cargo = command::cargo()?;
        if let Some(name) = self.name {
            cargo.env("RUSTUP_TOOLCHAIN", name);
        }
        Ok(cargo)
    }
}

/// Finds the toolchain, or makes one.
pub(crate) fn toolchain() -> Result<Toolchain> {
    let own = Toolchain { name: None };
    if has_target()? {
        return Ok(own);
    }
    let made = Toolchain { name: Some(wasm_debian::NAME) };
    if wasm_debian::exists()? {
        return Ok(made);
    }
    ensure!(
        workspace::on_path("rustup").is_some(),
        "this Rust has no standard library for {WASM}, and there is no rustup to add it: install Rust by rustup"
    );
    println!("Adding the target {WASM} to the Rust toolchain …");
    let mut add = command::program("rustup")?;
    let Err(refusal) = command::run_quietly(add.args(["target", "add", WASM])) else { return Ok(own) };
    println!("rustup could not add it, so a toolchain is made of the system's packages (about two minutes).");
    wasm_debian::make().with_context(|| {
        format!("the Rust target {WASM} is missing: run `rustup target add {WASM}` when rustup's server can be reached ({refusal})")
    })?;
    Ok(made)
}

/// Returns whether the toolchain in use has a standard library for wasm32.
fn has_target() -> Result<bool> {
    let mut rustc = command::program("rustc")?;
    let folder = command::answer(rustc.args(["--print", "target-libdir", "--target", WASM]));
    Ok(folder.is_some_and(|folder| Path::new(&folder).is_dir()))
}

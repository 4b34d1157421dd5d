//! Installs packages of a Debian-like system, if this process is root.

use crate::{command, workspace};
use anyhow::{Result, bail};

/// Installs the packages, or returns why it cannot; `purpose` ends the line that it prints.
pub(super) fn install(packages: &[&str], purpose: &str) -> Result<()> {
    let wanted = packages.join(" ");
    if workspace::on_path("apt-get").is_none() {
        bail!("this system has no apt-get to install {wanted}");
    }
    if command::answer(command::program("id")?.arg("-u")).as_deref() != Some("0") {
        bail!("installing needs root: run `sudo apt-get install {wanted}`");
    }
    println!("Installing {wanted}: {purpose} …");
    // A fresh machine has no package lists, or old ones.
    for arguments in [vec!["update"], [&["install", "--yes", "--no-install-recommends"], packages].concat()] {
        command::run_quietly(
            command::program("apt-get")?.env("DEBIAN_FRONTEND", "noninteractive").args(arguments),
        )?;
    }
    Ok(())
}

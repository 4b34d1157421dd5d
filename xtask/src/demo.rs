//! `cargo xtask demo`: the demo page and the server that answers it.

use crate::{build, command, workspace};
use anyhow::Result;
use std::process::Command;

/// The default address, which only this machine can reach; `--listen` opens the demo to others.
pub(crate) const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";

/// Makes cargo select the server's binary. The name of the package before the feature would mean its dev-dependency on itself.
pub(crate) const SERVER: [&str; 6] =
    ["--package", "manysocket-server", "--bin", "manysocket-server", "--features", "bin"];

/// Builds the package and the server, stages the page and serves it until a signal ends the server.
pub(crate) fn demo(address: &str) -> Result<()> {
    build::build()?;
    let site = workspace::target()?.join("demo");
    workspace::empty(&site)?;
    let root = workspace::root()?;
    workspace::copy_contents(&root.join("www"), &site)?;
    workspace::copy_contents(&root.join("pkg"), &site.join("pkg"))?;

    println!("Building the server …");
    command::run(command::cargo()?.args(["build", "--quiet", "--release"]).args(SERVER))?;
    println!("Starting the demo. Open the address below in a browser; Ctrl-C ends it.");
    let mut server = command::program(workspace::built("release", "manysocket-server")?)?;
    server.arg("--listen").arg(address).arg("--static").arg(&site);
    // The next demo shows the documents that were edited in this one.
    server.arg("--data").arg(workspace::target()?.join("demo-data"));
    become_program(&mut server)
}

/// Replaces this process by the server, so that SIGINT and SIGTERM reach the server directly.
#[cfg(unix)]
fn become_program(server: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    Err(anyhow::Error::new(server.exec()).context("cannot start the server"))
}

/// Runs the server as a child; Ctrl-C reaches both through the console they share.
#[cfg(not(unix))]
fn become_program(server: &mut Command) -> Result<()> {
    command::run(server)
}

//! `cargo xtask reference`: the API reference of both languages, as HTML pages.

use crate::{build, command, setup, workspace};
use anyhow::Result;

/// Writes the reference of the npm package by typedoc, and that of the crates by rustdoc, into cargo's target directory.
pub(crate) fn reference() -> Result<()> {
    build::package()?;
    setup::node::install("tests/package", "typedoc, and the tools that try the package")?;
    let javascript = workspace::target()?.join("typedoc");
    let mut typedoc = command::program("node")?;
    typedoc.current_dir(workspace::root()?.join("tests/package"));
    command::run(typedoc.args(["node_modules/typedoc/bin/typedoc", "--out"]).arg(&javascript))?;
    command::run(command::cargo()?.args([
        "doc",
        "--quiet",
        "--no-deps",
        "--all-features",
        "--package",
        "manysocket-server",
        "--package",
        "manysocket-protocol",
    ]))?;
    println!("the npm package: {}", javascript.join("index.html").display());
    let rust = workspace::target()?.join("doc/manysocket_server/index.html");
    println!("the crates:      {}", rust.display());
    Ok(())
}

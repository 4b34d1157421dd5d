//! Checks the features of `manysocket-server`: each builds alone, and a program that needs no database stays small.

use crate::{command, demo};
use anyhow::{Result, bail};
use std::collections::BTreeSet;

/// The features, each of which is built alone. `bin` is all of them.
const FEATURES: [&str; 11] = [
    "documents",
    "gateway",
    "http2",
    "metrics",
    "nats",
    "rpc",
    "site",
    "tls",
    "topic-store",
    "topics",
    "typescript",
];

/// The features that the bound on dependencies holds for: the default ones without `documents` and `topic-store`, which bring a
/// database, and without `http2`, which brings a protocol.
const COUNTED: &str = "gateway,metrics,rpc,site,tls,topics";

/// The largest number of crates that a program compiles for these. axum with WebSockets and tokio needs 69.
const MAX_CRATES: usize = 90;

const ALONE: [&str; 4] = ["--package", "manysocket-server", "--no-default-features", "--features"];

/// Builds the library with no feature and with each one alone, and the binary as the demo does, and counts the crates that the
/// library needs.
pub(crate) fn features() -> Result<()> {
    for feature in [""].iter().chain(&FEATURES) {
        // As `cargo check`; only this subcommand passes arguments on to the compiler, for this crate alone.
        let check = ["rustc", "--quiet", "--lib", "--profile", "check"];
        let strict = ["--", "-D", "warnings"];
        command::run(command::cargo()?.args(check).args(ALONE).arg(feature).args(strict))?;
    }
    command::run(command::cargo()?.args(["check", "--quiet"]).args(demo::SERVER))?;
    let tree = ["tree", "--edges", "normal", "--prefix", "none"];
    let output = command::cargo()?.args(tree).args(ALONE).arg(COUNTED).output()?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let crates = count(&String::from_utf8_lossy(&output.stdout));
    println!("{crates} crates with {COUNTED}");
    if crates > MAX_CRATES {
        bail!("the features {COUNTED} need {crates} crates, and may need {MAX_CRATES}: see `cargo tree`");
    }
    Ok(())
}

/// Counts the crates in the output of `cargo tree`, which marks repetitions.
fn count(tree: &str) -> usize {
    tree.lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .filter(|line| !line.is_empty())
        .collect::<BTreeSet<_>>()
        .len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_crate_counts_once() {
        assert_eq!(count("a v1.0.0\nb v1.0.0\nb v2.0.0\nb v1.0.0 (*)\n\n"), 3);
    }
}

//! `cargo xtask release --dry-run`: checks whether a release is possible, and packs it. It publishes nothing.
//!
//! It reports all problems together at the end.

use crate::{build, command, workspace};
use anyhow::{Result, bail};
use std::path::Path;

/// The crates in publishing order: each needs those before it.
const CRATES: [&str; 4] = ["manysocket-protocol", "manysocket-server", "manysocket", "manysocket-cli"];

/// The common version, from the workspace's manifest.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Checks, packs, and prints the files to publish.
pub(crate) fn dry_run() -> Result<()> {
    let root = workspace::root()?;
    let mut problems = Vec::new();
    let uncommitted = command::answer(command::program("git")?.args(["status", "--porcelain"]));
    if uncommitted.is_none_or(|files| !files.is_empty()) {
        problems.push("the working tree has changes that are not committed".to_owned());
    }
    problems.extend(check_versions(&workspace::read(&root.join("Cargo.toml"))?));
    problems.extend(check_changelog(&workspace::read(&root.join("CHANGELOG.md"))?));

    let packed = workspace::target()?.join("release-files");
    workspace::empty(&packed)?;
    build::package()?;
    println!("\nThe npm package:");
    let mut npm = command::program("npm")?;
    npm.args(["pack", "./pkg", "--loglevel=notice", "--pack-destination"]);
    command::run(npm.arg(&packed))?;

    println!("\nThe crates, compiled as they are packed:");
    let mut cargo = command::cargo()?;
    // Uncommitted changes are among the problems already.
    cargo.args(["package", "--allow-dirty"]).args(CRATES.map(|name| format!("--package={name}")));
    command::run(&mut cargo)?;
    for name in CRATES {
        let file = format!("{name}-{VERSION}.crate");
        workspace::copy(&workspace::target()?.join("package").join(&file), &packed.join(&file))?;
    }
    workspace::copy(&root.join("pkg/manysocket_bg.wasm"), &packed.join("manysocket_bg.wasm"))?;
    checksums(&packed)?;

    println!("\nTo publish: npm publish {}/manysocket-{VERSION}.tgz", packed.display());
    println!("            cargo publish {}", CRATES.map(|name| format!("--package {name}")).join(" "));
    if !problems.is_empty() {
        bail!("{VERSION} cannot be released yet:\n- {}", problems.join("\n- "));
    }
    Ok(())
}

/// Returns the dependencies between crates that name another version. The build gives the npm package its version.
fn check_versions(manifest: &str) -> Vec<String> {
    let asked = manifest.lines().filter(|line| line.starts_with("manysocket-") && line.contains("path = "));
    let other = asked.filter(|line| !line.contains(&format!("version = \"{VERSION}\"")));
    other.map(|line| format!("Cargo.toml: the workspace has version {VERSION}, but `{line}`")).collect()
}

/// Checks that the changelog has a section for the version, and none for unreleased changes.
fn check_changelog(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !text
        .lines()
        .any(|line| line == format!("## {VERSION}") || line.starts_with(&format!("## {VERSION} ")))
    {
        problems.push(format!("CHANGELOG.md has no section `## {VERSION}`"));
    }
    if text.lines().any(|line| line == "## Unreleased") {
        problems.push(format!(
            "CHANGELOG.md has a section `## Unreleased`: it becomes `## {VERSION}`, with the date"
        ));
    }
    problems
}

/// Prints the checksums of a folder's files, in the form that `sha256sum --check` reads.
fn checksums(folder: &Path) -> Result<()> {
    println!("\nChecksums (SHA-256):");
    command::run(command::program("node")?.arg("xtask/checksums.mjs").arg(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_must_be_equal() {
        let line =
            |version| format!("manysocket-server = {{ path = \"server\", version = \"{version}\" }}\n");
        assert_eq!(check_versions(&line(VERSION)), Vec::<String>::new());
        assert_eq!(check_versions(&line("9.9.9")).len(), 1);
    }

    #[test]
    fn the_changelog_must_have_the_version_and_nothing_unreleased() {
        assert_eq!(
            check_changelog(&format!("# Changelog\n\n## {VERSION} - 2030-01-01\n")),
            Vec::<String>::new()
        );
        assert_eq!(check_changelog(&format!("## Unreleased\n## {VERSION}\n")).len(), 1);
        assert_eq!(check_changelog(&format!("## {VERSION}0\n")).len(), 1);
    }
}

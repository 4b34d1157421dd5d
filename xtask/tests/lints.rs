//! Checks that every crate of the repository uses the workspace's lints, and that these forbid unsafe code.

use std::path::Path;
use std::process::Command;
use std::{fs, str};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder of xtask has a parent")
}

/// Returns the manifests of the workspace, as cargo reports them.
fn manifests() -> Vec<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(root());
    let output = cargo.output().expect("cargo");
    let metadata = str::from_utf8(&output.stdout).expect("UTF-8");
    let paths = metadata.split(r#""manifest_path":""#).skip(1);
    paths.filter_map(|rest| rest.split_once('"')).map(|(path, _)| path.to_owned()).collect()
}

/// Returns the lines of a table of a manifest.
fn table(path: impl AsRef<Path>, name: &str) -> Vec<String> {
    let manifest = fs::read_to_string(path).expect("a manifest");
    let lines = manifest.lines().skip_while(|line| *line != format!("[{name}]")).skip(1);
    lines.take_while(|line| !line.starts_with('[')).map(str::to_owned).collect()
}

#[test]
fn no_crate_may_be_unsafe() {
    let forbids = |lines: Vec<String>| lines.iter().any(|line| line == "unsafe_code = \"forbid\"");
    assert!(forbids(table(root().join("Cargo.toml"), "workspace.lints.rust")));
    let manifests = manifests();
    assert!(manifests.len() > 10, "{manifests:?}");
    for manifest in manifests {
        let lints = table(&manifest, "lints");
        assert_eq!(lints.first().map(String::as_str), Some("workspace = true"), "{manifest}");
    }
    // A separate workspace.
    assert!(forbids(table(root().join("fuzz/Cargo.toml"), "lints.rust")));
}

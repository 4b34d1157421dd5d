//! `cargo xtask bench attacks`: measures the latency of a neighbour during each attack, and writes the table of `docs/security.md`.

use crate::{command, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

const DOCUMENT: &str = "docs/security.md";
const BEGIN: &str = "<!-- attacks: written by cargo xtask bench attacks -->\n";
const END: &str = "<!-- end of the attacks -->\n";

const HEAD: &str = "\
| attack | counted, MiB | held, MiB | neighbour, ms | beside harmless traffic, ms | 99th percentile |
| --- | --- | --- | --- | --- | --- |
";

/// The rows that compare memory alone have two figures, in sentences: `counted 1.0 MiB | held 1.2 MiB`.
const MEMORY_HEAD: &str = "\
| held by | counted | held |
| --- | --- | --- |
";

/// The processor of the attacker and the neighbour; the server is moved to processor 0 (server/tests/attacks/table.rs).
const PROCESSOR: &str = "1";

/// Runs the attacks whose tests' names contain one of the words, or all of them, which then writes the document.
pub(crate) fn attacks(words: &[&str]) -> Result<()> {
    let test = ["test", "--release", "--package", "manysocket-server", "--test", "attacks"];
    println!("Building the server and its attacks …");
    command::run(command::cargo()?.args(test).args(["--quiet", "--no-run"]))?;
    let mut cargo = command::program("taskset")?;
    cargo.args(["-c", PROCESSOR, "cargo"]).args(test).args([
        "--",
        "--nocapture",
        "--test-threads=1",
        "--include-ignored",
    ]);
    cargo.args(words).env("MANYSOCKET_TABLE", "1").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut run = cargo.spawn().context("cannot start `taskset`, a program of util-linux")?;
    let (mut rows, mut memory) = (String::new(), String::new());
    print!("{HEAD}");
    for line in BufReader::new(run.stderr.take().context("no output")?).lines() {
        let line = line.context("cannot read the attacks' output")?;
        if line.starts_with("| ") {
            println!("{line}");
            let rows = if line.contains("| counted ") { &mut memory } else { &mut rows };
            rows.push_str(&line.replace("| counted ", "| ").replace("| held ", "| "));
            rows.push('\n');
        } else if line.contains("panicked") {
            eprintln!("{line}");
        }
    }
    let status = run.wait()?;
    if !status.success() {
        bail!("an attack has failed: `cargo test --package manysocket-server --test attacks` says more");
    }
    if words.is_empty() { write(&rows, &memory) } else { Ok(()) }
}

fn write(rows: &str, memory: &str) -> Result<()> {
    let path = workspace::root()?.join(DOCUMENT);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let marks = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = marks.with_context(|| format!("{DOCUMENT} has lost the marks of the table"))?;
    fs::write(&path, format!("{before}{BEGIN}\n{HEAD}{rows}\n{MEMORY_HEAD}{memory}\n{END}{after}"))
        .with_context(|| format!("cannot write {DOCUMENT}"))
}

//! `cargo xtask test`: every check of the project, in named steps.
//!
//! A failing step does not stop the others, so one run shows every problem.

use crate::build::WASM;
use crate::setup::browser::Browser;
use crate::{build, command, failures, features, fuzz, setup, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

struct Step {
    name: &'static str,
    purpose: &'static str,
    run: fn() -> Result<()>,
}

/// The steps in the order in which they run: quick ones that fail often come first.
const STEPS: [Step; 8] = [
    Step { name: "fmt", purpose: "the layout of the Rust code", run: fmt },
    Step { name: "clippy", purpose: "lints, natively and for wasm32", run: clippy },
    Step { name: "features", purpose: "each feature of the server alone", run: features::features },
    Step { name: "native", purpose: "Rust tests and documentation examples", run: native },
    Step { name: "wasm", purpose: "Rust tests as wasm32 in headless Chromium", run: wasm },
    Step { name: "browser", purpose: "pages in Chromium and Firefox against the real server", run: browser },
    Step { name: "package", purpose: "the npm package, installed in an empty project", run: package },
    Step { name: "fuzz", purpose: "the fuzz targets with libFuzzer, some seconds each", run: fuzzing },
];

/// Flags for Chromium: no window, no requests to its vendor. As root in a container it has no sandbox.
const CHROMIUM_FLAGS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// Runs the named steps, or all when none is named.
pub(crate) fn test(wanted: &[&str]) -> Result<()> {
    if let Some(unknown) = wanted.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        bail!("there is no step `{unknown}`; the steps are: {}", names.join(" "));
    }
    let mut summary = Vec::new();
    for step in STEPS.iter().filter(|step| wanted.is_empty() || wanted.contains(&step.name)) {
        println!("\n== {}: {}", step.name, step.purpose);
        let start = Instant::now();
        let result = (step.run)();
        summary.push((step.name, result, start.elapsed().as_secs_f64()));
    }
    for (name, result, _) in &summary {
        if let Err(error) = result {
            println!("\n== {name}: {error:#}");
        }
    }
    println!();
    for (name, result, seconds) in &summary {
        println!("{name:8} {} {seconds:7.1} s", if result.is_ok() { "passed" } else { "FAILED" });
    }
    let passed = summary.iter().filter(|(_, result, _)| result.is_ok()).count();
    let failed = summary.len() - passed;
    println!("steps: {passed} passed, {failed} failed");
    if failed > 0 {
        bail!("{failed} of {} steps failed; `cargo xtask test STEP` runs one alone", summary.len());
    }
    Ok(())
}

fn fmt() -> Result<()> {
    command::run(command::cargo()?.args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    let strict = ["--", "-D", "warnings"];
    failures::run(
        command::cargo()?.args(["clippy", "--quiet", "--workspace", "--all-targets"]).args(strict),
    )?;
    let mut cargo = setup::wasm::toolchain()?.cargo()?;
    cargo.args(["clippy", "--quiet", "--package", "manysocket", "--package", "manysocket-protocol"]);
    failures::run(cargo.args(["--all-targets", "--target", WASM]).args(strict))
}

fn native() -> Result<()> {
    setup::servers::servers();
    // xtask-bindgen has no tests, and built together with the others it would compile its dependencies again
    // with other features.
    failures::run(command::cargo()?.args([
        "test",
        "--no-fail-fast",
        "--workspace",
        "--exclude",
        "xtask-bindgen",
    ]))
}

fn wasm() -> Result<()> {
    let Browser { chromium, driver } = setup::browser::browser()?;
    let toolchain = setup::wasm::toolchain()?;
    let bindgen = build::bindgen()?;
    // Rust's debug form of these strings is also valid JSON and TOML.
    let capabilities = workspace::target()?.join("webdriver.json");
    workspace::write(
        &capabilities,
        format!("{{\"goog:chromeOptions\": {{\"binary\": {chromium:?}, \"args\": {CHROMIUM_FLAGS:?}}}}}\n"),
    )?;
    let runner = format!("target.{WASM}.runner=[{bindgen:?}, \"test-runner\"]");
    let mut cargo = toolchain.cargo()?;
    cargo
        .env("CHROMEDRIVER", driver)
        .env("WASM_BINDGEN_USE_BROWSER", "1")
        .env("WASM_BINDGEN_TEST_WEBDRIVER_JSON", capabilities)
        // Seconds. The defaults of 5 and 20 are too short for a busy machine that starts its first browser.
        .env("WASM_BINDGEN_TEST_DRIVER_TIMEOUT", "60")
        .env("WASM_BINDGEN_TEST_TIMEOUT", "180")
        // The runner's backtraces show the runner only, and would fill the excerpt.
        .env("RUST_LIB_BACKTRACE", "0");
    cargo.args(["test", "--no-fail-fast", "--target", WASM, "--config", &runner]);
    failures::run(cargo.args([
        "--package",
        "manysocket",
        "--package",
        "manysocket-protocol",
        "--lib",
        "--tests",
    ]))
}

fn browser() -> Result<()> {
    setup::node::install(
        "tests/libraries",
        "the libraries that are tried over a multiplexer, and their servers",
    )?;
    command::run(command::cargo()?.args(["build", "--quiet", "--package", "example-*"]))?;
    setup::browser::webkit();
    node_tests("browser", setup::browser::firefox()?)
}

fn package() -> Result<()> {
    setup::node::install(
        "tests/package",
        "the bundlers that the package is tried with, and other Node.js versions",
    )?;
    node_tests("package", None)
}

fn fuzzing() -> Result<()> {
    fuzz::fuzz(fuzz::SHORT, &[])
}

/// Runs the tests of one folder below `tests/` with Node's test runner, against the built package and server.
fn node_tests(folder: &str, firefox: Option<PathBuf>) -> Result<()> {
    let Browser { chromium, .. } = setup::browser::browser()?;
    build::package()?;
    let files = test_files(folder)?;
    let mut node: Command = command::program("node")?;
    node.args(["--test", "--test-reporter=spec"]).args(files);
    // The flags and programs are set here, so that each is named once.
    node.env("CHROMIUM", chromium).env("CHROMIUM_FLAGS", CHROMIUM_FLAGS.join(" "));
    node.envs(firefox.map(|program| ("FIREFOX", program)));
    node.env("MANYSOCKET_EXAMPLES", workspace::target()?.join("debug"));
    node.env("MANYSOCKET_SERVER", server("manysocket-server")?);
    node.env("MANYSOCKET_TEST_SERVER", server("manysocket-test-server")?);
    failures::run(&mut node)
}

/// Builds a server with debug assertions, which tests should trigger if they can; returns the program.
fn server(name: &str) -> Result<PathBuf> {
    command::run(command::cargo()?.args([
        "build",
        "--quiet",
        "--package",
        name,
        "--bin",
        name,
        "--all-features",
    ]))?;
    workspace::built("debug", name)
}

/// Returns the files named `*.test.js`, since Node's versions treat a folder differently.
fn test_files(folder: &str) -> Result<Vec<PathBuf>> {
    let folder = workspace::root()?.join("tests").join(folder);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".test.js") {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("no file in {} is named *.test.js", folder.display());
    }
    files.sort();
    Ok(files)
}

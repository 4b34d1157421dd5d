//! `cargo xtask build`: the npm package in `pkg/`.
//!
//! cargo compiles the client to wasm, wasm-bindgen writes its JavaScript side, wasm-opt shrinks it; then the build
//! assembles the package from that, from `js/` and from `pkg-template/`. It skips steps whose inputs have not changed.

use crate::setup::{self, wasm::Toolchain};
use crate::{command, inline, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The target of everything that runs in a browser.
pub(crate) const WASM: &str = "wasm32-unknown-unknown";

/// The entries of the package, as files of `js/`.
const ENTRIES: [&str; 6] = ["index.js", "manual.js", "rpc.js", "state.js", "topic.js", "devtools.js"];

/// The script of the shared worker, likewise.
const SHARED_WORKER: &str = "shared-worker.js";

/// The entry for unit tests, likewise.
const MOCK: &str = "mock.js";

/// The name that wasm-bindgen gives the wasm.
const WASM_FILE: &str = "manysocket_bg.wasm";

/// Builds `pkg/` and prints its sizes.
pub(crate) fn build() -> Result<()> {
    package()?;
    command::run(command::program("node")?.args(["xtask/sizes.mjs", "pkg"]))
}

/// Builds `pkg/`.
pub(crate) fn package() -> Result<()> {
    let node_modules = setup::node::packages()?;
    let toolchain = setup::wasm::toolchain()?;
    let bindings = bindings(&compile(&toolchain)?, &node_modules)?;
    assemble(&bindings, &node_modules)
}

/// Compiles the client; returns the path of the wasm.
fn compile(toolchain: &Toolchain) -> Result<PathBuf> {
    println!("Building the client …");
    // `cargo build` would make the rlib too, and then omit link-time optimisation silently.
    let mut cargo = toolchain.cargo()?;
    cargo.args([
        "rustc",
        "--quiet",
        "--release",
        "--package",
        "manysocket",
        "--lib",
        "--crate-type",
        "cdylib",
    ]);
    cargo.args(["--target", WASM]);
    // Half the size for twenty seconds. Not in the profile: the server gains little by it, and would take minutes.
    cargo.env("CARGO_PROFILE_RELEASE_LTO", "fat").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1");
    // 0.6 KB of brotli less than level 2, 1 KB less than level 3. WebAssembly is 3 % of a page's time under load.
    command::run(cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s"))?;
    Ok(workspace::target()?.join(WASM).join("release/manysocket.wasm"))
}

/// Runs wasm-bindgen and wasm-opt if the wasm is newer than their output; returns the folder of the result.
fn bindings(wasm: &Path, node_modules: &Path) -> Result<PathBuf> {
    let folder = workspace::target()?.join("bindings");
    let stamp = folder.join("done");
    // This program is among the sources because it holds the options below.
    if workspace::is_newer(&stamp, &[wasm, &std::env::current_exe()?, &node_modules.join(setup::node::STAMP)])
    {
        return Ok(folder.join("out"));
    }
    let bindgen = bindgen()?;
    workspace::empty(&folder)?;
    let out = folder.join("out");
    command::run(
        command::program(bindgen)?
            .args(["bindgen", "--target", "web", "--omit-default-module-path"])
            // A page needs neither names nor producers. The symbols must stay until here: the compiler notes the
            // features that it used beside them, and wasm-bindgen and wasm-opt read that note.
            .args(["--remove-name-section", "--remove-producers-section"])
            .arg("--out-dir")
            .arg(&out)
            .arg(wasm),
    )?;
    let optimised = out.join(WASM_FILE);
    command::run(
        command::program("node")?
            .arg(node_modules.join("binaryen/bin/wasm-opt"))
            // The levels that aim at size gain nothing here: all are within one per cent of this one. Only tools
            // need the list of features.
            .args(["-O3", "--converge", "--strip-target-features"])
            .arg(&optimised)
            .arg("--output")
            .arg(&optimised),
    )?;
    workspace::write(&stamp, "")?;
    Ok(out)
}

/// Builds wasm-bindgen and its test runner; returns the program. Cargo's check that nothing changed is quick.
pub(crate) fn bindgen() -> Result<PathBuf> {
    let lock = workspace::read(&workspace::root()?.join("Cargo.lock"))?;
    let (library, tool) = (locked(&lock, "wasm-bindgen")?, locked(&lock, "wasm-bindgen-cli")?);
    if library != tool {
        bail!(
            "Cargo.lock has wasm-bindgen {library} but wasm-bindgen-cli {tool}, and the two must be equal: \
             run `cargo update wasm-bindgen --precise {tool}`"
        );
    }
    let program = workspace::built("debug", "xtask-bindgen")?;
    if !program.exists() {
        println!("Building wasm-bindgen {tool} (once, about a minute) …");
    }
    command::run(command::cargo()?.args(["build", "--quiet", "--package", "xtask-bindgen"]))?;
    Ok(program)
}

/// The version of a crate in Cargo.lock.
fn locked<'a>(lock: &'a str, name: &str) -> Result<&'a str> {
    lock.split_once(&format!("name = \"{name}\"\nversion = \""))
        .and_then(|(_, rest)| rest.split('"').next())
        .with_context(|| format!("Cargo.lock names no crate `{name}`"))
}

/// The code that starts the wasm, in place of wasm-bindgen's: the package calls it in one way only.
const START: &str = "
let wasm;
export function initSync({ module }) {
  wasm = new WebAssembly.Instance(module, __wbg_get_imports()).exports;
  wasm.__wbindgen_start();
}
";

/// The JavaScript that wasm-bindgen wrote, with its imports of `./snippets/CRATE/js/NAME.js` as imports of `./NAME.js`, and
/// [`START`] at its end. It imports each file several times, and names it by several keys; all but the first are left out.
/// The classes are left out, too: the entries export them, and the shared worker has no use for them.
fn without_snippets(text: &str) -> Result<String> {
    const END: &str = "\nlet wasmModule, wasmInstance, wasm;\n";
    let (text, _) = text.split_once(END).context("manysocket.js does not end as wasm-bindgen's files did")?;
    let mut seen = std::collections::HashSet::new();
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with("import {") || line.starts_with("export {") {
            continue;
        }
        let path = line.split('"').nth(1).filter(|path| path.starts_with("./snippets/"));
        let is_import = line.starts_with("import ");
        if path.is_some_and(|path| !seen.insert((is_import, path))) {
            continue;
        }
        let path = line.split(['"', '\'']).find(|part| part.starts_with("./snippets/"));
        match path.and_then(|path| Some((path, path.split_once("/js/")?.1))) {
            Some((path, name)) if is_import => out.push_str(&line.replace(path, &format!("./{name}"))),
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out.push_str(START);
    Ok(out)
}

/// Assembles `pkg/`: bundles the JavaScript, once for all entries, and adds the files that ship unchanged.
fn assemble(bindings: &Path, node_modules: &Path) -> Result<()> {
    let root = workspace::root()?;
    let sources = workspace::target()?.join("bundle");
    workspace::empty(&sources)?;
    workspace::copy_contents(bindings, &sources)?;
    workspace::copy_contents(&root.join("js"), &sources)?;
    // The files of `js/` that the wasm imports come with the bindings, too. There must be one copy of them: that of `js/`.
    let module = sources.join("manysocket.js");
    let text = workspace::read(&module)?;
    workspace::write(&module, without_snippets(&text)?)?;
    // The default entry contains its wasm, so that the import is ready with no request and no promise.
    let wasm = bindings.join(WASM_FILE);
    let bytes = fs::read(&wasm).with_context(|| format!("cannot read {}", wasm.display()))?;
    workspace::write(
        &sources.join("manysocket_inline.js"),
        format!("export default \"{}\";\n", inline::text(&bytes)),
    )?;

    let package = root.join("pkg");
    workspace::empty(&package)?;
    // A page without a bundler gets few files, and small ones. Code that entries share goes into a separate file:
    // there must be one copy of the package's state, whichever entries a page imports.
    let bundle = |format: &[&str]| -> Result<()> {
        let mut esbuild = command::program(node_modules.join(".bin/esbuild"))?;
        esbuild.args(["--bundle", "--minify", "--sourcemap", "--target=es2022", "--log-level=warning"]);
        esbuild.args(format).arg(concat!("--define:VERSION=\"", env!("CARGO_PKG_VERSION"), "\""));
        command::run(esbuild.arg(format!("--outdir={}", package.display())).current_dir(&sources))
    };
    bundle(&[&ENTRIES[..], &["--splitting", "--format=esm", "--chunk-names=shared-[hash]"]].concat())?;
    // The worker is a single script, since bundlers copy the one file that its URL names.
    bundle(&[SHARED_WORKER, "--format=esm"])?;
    // It has separate copies of the faces, so that a page's entries are not cut into more files for it. The files that it loads
    // on first use are the package's entries.
    bundle(&[MOCK, "--format=esm", "--external:./rpc.js", "--external:./state.js", "--external:./topic.js"])?;

    workspace::copy(&wasm, &package.join(WASM_FILE))?;
    workspace::copy_contents(&root.join("pkg-template"), &package)?;
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        workspace::copy(&root.join(licence), &package.join(licence))?;
    }
    let manifest = package.join("package.json");
    let text = workspace::read(&manifest)?.replace("{{version}}", env!("CARGO_PKG_VERSION"));
    workspace::write(&manifest, text)?;
    command::run(command::program("node")?.args(["xtask/sizes.mjs", "pkg", "--readme"]))
}

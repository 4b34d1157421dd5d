//! `cargo xtask build`: the npm package in `pkg/`.
//!
//! cargo compiles the client to wasm, wasm-bindgen writes its JavaScript side, wasm-opt shrinks it; then the build
//! assembles the package from that, from `js/` and from `pkg-template/`. It skips steps whose inputs have not changed.

use crate::setup::{self, wasm::Toolchain};
use crate::{command, inline, wasm, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The target of everything that runs in a browser.
pub(crate) const WASM: &str = "wasm32-unknown-unknown";

/// The entries of the package, as files of `js/`.
const ENTRIES: [&str; 6] = ["index.js", "manual.js", "rpc.js", "state.js", "topic.js", "devtools.js"];

/// The script of the shared worker, likewise.
const SHARED_WORKER: &str = "shared-worker.js";

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
  wasm = new WebAssembly.Instance(module, imports()).exports;
  wasm.__wbindgen_start();
}
";

/// Returns the JavaScript that starts the wasm, made of what wasm-bindgen wrote in `text`: it has functions of its own there, and the
/// other imports are those of files of `js/`. The functions that wasm-bindgen writes around exports are left out, since the package
/// calls the exports themselves.
fn with_imports(text: &str, imports: &[wasm::Import]) -> Result<String> {
    const OWN: &str = "    const import0 = {\n";
    let (_, own) = text.split_once(OWN).context("manysocket.js has no imports as wasm-bindgen wrote them")?;
    let (own, _) = own.split_once("\n    };\n").context("manysocket.js does not end its own imports")?;
    let mut own = own.to_owned();
    let (mut out, mut names) = (String::new(), Vec::new());
    for (number, wasm::Import { module, name }) in imports.iter().enumerate() {
        if let Some((_, file)) = module.split_once("/js/") {
            out.push_str(&format!("import {{ {name} as import{number} }} from \"./{file}\";\n"));
            names.push(format!("import{number}"));
        } else {
            own = own.replace(&format!("{name}: "), &format!("import{number}: "));
            names.push(format!("own.import{number}"));
        }
    }
    out.push_str(&format!(
        "function imports() {{\n  const own = {{\n{own}\n  }};\n  return {{ \"\": [{}] }};\n}}\n",
        names.join(", ")
    ));
    out.push_str(START);
    Ok(out)
}

/// Writes the JavaScript that starts a wasm, and the wasm as text; returns its bytes.
fn write_client(bindings: &Path, folder: &Path) -> Result<Vec<u8>> {
    let wasm = bindings.join(WASM_FILE);
    let bytes = fs::read(&wasm).with_context(|| format!("cannot read {}", wasm.display()))?;
    let (bytes, imports) = wasm::shrink(&bytes)?;
    let text = workspace::read(&bindings.join("manysocket.js"))?;
    workspace::write(&folder.join("manysocket.js"), with_imports(&text, &imports)?)?;
    let literal = inline::literal(&bytes)?;
    workspace::write(&folder.join("manysocket_inline.js"), format!("export default {literal};\n"))?;
    Ok(bytes)
}

/// Assembles `pkg/`: bundles the JavaScript, once for all entries, and adds the files that ship unchanged.
fn assemble(bindings: &Path, node_modules: &Path) -> Result<()> {
    let root = workspace::root()?;
    let sources = workspace::target()?.join("bundle");
    workspace::empty(&sources)?;
    workspace::copy_contents(&root.join("js"), &sources)?;
    // Pages without a bundler make no request for a few lines: the entries that take no part in links have a copy of them.
    workspace::copy(&sources.join("timers.js"), &sources.join("rpc/timers.js"))?;
    for (name, from, to) in [
        ("reconnecting.js", "./timers.js", "./rpc/timers.js"),
        ("rpc/connection.js", "../timers.js", "./timers.js"),
    ] {
        let file = sources.join(name);
        workspace::write(&file, workspace::read(&file)?.replace(from, to))?;
    }
    // The default entry contains its wasm, so that the import is ready with no request and no promise.
    let bytes = write_client(bindings, &sources)?;

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

    let file = package.join(WASM_FILE);
    fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
    workspace::copy_contents(&root.join("pkg-template"), &package)?;
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        workspace::copy(&root.join(licence), &package.join(licence))?;
    }
    let manifest = package.join("package.json");
    let text = workspace::read(&manifest)?.replace("{{version}}", env!("CARGO_PKG_VERSION"));
    workspace::write(&manifest, text)?;
    command::run(command::program("node")?.args(["xtask/sizes.mjs", "pkg", "--readme"]))
}

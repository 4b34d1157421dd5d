//! Makes the fallback toolchain for wasm32: Debian's compiler, with a standard library that this module compiles from
//! Debian's sources. rustup links it under a name, so that plain `cargo build` works with it.

use super::debian;
use crate::build::WASM;
use crate::{command, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Its name in rustup.
pub(super) const NAME: &str = "manysocket-wasm32";

/// Debian's Rust for packages that need a recent one, such as browsers, beside the release's older one.
const PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"];

/// The name of the empty crate that depends on the library while it compiles.
const EMPTY_CRATE: &str = "empty";

/// Returns whether the toolchain exists and still works.
pub(super) fn exists() -> Result<bool> {
    let mut rustc = command::program("rustup")?;
    Ok(command::answer(rustc.args(["run", NAME, "rustc", "--version"])).is_some())
}

/// Makes the toolchain and links it in rustup.
pub(super) fn make() -> Result<()> {
    debian::install(&PACKAGES, "a Rust compiler and its library's sources, to compile for wasm32")?;
    println!("Compiling Rust's standard library for {WASM} …");
    let library = compile_library()?;
    let folder = assemble(&library)?;
    command::run_quietly(command::program("rustup")?.args(["toolchain", "link", NAME]).arg(&folder))
}

/// Compiles the standard library, as a dependency of an empty crate; returns the folder with its `.rlib` files.
fn compile_library() -> Result<PathBuf> {
    let crate_folder = workspace::target()?.join("wasm32-library");
    workspace::empty(&crate_folder.join("src"))?;
    workspace::write(&crate_folder.join("src/lib.rs"), "")?;
    let manifest = format!(
        "[package]\nname = \"{EMPTY_CRATE}\"\nedition = \"2024\"\n\n[workspace]\n\n[profile.release]\ncodegen-units = 1\n"
    );
    workspace::write(&crate_folder.join("Cargo.toml"), manifest)?;

    // Debian's programs, not rustup's proxies, which would choose a toolchain.
    let mut cargo = command::cargo_at("/usr/bin/cargo")?;
    cargo
        .current_dir(&crate_folder)
        .env("RUSTC", "/usr/bin/rustc")
        // This variable enables the unstable feature that builds the library.
        .env("RUSTC_BOOTSTRAP", "1")
        // The release's link-time optimisation needs bitcode in the library.
        .env("RUSTFLAGS", "-Cembed-bitcode=yes")
        .env("CARGO_TARGET_DIR", crate_folder.join("target"))
        .args(["build", "--release", "--target", WASM])
        .arg("-Zbuild-std=std,panic_abort,panic_unwind,proc_macro,test");
    command::run_quietly(&mut cargo)?;
    Ok(crate_folder.join("target").join(WASM).join("release/deps"))
}

/// Lays out the folder of the toolchain.
fn assemble(library: &Path) -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set, and the toolchain would live below it")?;
    let folder = Path::new(&home).join(".local/share").join(NAME);
    workspace::empty(&folder)?;
    let bin = folder.join("bin");
    fs::create_dir_all(&bin)?;
    link(Path::new("/usr/bin/cargo"), &bin.join("cargo"))?;
    let quoted = folder.display();
    // Debian's compiler uses /usr as its root wherever it is called from; these scripts set another.
    for program in ["rustc", "rustdoc"] {
        let text = format!(
            "#!/bin/sh\ncase \" $* \" in *\" --sysroot\"*) exec /usr/bin/{program} \"$@\" ;; esac\n\
             exec /usr/bin/{program} --sysroot \"{quoted}\" \"$@\"\n"
        );
        script(&bin.join(program), &text)?;
    }
    for program in ["cargo-clippy", "clippy-driver"] {
        script(
            &bin.join(program),
            &format!("#!/bin/sh\nSYSROOT=\"{quoted}\" exec /usr/bin/{program} \"$@\"\n"),
        )?;
    }

    let host = host()?;
    let host_folder = folder.join("lib/rustlib").join(&host);
    fs::create_dir_all(host_folder.join("bin"))?;
    link(&Path::new("/usr/lib/rustlib").join(&host).join("lib"), &host_folder.join("lib"))?;
    link(&linker(&host)?, &host_folder.join("bin/rust-lld"))?;

    let target = folder.join("lib/rustlib").join(WASM).join("lib");
    fs::create_dir_all(&target)?;
    for entry in fs::read_dir(library)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".rlib") && !name.starts_with(&format!("lib{EMPTY_CRATE}-")) {
            workspace::copy(&path, &target.join(name))?;
        }
    }
    Ok(folder)
}

/// Returns the triple that Debian's compiler runs on.
fn host() -> Result<String> {
    let answer = command::answer(command::program("/usr/bin/rustc")?.arg("-vV"));
    answer
        .as_deref()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("host: ")))
        .map(str::to_owned)
        .context("/usr/bin/rustc does not print its host")
}

/// Returns the linker for wasm: that of the toolchain in use, or Debian's newest.
fn linker(host: &str) -> Result<PathBuf> {
    let own = command::answer(command::program("rustc")?.args(["--print", "sysroot"]))
        .map(|sysroot| Path::new(&sysroot).join("lib/rustlib").join(host).join("bin/rust-lld"));
    let debian = (14..40).rev().map(|version| PathBuf::from(format!("/usr/bin/lld-{version}")));
    own.into_iter()
        .chain(debian)
        .find(|path| path.is_file())
        .context("there is no lld: run `apt-get install lld`")
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) -> Result<()> {
    std::os::unix::fs::symlink(to, at).with_context(|| format!("cannot make the link {}", at.display()))
}

#[cfg(unix)]
fn script(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    workspace::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

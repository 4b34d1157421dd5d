//! Finds or installs the browsers of the tests: Chromium with its WebDriver, Firefox, which needs none, and WebKitGTK.

use super::debian;
use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

/// The programs of the browser and its driver.
pub(crate) struct Browser {
    pub(crate) chromium: PathBuf,
    pub(crate) driver: PathBuf,
}

/// Finds both by the variables CHROMIUM and CHROMEDRIVER, or on PATH; installs them where possible.
pub(crate) fn browser() -> Result<Browser> {
    if let Some(browser) = find()? {
        return Ok(browser);
    }
    debian::install(&["chromium", "chromium-driver"], "the browser that runs the tests, and its driver").context(
        "Chromium or its driver is missing: install both, or name their programs in the variables CHROMIUM and \
         CHROMEDRIVER",
    )?;
    find()?.context("Chromium and its driver were installed, but are not on PATH")
}

/// Finds Firefox by the variable FIREFOX, or on PATH; installs it where possible. Without it, prints one line, and its
/// tests are skipped.
pub(crate) fn firefox() -> Result<Option<PathBuf>> {
    let find = || named("FIREFOX", &["firefox-esr", "firefox"]);
    if let Some(program) = find()? {
        return Ok(Some(program));
    }
    if let Err(error) = debian::install(&["firefox-esr"], "the second browser that runs the tests") {
        println!(
            "Firefox is missing, its tests are skipped: {error:#}, or name its program in the variable FIREFOX"
        );
    }
    find()
}

/// Installs WebKitGTK with its WebDriver, and a screen for it, where possible. Without them, prints one line, and its tests
/// are skipped: `tests/harness/webkit.js` finds the programs.
pub(crate) fn webkit() {
    if workspace::on_path("WebKitWebDriver").is_some() && workspace::on_path("Xvfb").is_some() {
        return;
    }
    if let Err(error) =
        debian::install(&["webkit2gtk-driver", "xvfb"], "the third browser that runs the tests")
    {
        println!("WebKitGTK is missing, its tests are skipped: {error:#}");
    }
}

fn find() -> Result<Option<Browser>> {
    let chromium = named("CHROMIUM", &["chromium", "chromium-browser", "google-chrome"])?;
    let driver = named("CHROMEDRIVER", &["chromedriver"])?;
    Ok(chromium.zip(driver).map(|(chromium, driver)| Browser { chromium, driver }))
}

/// Returns the program that a variable names, or the first of the given ones on PATH.
fn named(variable: &str, programs: &[&str]) -> Result<Option<PathBuf>> {
    let Some(path) = std::env::var_os(variable).map(PathBuf::from) else {
        return Ok(programs.iter().find_map(workspace::on_path));
    };
    ensure!(path.is_file(), "the variable {variable} names {}, where there is no file", path.display());
    Ok(Some(path))
}

//! Chromium and its WebDriver, for the tests.

use super::debian;
use crate::workspace;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Where the browser and its driver are.
pub(crate) struct Browser {
    pub(crate) chromium: PathBuf,
    pub(crate) driver: PathBuf,
}

/// Finds both, by the variables CHROMIUM and CHROMEDRIVER or else on PATH; installs them where that is possible.
pub(crate) fn browser() -> Result<Browser> {
    if let Some(browser) = find() {
        return Ok(browser);
    }
    debian::install(&["chromium", "chromium-driver"], "the browser that runs the tests, and its driver")
        .and_then(|()| find().context("they were installed, but are not on PATH"))
        .context(
            "Chromium or its driver is missing: install both, or name their programs in the variables CHROMIUM and \
             CHROMEDRIVER",
        )
}

fn find() -> Option<Browser> {
    let chromium = named("CHROMIUM", &["chromium", "chromium-browser", "google-chrome"])?;
    let driver = named("CHROMEDRIVER", &["chromedriver"])?;
    Some(Browser { chromium, driver })
}

fn named(variable: &str, programs: &[&str]) -> Option<PathBuf> {
    match std::env::var_os(variable) {
        Some(path) => Some(PathBuf::from(path)).filter(|path| path.is_file()),
        None => programs.iter().find_map(workspace::on_path),
    }
}

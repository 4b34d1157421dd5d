//! Finds or installs the C++ compiler that builds libFuzzer.

use super::debian;
use crate::workspace;

/// Returns whether there is one. Installs it where possible; otherwise prints which tests do not run.
pub(crate) fn compiler() -> bool {
    if workspace::on_path("c++").is_some() {
        return true;
    }
    let installed = debian::install(&["g++"], "what libFuzzer is built with");
    if let Err(error) = &installed {
        println!("c++ is missing, the fuzz targets are not run: {error:#}");
    }
    installed.is_ok()
}

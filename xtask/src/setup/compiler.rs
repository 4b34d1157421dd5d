//! The C++ compiler that libFuzzer is built with.

use super::debian;
use crate::workspace;

/// Whether there is one. It is installed where that is possible; else a line says what is not run.
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

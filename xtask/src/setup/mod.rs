//! Set-up: installs everything that the commands need beside cargo. Each part does nothing if its program is there;
//! it prints one line before it installs, and one line if it cannot.

pub(crate) mod browser;
pub(crate) mod compiler;
mod debian;
pub(crate) mod node;
pub(crate) mod servers;
pub(crate) mod wasm;
mod wasm_debian;

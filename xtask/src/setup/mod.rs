//! Set-up: everything that the commands need beside cargo. Each part looks first, does nothing when all is there,
//! says in one line what it does when it must, and in one line what is missing when it cannot.

pub(crate) mod browser;
pub(crate) mod compiler;
mod debian;
pub(crate) mod node;
pub(crate) mod servers;
pub(crate) mod wasm;
mod wasm_debian;

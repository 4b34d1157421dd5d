//! Any number of WebSockets over one connection: the client.
//!
//! For Rust programs, this crate has the client in `native`. Compiled to WebAssembly, it is the core of the npm package: see
//! `page`.

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod page;

#[cfg(not(target_arch = "wasm32"))]
pub use native::*;
#[cfg(target_arch = "wasm32")]
pub use page::*;

/// The code of the documentation.
#[cfg(all(doctest, not(target_arch = "wasm32")))]
mod documentation {
    #[doc = include_str!("../docs/rust-client.md")]
    mod rust_client {}
}

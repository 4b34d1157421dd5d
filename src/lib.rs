//! The wasm client.

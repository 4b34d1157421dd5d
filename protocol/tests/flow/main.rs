//! Credit, fairness and order, seen from outside.

mod limits;
mod order;
mod start;
#[path = "../support/mod.rs"]
mod support;
mod windows;

#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

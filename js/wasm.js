// Compiles and starts the wasm.
import { core, failed } from "./core.js";
import { initSync } from "./manysocket.js";

/** Compiles and starts the wasm, once. @param {BufferSource | WebAssembly.Module} module */
export function initialise(module) {
  if (core === null) initSync({ module });
}

/** The same, but its user gets the error of a failure, and not the importer of this module. @param {BufferSource} module */
export function tryToInitialise(module) {
  try {
    initialise(module);
  } catch (error) {
    failed(error);
  }
}

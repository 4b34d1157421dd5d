// Compiles and starts the wasm.
import { core } from "./core.js";
import { initSync } from "./manysocket.js";

/** Why the wasm did not start, if that was tried. */
export let failure;

/** Compiles and starts the wasm, once. @param {BufferSource | WebAssembly.Module} module */
export function initialise(module) {
  if (core === null) initSync({ module });
}

/** The same, but who needs it is told of a failure, not who imports this. @param {BufferSource} module */
export function tryToInitialise(module) {
  try {
    initialise(module);
  } catch (error) {
    failure = error;
  }
}

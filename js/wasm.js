// Compiles and starts the wasm.
import { begins, core, failed, onTrap } from "./core.js";
import { initSync } from "./manysocket.js";

let compiled;

/** Compiles and starts the wasm, once. @param {BufferSource | WebAssembly.Module} module */
export function initialise(module) {
  if (core !== null) return;
  compiled = module instanceof WebAssembly.Module ? module : new WebAssembly.Module(module);
  initSync({ module: compiled });
}

/** Replaces an instance that has trapped by a fresh one. */
onTrap.push(() => {
  try {
    initSync({ module: compiled });
  } catch (error) {
    failed(error);
  }
});

/** The same, but its user gets the error of a failure, and not the importer of this module. @param {BufferSource} module */
export function tryToInitialise(module) {
  try {
    initialise(module);
  } catch (error) {
    failed(error);
    // Chromium before 114 compiles no more than 4 KB at once on the thread of a page.
    if (error instanceof RangeError) begins(WebAssembly.compile(module).then(initialise).catch(failed));
  }
}

// The one wasm instance of this copy of the package, and views of its memory.
import { initSync } from "./manysocket.js";

/**
 * What the wasm exports: functions of numbers (src/lib.rs), called as they are. The functions that wasm-bindgen writes
 * around them would turn numbers into numbers.
 */
export let core = null;
let words = null;
let bytes = null;

/** Why the wasm did not start, if that was tried. */
export let failure;

/** Compiles and starts the wasm, once. @param {BufferSource | WebAssembly.Module} module */
export function initialise(module) {
  core ??= initSync({ module });
}

/** The same, but who needs it is told of a failure, not who imports this. @param {BufferSource} module */
export function tryToInitialise(module) {
  try {
    initialise(module);
  } catch (error) {
    failure = error;
  }
}

/** The memory as 32-bit words. Renewed when it has grown; never handed to the page. */
export function memoryWords() {
  if (words === null || words.buffer !== core.memory.buffer) words = new Uint32Array(core.memory.buffer);
  return words;
}

/** The memory as bytes, likewise. */
export function memoryBytes() {
  if (bytes === null || bytes.buffer !== core.memory.buffer) bytes = new Uint8Array(core.memory.buffer);
  return bytes;
}

// The one wasm instance of this copy of the package, and its memory.

/**
 * The exports of the wasm (src/page/exports.rs): functions of numbers and objects, called as they are. The functions that wasm-bindgen
 * writes around them would turn numbers into numbers.
 */
export let core = null;
let bytes = null;

/** Called by the wasm when it starts. */
export function begin(exports) {
  core = exports;
}

/** The memory as bytes. Renewed when it has grown; never handed to the page. */
export function memoryBytes() {
  if (bytes === null || bytes.buffer !== core.memory.buffer) bytes = new Uint8Array(core.memory.buffer);
  return bytes;
}

/** Why the wasm did not start, if that was tried. */
export let failure;

/** Notes that the wasm did not start. */
export function failed(error) {
  failure = error;
}

// The one wasm instance of this copy of the package, and views of its memory.
import { initSync } from "./manysocket.js";

let memory = null;
let words = null;
let bytes = null;

/** Compiles and starts the wasm, once. @param {BufferSource | WebAssembly.Module} module */
export function initialise(module) {
  if (memory === null) memory = initSync({ module }).memory;
}

/** The memory as 32-bit words. Renewed when it has grown; never handed to the page. */
export function memoryWords() {
  if (words === null || words.buffer !== memory.buffer) words = new Uint32Array(memory.buffer);
  return words;
}

/** The memory as bytes, likewise. */
export function memoryBytes() {
  if (bytes === null || bytes.buffer !== memory.buffer) bytes = new Uint8Array(memory.buffer);
  return bytes;
}

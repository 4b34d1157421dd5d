// The one wasm instance of this copy of the package, and its memory.

/**
 * The exports of the wasm (src/page/exports.rs): functions of numbers and objects. The functions that wasm-bindgen writes around them
 * would turn numbers into numbers.
 */
export let core = null;
let bytes = null;

/** Called after the wasm has trapped. Its state is inconsistent, so no call may use this instance again. */
export const onTrap = [];

/** Called by the wasm when it starts. */
export function begin(exports) {
  const guarded = {};
  for (const [name, value] of Object.entries(exports)) {
    // As many arguments as `open` has, which has most: a rest parameter would make an array at each call.
    guarded[name] = typeof value !== "function" ? value : (a, b, c, d, e, f, g, h) => {
      try {
        return value(a, b, c, d, e, f, g, h);
      } catch (error) {
        // Not of an instance that has been given up, and whose frames are still being left.
        if (core === guarded) onTrap.forEach((act) => act(error));
        return 0;
      }
    };
  }
  core = guarded;
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
  core = null;
  failure = error;
}

/** Settles when the wasm has started or has failed, where that takes time; else null. */
export let starting = null;

/** Notes that the wasm is being started. */
export function begins(promise) {
  starting = promise;
}

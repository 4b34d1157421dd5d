export * from "./index.js";

/**
 * Starts the package's WebAssembly. Call it once, before the first `MultiWebSocket`.
 *
 * @param module the bytes of `manysocket/manysocket_bg.wasm`, or the module compiled from them
 */
export function initialise(module: BufferSource | WebAssembly.Module): void;

// The entry "manysocket/manual": the caller supplies the wasm, as bytes or as a compiled module.
export { initialise } from "./wasm.js";
export { MultiWebSocket } from "./multiwebsocket.js";
export { JsonWebSocket } from "./json.js";
export { RelativeWebSocket } from "./relative.js";

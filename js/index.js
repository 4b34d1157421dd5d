// The entry "manysocket": ready on import. The wasm is inlined and compiled at once, so that neither an
// init call nor a loader is needed; a page without `wasm-unsafe-eval` in its CSP cannot compile any wasm.
import wasm from "./manysocket_inline.js";
import { toBytes } from "./inline.js";
import { initialise } from "./wasm.js";

initialise(toBytes(wasm));

export { MultiWebSocket } from "./multiwebsocket.js";
export { JsonWebSocket } from "./json.js";
export { RelativeWebSocket } from "./relative.js";

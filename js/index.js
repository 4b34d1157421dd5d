// The entry "manysocket": ready on import. The wasm is inlined and compiled at once, so that neither an
// init call nor a loader is needed. A page without `wasm-unsafe-eval` in its CSP cannot compile any: it can import this all the same.
import wasm from "./manysocket_inline.js";
import { toBytes } from "./inline.js";
import { tryToInitialise } from "./wasm.js";

tryToInitialise(toBytes(wasm));

export { MultiWebSocket } from "./multiwebsocket.js";
export { JsonWebSocket } from "./json.js";
export { RelativeWebSocket } from "./relative.js";

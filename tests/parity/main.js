// Runs the suite in this realm; the results go to whoever asked. The fragment of its URL may say, as a query does:
// `native` and `virtual`, the hosts that sockets connect to; `multiplexer`, a path; `fallback`.
import { MultiWebSocket } from "/pkg/index.js";
import { compare } from "./run.js";

const wish = new URLSearchParams(globalThis.location.hash.slice(1));
const M = new MultiWebSocket(wish.get("multiplexer") ?? "/multiplexer", { fallback: wish.has("fallback") });
const results = compare(M.WebSocket, wish.get("native") ?? undefined, wish.get("virtual") ?? undefined);
if (typeof document === "undefined") postMessage(await results);

export default results;

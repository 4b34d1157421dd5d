// Runs the suite in this realm; the results go to whoever asked.
import { MultiWebSocket } from "/pkg/index.js";
import { compare } from "./run.js";

// The page may name another host for native sockets: the upstream of a gateway.
const host = globalThis.location.hash.slice(1) || undefined;
const results = compare(new MultiWebSocket("/multiplexer").WebSocket, host);
if (typeof document === "undefined") postMessage(await results);

export default results;

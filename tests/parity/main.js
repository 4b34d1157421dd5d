// Runs the suite in this realm; the results go to whoever asked. The fragment of the realm's URL may name, as a query does, the hosts
// that sockets connect to: `native` and `virtual`.
import { MultiWebSocket } from "/pkg/index.js";
import { compare } from "./run.js";

const wish = new URLSearchParams(globalThis.location.hash.slice(1));
const M = new MultiWebSocket("/multiplexer");
const results = compare(M.WebSocket, wish.get("native") ?? undefined, wish.get("virtual") ?? undefined);
if ("onconnect" in globalThis) onconnect = async ({ ports: [port] }) => port.postMessage(await results);
else if (!("document" in globalThis)) results.then(postMessage);

export default results;

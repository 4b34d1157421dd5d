// Runs the suite in this realm; the results go to whoever asked.
import { MultiWebSocket } from "/pkg/index.js";
import { compare } from "./run.js";

const results = compare(new MultiWebSocket("/multiplexer").WebSocket);
if (typeof document === "undefined") postMessage(await results);

export default results;

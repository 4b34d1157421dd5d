// The job in Node.js: `node.js HOST [WS]`, where WS is the URL of the package `ws`, for versions with no WebSocket of their own.
import { argv } from "node:process";
import * as manysocket from "manysocket";
import { job } from "./job.js";

const [host, ws] = argv.slice(2);
// A server requires the page's origin, which a program does not send on its own.
const headers = { Origin: `http://${host}` };
if (ws === undefined) {
  const { WebSocket } = globalThis;
  globalThis.WebSocket = class extends WebSocket { constructor(url, protocols) { super(url, { protocols: [protocols].flat(), headers }); } };
} else {
  const { WebSocket } = await import(ws);
  globalThis.WebSocket = class extends WebSocket { constructor(url, protocols) { super(url, protocols, { headers }); } };
}
globalThis.location = { host };
console.log(JSON.stringify(await job(manysocket)));
process.exit();

// Runs the suite in this realm; the results go to the caller. The fragment of the realm's URL may name, as a query does, the hosts
// that sockets connect to, `native` and `virtual`, and the `class` that is compared with the native one; `shared`
// makes it one over the shared worker, and `http` one over HTTP. `except` leaves a topic out.
import { JsonWebSocket, MultiWebSocket, RelativeWebSocket } from "/pkg/index.js";
import { compare } from "./run.js";

const wish = new URLSearchParams(globalThis.location.hash.slice(1));
const M = new MultiWebSocket("/multiplexer", { shared: wish.has("shared"), ...(wish.has("http") && { carriers: ["http"] }) });

// Sockets of RelativeWebSocket are instances of the class below it; a JsonWebSocket sends and receives other things.
const [other, ...except] = {
  "M.WebSocket": [M.WebSocket],
  RelativeWebSocket: [RelativeWebSocket, "identity"],
  "M.RelativeWebSocket": [M.RelativeWebSocket, "identity"],
  JsonWebSocket: [JsonWebSocket, "identity", "sending", "receiving"],
  "M.JsonWebSocket": [M.JsonWebSocket, "identity", "sending", "receiving"],
}[wish.get("class") ?? "M.WebSocket"];
except.push(...wish.getAll("except"));

const results = compare(other, {
  nativeHost: wish.get("native") ?? undefined,
  otherHost: wish.get("virtual") ?? undefined,
  except,
});
if ("onconnect" in globalThis) onconnect = async ({ ports: [port] }) => port.postMessage(await results);
else if (!("document" in globalThis)) results.then(postMessage);

export default results;

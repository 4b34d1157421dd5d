// What must compile against the package's types, and what must not.
import { MultiWebSocket, type MultiWebSocketOptions } from "manysocket";
import { initialise, MultiWebSocket as Manual } from "manysocket/manual";

const options: MultiWebSocketOptions = { idleTimeout: 1000, jail: "/", fallback: true };
const M = new MultiWebSocket("/multiplexer", options);
const withoutNew: MultiWebSocket = MultiWebSocket(new URL("ws://example.com/multiplexer"));
const manual: typeof MultiWebSocket = Manual;
initialise(new Uint8Array());

// Wherever the native class goes, this one goes.
const Class: typeof WebSocket = M.WebSocket;
const socket: WebSocket = new M.WebSocket("ws://example.com/ws1", ["v1"]);
globalThis.WebSocket = M.WebSocket;
class Mine extends M.WebSocket {
  readonly extra = Class.OPEN;
}
const state: number = new Mine("/relative").readyState + M.readyState + M.size;

M.addEventListener("close", ({ code }) => code.toFixed());
M.addEventListener("open", function () {
  this.close();
});

// @ts-expect-error: a URL is required
new MultiWebSocket();
// @ts-expect-error: no such option
new MultiWebSocket("/", { idle: 5 });
// @ts-expect-error: what can be sent is what a native socket sends
socket.send(5);
// @ts-expect-error: the state is read only
M.readyState = 1;
// @ts-expect-error: the class is not to be replaced
M.WebSocket = WebSocket;

export { manual, state, withoutNew };

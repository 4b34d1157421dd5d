// The page of the panel: some sockets to look at.
import { showPanel } from "./pkg/devtools.js";
import { MultiWebSocket } from "./pkg/index.js";

const M = new MultiWebSocket("/multiplexer");
await showPanel(M, { parent: document.querySelector("main") });

const sockets = new Set();
const on = (id, act) => document.getElementById(id).addEventListener("click", act);

on("open", () => {
  for (let i = 0; i < 5; i++) {
    const socket = new M.WebSocket("/demo/echo");
    sockets.add(socket);
    socket.onclose = () => sockets.delete(socket);
  }
});
const open = () => [...sockets].filter(({ readyState }) => readyState === WebSocket.OPEN);
on("text", () => open().forEach((socket, at) => socket.send(`hello from ${at + 1}`)));
on("large", () => open()[0]?.send(new Uint8Array(100_000)));
on("refused", () => new M.WebSocket("/demo/no-such-path"));
on("close", () => sockets.forEach((socket) => socket.close(1000, "enough")));
document.body.dataset.ready = "";

// The contestants: each opens sockets with the part of the WebSocket API that the workloads use.
//
// `native` and `manysocket` are the classes themselves. The peers have other interfaces; the objects around
// them only give them the same names.
import { MultiWebSocket } from "/pkg/index.js";

const parameters = new URLSearchParams(location.search);
const PATH = "/test";

/** Resolves with the socket once it is open. */
const opened = (socket) =>
  new Promise((resolve, reject) => {
    socket.binaryType = "arraybuffer";
    socket.onopen = () => resolve(socket);
    socket.onerror = () => reject(new Error(`${socket.url} does not open`));
  });

const ofClass = (WebSocket, end) => ({
  open: (path) => opened(new WebSocket(new URL(PATH + path, location.href.replace(/^http/, "ws")))),
  close: (socket) =>
    new Promise((resolve) => {
      socket.onclose = resolve;
      socket.close();
    }),
  end,
});

const script = (src) =>
  new Promise((resolve, reject) => {
    const element = Object.assign(document.createElement("script"), { src, onload: resolve, onerror: reject });
    document.head.append(element);
  });

/** Its channels are names that the server knows; it reports a channel as open before the server has heard of it. */
async function websocketMultiplex() {
  await script("/peers/multiplex_client.js");
  let multiplexer = null;
  let number = 0;
  return {
    open: () =>
      new Promise((resolve) => {
        multiplexer ??= new globalThis.WebSocketMultiplex(new WebSocket(`ws://${parameters.get("peers")}/multiplex`));
        const channel = multiplexer.channel(`echo${number++ % 20_000}`);
        channel.onopen = () => resolve(channel);
      }),
    close: (channel) => channel.close(),
    end: () => {
      multiplexer?.ws.close();
      multiplexer = null;
    },
  };
}

/** Uses a namespace for each channel, all over one WebSocket. */
async function socketIo() {
  await script("/peers/socket.io.min.js");
  let manager = null;
  let number = 0;
  return {
    open: () =>
      new Promise((resolve, reject) => {
        manager ??= new globalThis.io.Manager(`http://${parameters.get("peers")}`, { transports: ["websocket"], reconnection: false });
        const socket = manager.socket(`/echo${number++}`);
        const face = { send: (data) => socket.emit("m", data), onmessage: null, socket };
        socket.on("m", (data) => face.onmessage({ data }));
        socket.on("connect", () => resolve(face));
        socket.on("connect_error", reject);
      }),
    close: ({ socket }) => socket.disconnect(),
    end: () => {
      manager?.engine.close();
      manager = null;
    },
  };
}

/** Virtual sockets, over a link that the next socket must dial. */
function virtual(options) {
  const M = new MultiWebSocket("/multiplexer", options);
  return ofClass(M.WebSocket, async () => {
    M.close();
    while (M.readyState !== WebSocket.CLOSED) await new Promise((next) => setTimeout(next, 5));
  });
}

const makers = {
  native: () => ofClass(WebSocket, () => {}),
  manysocket: () => virtual({}),
  "without resumption": () => virtual({ resume: false }),
  // Where there are no WebSockets: docs/carriers.md.
  "over HTTP": () => virtual({ carriers: ["http"] }),
  // Over the link of a shared worker: docs/shared.md has its cost.
  shared: () => ofClass(new MultiWebSocket("/multiplexer", { shared: true }).WebSocket, () => {}),
  "websocket-multiplex": websocketMultiplex,
  "socket.io": socketIo,
};

const made = new Map();

/** @param {string} name @returns {Promise<{ open(path: string): Promise<any>, close(socket: any): any, end(): any }>} */
export async function contestant(name) {
  if (!made.has(name)) made.set(name, await makers[name]());
  return made.get(name);
}

// Well-known client libraries, as their packages have them, each doing its job over `M.WebSocket`.
import { MultiWebSocket } from "/pkg/index.js";

const M = new MultiWebSocket("/multiplexer");
const base = `ws://${location.host}`;
const once = (emitter, type) => new Promise((resolve) => emitter.once(type, resolve));

export const jobs = {
  /** Comes back after the server has closed. */
  async "reconnecting-websocket"() {
    const { default: ReconnectingWebSocket } = await import("reconnecting-websocket");
    const socket = new ReconnectingWebSocket(`${base}/echo`, [], { WebSocket: M.WebSocket, minReconnectionDelay: 20 });
    const log = [];
    let opened = 0;
    return new Promise((resolve) => {
      socket.onopen = () => socket.send(`connection ${++opened}`);
      socket.onclose = ({ code }) => log.push(code);
      socket.onmessage = ({ data }) => {
        log.push(data);
        if (opened === 1) return socket.send("bye");
        socket.close();
        resolve(log);
      };
    });
  },

  async "graphql-ws"() {
    const { createClient } = await import("graphql-ws");
    const client = createClient({ url: `${base}/graphql`, webSocketImpl: M.WebSocket });
    const all = async (query) => {
      const results = [];
      for await (const { data } of client.iterate({ query })) results.push(data);
      return results;
    };
    const results = await Promise.all([all("subscription { count(to: 4) }"), all("{ hello }")]);
    await client.dispose();
    return results;
  },

  /** Two documents converge. */
  async "y-websocket"() {
    const { Doc } = await import("yjs");
    const { WebsocketProvider } = await import("y-websocket");
    const options = { WebSocketPolyfill: M.WebSocket, disableBc: true };
    const docs = [new Doc(), new Doc()];
    const providers = docs.map((doc) => new WebsocketProvider(`${base}/y`, "room", doc, options));
    await Promise.all(providers.map((provider) => once(provider, "sync")));
    const texts = docs.map((doc) => doc.getText("text"));
    texts[0].insert(0, "hello ");
    texts[1].insert(0, "world ");
    const lengths = () => texts.map((text) => text.length);
    while (lengths().some((length) => length < 12)) await new Promise((resolve) => setTimeout(resolve, 10));
    const [first, second] = texts.map(String);
    for (const provider of providers) provider.destroy();
    return [first === second, first.length];
  },

  async rxjs() {
    const { webSocket } = await import("rxjs/webSocket");
    const { lastValueFrom, take, toArray } = await import("rxjs");
    const subject = webSocket({ url: `${base}/echo`, WebSocketCtor: M.WebSocket });
    const echoed = lastValueFrom(subject.pipe(take(3), toArray()));
    for (const n of [1, 2, 3]) subject.next({ n });
    return echoed;
  },

  /** Takes the global, replaced before it is imported. */
  async "socket.io-client"() {
    globalThis.WebSocket = M.WebSocket;
    const { io } = await import("socket.io-client");
    const socket = io(location.origin, { transports: ["websocket"] });
    const welcome = await once(socket, "welcome");
    const sum = await socket.emitWithAck("add", 2, 3);
    const bytes = await socket.emitWithAck("bytes", Uint8Array.of(1, 2, 3).buffer);
    socket.close();
    return [welcome, sum, [...new Uint8Array(bytes)]];
  },
};

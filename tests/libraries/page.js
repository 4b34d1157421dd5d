// Well-known client libraries, as their packages have them, each doing its job over `M.WebSocket`. docs/adopt.md has them all.
import { MultiWebSocket } from "/pkg/index.js";

const M = new MultiWebSocket("/multiplexer");
const base = `ws://${location.host}`;
const once = (emitter, type) => new Promise((resolve) => emitter.once(type, resolve));

/** Checks that a reconnecting socket reopens after the server has closed it. */
function comesBack(socket) {
  const log = [];
  let opened = 0;
  return new Promise((resolve) => {
    socket.onopen = () => socket.send(`connection ${++opened}`);
    socket.onclose = ({ code }) => log.push(code);
    socket.onmessage = ({ data }) => {
      log.push(data);
      if (opened === 1) return socket.send("bye");
      resolve([...log]);
      socket.close();
    };
  });
}

/** Two documents of Yjs converge, each with its provider. */
async function converge(connect) {
  const { Doc } = await import("yjs");
  const docs = [new Doc(), new Doc()];
  const providers = docs.map(connect);
  await Promise.all(providers.map((provider) => once(provider, "sync")));
  const texts = docs.map((doc) => doc.getText("text"));
  const full = texts.map(
    (text, at) => new Promise((resolve) => docs[at].on("update", () => text.length === 12 && resolve(String(text)))),
  );
  texts[0].insert(0, "hello ");
  texts[1].insert(0, "world ");
  const [first, second] = await Promise.all(full);
  for (const provider of providers) provider.destroy();
  return [first === second, first.length];
}

export const jobs = {
  async "reconnecting-websocket"() {
    const { default: ReconnectingWebSocket } = await import("reconnecting-websocket");
    return comesBack(new ReconnectingWebSocket(`${base}/echo`, [], { WebSocket: M.WebSocket, minReconnectionDelay: 20 }));
  },

  async partysocket() {
    const { WebSocket } = await import("partysocket");
    return comesBack(new WebSocket(`${base}/echo`, [], { WebSocket: M.WebSocket, minReconnectionDelay: 20 }));
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

  async "@trpc/client"() {
    const { createTRPCClient, createWSClient, wsLink } = await import("@trpc/client");
    const ws = createWSClient({ url: `${base}/trpc`, WebSocket: M.WebSocket });
    const client = createTRPCClient({ links: [wsLink({ client: ws })] });
    const counts = [];
    const counted = new Promise((resolve, reject) =>
      client.count.subscribe(undefined, { onData: (data) => counts.push(data), onComplete: resolve, onError: reject }),
    );
    const hello = await client.hello.query();
    await counted;
    await ws.close();
    return [hello, counts];
  },

  async "y-websocket"() {
    const { WebsocketProvider } = await import("y-websocket");
    const options = { WebSocketPolyfill: M.WebSocket, disableBc: true };
    return converge((doc) => new WebsocketProvider(`${base}/y`, "room", doc, options));
  },

  async "@hocuspocus/provider"() {
    const { HocuspocusProvider, HocuspocusProviderWebsocket } = await import("@hocuspocus/provider");
    return converge((document) => {
      const websocketProvider = new HocuspocusProviderWebsocket({ url: `${base}/hocuspocus`, WebSocketPolyfill: M.WebSocket });
      const provider = new HocuspocusProvider({ websocketProvider, name: "room", document });
      provider.attach();
      return { once: (_, resolve) => provider.on("synced", resolve), destroy: () => websocketProvider.destroy() };
    });
  },

  async rxjs() {
    const { webSocket } = await import("rxjs/webSocket");
    const { lastValueFrom, take, toArray } = await import("rxjs");
    const subject = webSocket({ url: `${base}/echo`, WebSocketCtor: M.WebSocket });
    const echoed = lastValueFrom(subject.pipe(take(3), toArray()));
    for (const n of [1, 2, 3]) subject.next({ n });
    return echoed;
  },

  async mqtt() {
    const { default: mqtt } = await import("mqtt");
    const client = mqtt.connect(`${base}/mqtt`, { createWebsocket: (url, protocols) => new M.WebSocket(url, protocols) });
    await once(client, "connect");
    await client.subscribeAsync("rooms/+");
    const message = new Promise((resolve) => client.once("message", (topic, payload) => resolve([topic, String(payload)])));
    await client.publishAsync("rooms/1", "hello", { qos: 1 });
    const got = await message;
    await client.endAsync();
    return got;
  },

  async "@stomp/stompjs"() {
    const { Client } = await import("@stomp/stompjs");
    const client = new Client({ webSocketFactory: () => new M.WebSocket(`${base}/stomp`, ["v12.stomp", "v11.stomp", "v10.stomp"]) });
    const message = new Promise((resolve, reject) => {
      client.onConnect = () => {
        client.subscribe("/queue/out", ({ body }) => resolve(body));
        client.publish({ destination: "/queue/in", body: "hello" });
      };
      client.onStompError = ({ headers }) => reject(new Error(headers.message));
    });
    client.activate();
    const body = await message;
    await client.deactivate();
    return body;
  },

  async phoenix() {
    const { Socket } = await import("phoenix");
    const socket = new Socket(`${base}/phoenix`, { transport: M.WebSocket });
    socket.connect();
    const channel = socket.channel("room:1", {});
    const broadcast = new Promise((resolve) => channel.on("said", resolve));
    const answer = (push) => new Promise((resolve, reject) => push.receive("ok", resolve).receive("error", reject));
    await answer(channel.join());
    const reply = await answer(channel.push("said", { text: "hello" }));
    const all = [reply, await broadcast];
    socket.disconnect();
    return all;
  },

  async centrifuge() {
    const { Centrifuge } = await import("centrifuge");
    const client = new Centrifuge(`${base}/centrifugo`, { websocket: M.WebSocket });
    const subscription = client.newSubscription("news");
    const publication = new Promise((resolve) => subscription.on("publication", ({ data }) => resolve(data)));
    subscription.subscribe();
    client.connect();
    await subscription.ready();
    await subscription.publish({ text: "hello" });
    const data = await publication;
    client.disconnect();
    return data;
  },

  async "@microsoft/signalr"() {
    const { HttpTransportType, HubConnectionBuilder, LogLevel } = await import("@microsoft/signalr");
    const options = { WebSocket: M.WebSocket, transport: HttpTransportType.WebSockets, skipNegotiation: true };
    const hub = new HubConnectionBuilder().withUrl(`${location.origin}/signalr`, options).configureLogging(LogLevel.Warning).build();
    const called = new Promise((resolve) => hub.on("called", resolve));
    await hub.start();
    const all = [await hub.invoke("Add", 2, 3), await called];
    await hub.stop();
    return all;
  },

  /** Uses the global, which is replaced before the import. */
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

// `MockMultiplexer` beside a multiplexer with its server: a page sees the same of both.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { WebSocket as Ws } from "ws";
import { MockMultiplexer } from "../../pkg/mock.js";
import { makeSite, removeSite, startServer } from "../harness/index.js";

const site = await makeSite();
const server = await startServer(site);
const headers = { Origin: server.origin };
globalThis.WebSocket = class extends Ws {
  constructor(url, protocols) {
    super(url, protocols, { headers });
  }
};
const { JsonWebSocket, MultiWebSocket } = await import("../../pkg/index.js");
const base = server.origin.replace("http", "ws");
after(async () => {
  await server.stop();
  await removeSite(site);
});

/** A multiplexer whose handlers answer as the demo's endpoints do. */
function mock() {
  const M = new MockMultiplexer(`${base}/multiplexer`);
  M.handle("/demo/echo", (request) => {
    const socket = request.accept();
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => socket.send(data);
  });
  M.handle("/demo/nothing", (request) => request.refuse());
  return M;
}

const TYPES = ["open", "message", "error", "close"];

/** Opens a socket that writes its events into a log. */
function open(M, path, log = [], ...rest) {
  const socket = new M.WebSocket(`${base}${path}`, ...rest);
  const ended = new Promise((resolve) => socket.addEventListener("close", resolve));
  for (const type of TYPES) {
    socket.addEventListener(type, (event) => {
      const { code, reason, wasClean, data } = event;
      const what = { message: [data?.byteLength ?? data?.size ?? data], close: [code, reason, wasClean] }[type] ?? [];
      log.push([event.constructor.name, type, ...what, socket.readyState, socket.bufferedAmount]);
    });
  }
  return { socket, log, ended, until: (type) => new Promise((resolve) => socket.addEventListener(type, resolve, { once: true })) };
}

const thrown = (act) => {
  try {
    return String(act());
  } catch ({ name, message }) {
    return `${name}: ${message}`;
  }
};

const SCENARIOS = {
  "messages of each kind, in order": async (M) => {
    const { socket, log, ended, until } = open(M, "/demo/echo");
    log.push([socket instanceof M.WebSocket, socket.url.slice(base.length), socket.protocol, socket.extensions, socket.binaryType, socket.readyState]);
    await until("open");
    const bytes = Uint8Array.of(1, 2, 3);
    socket.send("text");
    socket.send(bytes);
    // Sent data does not change any more.
    bytes.fill(9);
    socket.send(new Blob(["blob"]));
    socket.send("");
    socket.send(new DataView(new ArrayBuffer(8), 2, 5));
    socket.send({ toString: () => "\ud800" });
    while (log.filter(([, type]) => type === "message").length < 6) await until("message");
    socket.binaryType = "arraybuffer";
    socket.send(Uint8Array.of(4, 5));
    log.push(Array.from(new Uint8Array((await until("message")).data)));
    socket.send("on its way");
    socket.close(3000, "bye");
    log.push(socket.readyState);
    socket.send("in vain");
    await ended;
    return log;
  },
  "closes without a code, and with 1000": async (M) => {
    const log = [];
    for (const words of [[], [1000], [undefined, "why"], [4999, "ä".repeat(61)]]) {
      const { socket, ended, until } = open(M, "/demo/echo", log);
      await until("open");
      socket.close(...words);
      socket.close(3001, "once more");
      await ended;
    }
    return log;
  },
  "closed while it is connecting": async (M) => {
    const { socket, log, ended } = open(M, "/demo/echo");
    socket.close();
    log.push(socket.readyState);
    await ended;
    return log;
  },
  "refused": async (M) => {
    const { log, ended } = open(M, "/demo/nothing");
    await ended;
    return log;
  },
  "wrong calls": async (M) => {
    const { socket, log, until, ended } = open(M, "/demo/echo");
    log.push(thrown(() => socket.send("early")), thrown(() => socket.send()));
    await until("open");
    for (const words of [[1001], [2999], [5000], [3000, "x".repeat(124)], ["x"]]) log.push(thrown(() => socket.close(...words)));
    log.push(thrown(() => new M.WebSocket()), thrown(() => new M.WebSocket("ftp://a")), thrown(() => new M.WebSocket("ws://a/#b")));
    log.push(thrown(() => new M.WebSocket("ws://a", "a b")), thrown(() => new M.WebSocket("ws://a", ["a", "a"])));
    log.push(thrown(() => new M.WebSocket("ws://a", { headers: { cookie: "a=b" } })));
    socket.close();
    await ended;
    return log;
  },
  "the multiplexer, and its end": async (M) => {
    const log = [[M.size, M.readyState, M.carrier, M.url.slice(base.length)]];
    const isClosed = new Promise((resolve) => M.addEventListener("close", ({ code, wasClean }) => resolve(log.push(["M", code, wasClean, M.size, M.readyState]))));
    M.addEventListener("open", () => log.push(["M open", M.readyState]));
    const both = [open(M, "/demo/echo", log), open(M, "/demo/echo", log)];
    await Promise.all(both.map(({ until }) => until("open")));
    log.push([M.size, M.readyState, M.carrier]);
    M.close();
    await Promise.all([...both.map(({ ended }) => ended), isClosed]);
    log.push([M.size, M.readyState, M.carrier]);
    return log;
  },
  "values as JSON": async (M) => {
    const log = [];
    const socket = new M.JsonWebSocket(`${base}/demo/echo`);
    const until = (type) => new Promise((resolve) => socket.addEventListener(type, resolve, { once: true }));
    await until("open");
    socket.send({ a: [1, "ü"] });
    log.push((await until("message")).data);
    socket.close(3000);
    log.push((await until("close")).code);
    return log;
  },
};

for (const [name, scenario] of Object.entries(SCENARIOS)) {
  test(`as with a server: ${name}`, async () => {
    const real = await scenario(new MultiWebSocket(`${base}/multiplexer`, { idleTimeout: 0 }));
    assert.ok(real.length > 1);
    assert.deepEqual(await scenario(mock()), real);
  });
}

test("a handler sees the request, and the page what it answers", async () => {
  const M = new MockMultiplexer();
  M.headers(async () => ({ Authorization: "Bearer 1", "X-A": "all" }));
  const seen = [];
  M.handle("/rooms/{room}/{*file}", async (request) => {
    const { url, params, protocols, headers } = request;
    seen.push([url.href, params, protocols, Object.fromEntries(headers)]);
    await null;
    const socket = request.accept({ protocol: "v2" });
    seen.push([socket.readyState, socket.protocol, socket.url]);
    seen.push(thrown(() => request.refuse()), thrown(() => request.accept()));
    socket.send("first");
    socket.close(4001, "over");
  });
  const { socket, log, ended } = open(M, "/rooms/a%20b/c/d?e", [], { protocols: ["v1", "v2"], headers: { "X-A": "own" } });
  await ended;
  const url = `${base}/rooms/a%20b/c/d?e`;
  assert.deepEqual(seen, [
    [url, { room: "a%20b", file: "c/d" }, ["v1", "v2"], { authorization: "Bearer 1", "x-a": "own" }],
    [1, "v2", url],
    `TypeError: MockMultiplexer: '${url}' is answered already.`,
    `TypeError: MockMultiplexer: '${url}' is answered already.`,
  ]);
  assert.equal(socket.protocol, "v2");
  assert.deepEqual(log, [
    ["Event", "open", 1, 0],
    ["MessageEvent", "message", "first", 1, 0],
    ["CloseEvent", "close", 4001, "over", true, 3, 0],
  ]);
});

test("the handler's end sees what a page does", async () => {
  const M = new MockMultiplexer();
  const log = [];
  const closes = [];
  M.handle("/a", (request) => {
    const socket = request.accept();
    socket.onmessage = ({ data }) => log.push(data);
    closes.push(new Promise((resolve) => (socket.onclose = ({ code, reason, wasClean }) => resolve([code, reason, wasClean]))));
  });
  for (const leave of [({ socket }) => socket.close(3000, "bye"), () => M.close()]) {
    const page = open(M, "/a");
    await page.until("open");
    page.socket.send("last words");
    leave(page);
    await page.ended;
  }
  assert.deepEqual(await Promise.all(closes), [[3000, "bye", true], [1006, "", false]]);
  assert.deepEqual(log, ["last words", "last words"]);
});

test("a page that leaves before the answer, and handlers that go wrong", async (t) => {
  const errors = [];
  t.mock.method(console, "error", (...words) => errors.push(words.join(" ").split("\n")[0]));
  const M = new MockMultiplexer();
  let accept;
  const left = new Promise((resolve) => M.handle("/slow", (request) => new Promise((answered) => (accept = () => {
    const socket = request.accept();
    socket.onclose = ({ code }) => resolve([code, socket.readyState]);
    answered();
  }))));
  const slow = open(M, "/slow");
  while (accept === undefined) await new Promise(setImmediate);
  slow.socket.close();
  accept();
  await slow.ended;
  assert.deepEqual(await left, [1006, 3]);
  M.handle("/silent", () => {});
  M.handle("/broken", () => { throw new RangeError("broken"); });
  M.handle("/wrong", (request) => request.accept({ protocol: "v1" }));
  M.handle("/wrong", (request) => request.accept({ protocol: "v2" }));
  for (const path of ["/silent", "/broken", "/wrong", "/none"]) {
    const { log, ended } = open(M, path);
    await ended;
    assert.deepEqual(log, [["Event", "error", 3, 0], ["CloseEvent", "close", 1006, "", false, 3, 0]], path);
  }
  const failed = (path, why) => `MockMultiplexer: '${base}${path}' failed: ${why}`;
  assert.deepEqual(errors, [
    failed("/silent", "TypeError: the handler of '/silent' neither accepted nor refused it."),
    failed("/broken", "RangeError: broken"),
    failed("/wrong", "TypeError: MockMultiplexer: the page did not offer the subprotocol 'v2', only: none."),
    failed("/none", "TypeError: nothing handles '/none': call handle('/none', …)."),
  ]);
  assert.throws(() => M.handle("a", () => {}), /does not begin with a slash/);
});

test("calls work over it, and values as JSON at the handler's end", async () => {
  const M = new MockMultiplexer();
  M.handle("/add", (request) => {
    const socket = new JsonWebSocket(request.accept());
    socket.onmessage = ({ data: [one, other] }) => socket.send({ result: one + other });
  });
  assert.equal(await M.rpc(`${base}/add`)(2, 3), 5);
});

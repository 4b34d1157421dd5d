// `manysocket/topic` and `M.topic`: a page that loses its connection loses and repeats no message.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { runInPage, startServer, startWorld } from "../harness/index.js";

const data = await mkdtemp(join(tmpdir(), "manysocket-topics-"));
const world = await startWorld({ more: ["--data", data] });
after(async () => {
  await world.close();
  await rm(data, { recursive: true });
});

/** Runs code in a fresh page, where `join(name, options)` subscribes and `sockets` are those that it has made. */
async function inPage(kind, code, argument) {
  const page = await world.openPage();
  await runInPage(page, async (kind) => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const { topic, TopicError } = await import("/pkg/topic.js");
    const M = new MultiWebSocket("/multiplexer");
    const Native = kind === "native" ? WebSocket : M.WebSocket;
    const sockets = [];
    const Socket = function (...args) {
      const socket = new Native(...args);
      sockets.push(socket);
      return socket;
    };
    const event = (target, type) => new Promise((resolve) => target.addEventListener(type, resolve, { once: true }));
    const failure = (promise) => promise.then(() => null, ({ name, code }) => `${name} ${code}`);
    const join = (name, options) => topic(`/demo/topics/${name}`, { WebSocket: Socket, ...options });
    Object.assign(globalThis, { M, Native, sockets, event, failure, join, topic, TopicError });
  }, kind);
  const result = await runInPage(page, code, argument);
  assert.deepEqual(page.uncaught, []);
  await page.close();
  return result;
}

for (const kind of ["native", "virtual"]) {
  test(`${kind}: whatever breaks, each message arrives once, in order, and has its number`, async () => {
    const seen = await inPage(kind, async (name) => {
      const [ada, bob] = [join(name), join(name)];
      const heard = [];
      const missed = [];
      bob.addEventListener("message", ({ data }) => heard.push(data));
      bob.addEventListener("missed", ({ count }) => missed.push(count));
      await Promise.all([event(ada, "open"), event(bob, "open")]);
      const numbers = [];
      for (let n = 0; n < 30; n++) {
        // Bob's socket breaks every now and then, before or after the message.
        if (n % 5 === 2) {
          if (bob.readyState !== 1) await event(bob, "open");
          sockets.findLast((socket) => socket !== sockets[0]).close(4000);
        }
        numbers.push(await ada.publish(`message ${n}`));
      }
      // A socket that still closes loses the messages that are sent on it.
      if (sockets.findLast((socket) => socket !== sockets[0]).readyState > 1) await event(bob, "open");
      const last = bob.publish("the last");
      for await (const data of bob) if (data === "the last") break;
      numbers.push(await last);
      const { position } = bob;
      bob.close();
      // Another page goes on where this one was.
      const carol = join(name, { since: position.replace(/^\d+/, "28") });
      const later = [];
      carol.addEventListener("message", ({ data, lastEventId }) => later.push(`${data} ${parseInt(lastEventId)}`));
      const binary = new Promise((resolve) => carol.addEventListener("message", ({ data }) => typeof data !== "string" && resolve(data)));
      await ada.publish(new Uint8Array([1, 2, 255]));
      later.push([...new Uint8Array(await binary)].join());
      return { numbers, heard, missed, later, sockets: sockets.length > 6, states: [ada.readyState, bob.readyState], end: (await failure(bob.publish("x"))) };
    }, `breaks-${kind}`);
    assert.deepEqual(seen.numbers, Array.from({ length: 31 }, (_, n) => n + 1));
    assert.deepEqual(seen.heard, [...Array.from({ length: 30 }, (_, n) => `message ${n}`), "the last"]);
    assert.deepEqual(seen.later.slice(0, 3), ["message 28 29", "message 29 30", "the last 31"]);
    assert.equal(seen.later.at(-1), "1,2,255");
    assert.deepEqual([seen.missed, seen.sockets, seen.states, seen.end], [[], true, [1, 3], "TopicError closed"]);
  });

  test(`${kind}: errors for lost messages, refused publications and missing topics`, async () => {
    const seen = await inPage(kind, async (name) => {
      const results = [];
      const ada = join(name);
      // Before it is open.
      results.push(await ada.publish("one"));
      results.push(await failure(ada.publish("x".repeat(70_000))));
      // It connects again, and publishes waiting messages then.
      results.push(await ada.publish("two"));
      const late = join(name, { since: "1.other" });
      const { count } = await event(late, "missed");
      results.push(count);
      const first = await late[Symbol.asyncIterator]().next();
      results.push(first.value);
      for (const path of ["/demo/echo", "/demo/nothing"]) {
        const none = topic(path, { WebSocket: Native });
        // The echo says nothing: it is asked.
        const failed = failure(none.publish("x"));
        if (path === "/demo/echo") none.close();
        results.push(await failed, none.readyState);
      }
      return results;
    }, `gone-${kind}`);
    assert.deepEqual(seen, [
      1, "TopicError too-large", 2, null, "one", "TopicError closed", 3, "TopicError unreachable", 3,
    ]);
  });
}

test("M.rpc, M.state and M.topic load their code on first use, and go over the link", async () => {
  const page = await world.openPage();
  const requests = [];
  page.on("request", (request) => requests.push(new URL(request.url()).pathname));
  const loaded = () => requests.splice(0).filter((path) => /\/(rpc|state|topic)\.js$/.test(path)).map((path) => path.slice(5));
  await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.M = new MultiWebSocket("/multiplexer");
    globalThis.WebSocket = class {
      constructor() {
        throw new Error("nobody opens a native one");
      }
    };
  });
  assert.deepEqual(loaded(), []);
  const calls = await runInPage(page, async () => {
    const server = M.rpc("/demo/rpc");
    const tank = await server.tank65;
    const sums = await Promise.all([M.rpc("/demo/rpc/add")(1, 2), server.add(3, 4)]);
    const error = await server.fail("no luck").catch(({ name, message }) => `${name}: ${message}`);
    const late = await M.rpc("/demo/rpc/slow", { timeout: 1 })(60_000).catch(({ code }) => code);
    return { sums, error, late, heading: typeof (await tank.look()).heading, same: server.tank65 === tank, text: `${typeof JSON.stringify({ tank })} ${typeof `${tank}`}`, size: M.size };
  });
  assert.deepEqual(calls, { sums: [3, 7], error: "RpcError: no luck", late: "timeout", heading: "number", same: true, text: "string string", size: 4 });
  assert.deepEqual(loaded(), ["rpc.js"]);
  const sheet = await runInPage(page, async () => {
    const sheet = await M.state("/demo/state/one-door");
    sheet.data.a = 1;
    return [await sheet.commit(), M.size];
  });
  assert.deepEqual([sheet, loaded()], [[1, 5], ["state.js"]]);
  const chat = await runInPage(page, async () => {
    const chat = await M.topic("/demo/topics/one-door");
    return [await chat.publish("hello"), M.size];
  });
  assert.deepEqual([chat, loaded()], [[1, 6], ["topic.js"]]);
  assert.deepEqual(page.uncaught, []);
  await page.close();
});

// The last: it kills the server.
test("a page whose server is killed goes on with the next, and has each message once", async () => {
  const address = new URL(world.server.origin).host;
  const page = await world.openPage();
  await runInPage(page, async () => {
    const { topic } = await import("/pkg/topic.js");
    globalThis.heard = [];
    globalThis.chat = topic("/demo/topics/killed", { WebSocket });
    chat.addEventListener("message", ({ data, lastEventId }) => heard.push([data, parseInt(lastEventId)]));
    chat.addEventListener("missed", ({ count }) => heard.push(["missed", count]));
    globalThis.closed = new Promise((resolve) => chat.addEventListener("close", resolve, { once: true }));
    await chat.publish("one");
    await chat.publish("two");
  });
  await world.server.kill();
  await runInPage(page, async () => {
    await closed;
    globalThis.third = chat.publish("three");
  });
  const next = await startServer(world.site, { listen: address, more: ["--data", data] });
  try {
    const seen = await runInPage(page, async () => {
      const { topic } = await import("/pkg/topic.js");
      const number = await third;
      // Another page reads all of it.
      const late = topic("/demo/topics/killed", { WebSocket, since: chat.position.replace(/^\d+/, "0") });
      const all = [];
      for await (const data of late) if (all.push(data) === 3) break;
      return { number, heard, all };
    });
    assert.deepEqual(seen, { number: 3, heard: [["one", 1], ["two", 2], ["three", 3]], all: ["one", "two", "three"] });
    assert.deepEqual(page.uncaught, []);
  } finally {
    await page.close();
    await next.stop();
  }
});

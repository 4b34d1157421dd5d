// The event loop's rules are part of the API: one event at a time, microtasks in between.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { runInPage, startWorld } from "../harness/index.js";

const world = await startWorld({ kind: "test" });
after(() => world.close());

/** Runs `code` with native sockets, then with virtual ones; both must give the same. */
async function onBoth(code, check) {
  for (const kind of ["native", "virtual"]) {
    const page = await world.openPage();
    await runInPage(page, async (kind) => {
      const { MultiWebSocket } = await import("/pkg/index.js");
      globalThis.Socket = kind === "native" ? WebSocket : new MultiWebSocket("/multiplexer").WebSocket;
      globalThis.fired = (socket, type) => new Promise((resolve) => socket.addEventListener(type, resolve, { once: true }));
    }, kind);
    check(await runInPage(page, code), kind);
    assert.deepEqual(page.uncaught, [], kind);
    await page.close();
  }
}

test("a consumer that awaits between messages loses none of 1,000 in a batch", () =>
  onBoth(
    async () => {
      const socket = new Socket("/test/burst?count=1000");
      const got = [];
      while (got.length < 1000) got.push(Number((await fired(socket, "message")).data));
      return got;
    },
    (got) => assert.deepEqual(got, Array.from({ length: 1000 }, (_, n) => n)),
  ));

test("so does one that awaits more than once between messages", () =>
  onBoth(
    async () => {
      const socket = new Socket("/test/burst?count=300");
      const got = [];
      while (got.length < 300) {
        const { data } = await fired(socket, "message");
        got.push(Number(data));
        for (let i = 0; i < 5; i++) await null;
      }
      return got;
    },
    (got) => assert.deepEqual(got, Array.from({ length: 300 }, (_, n) => n)),
  ));

test("a greeting sent right after accept reaches a handler attached after awaiting open", () =>
  onBoth(
    async () => {
      const socket = new Socket("/test/burst?count=1");
      await fired(socket, "open");
      return (await fired(socket, "message")).data;
    },
    (greeting) => assert.equal(greeting, "0"),
  ));

test("many sockets at once, each with a consumer that awaits", () =>
  onBoth(
    async () => {
      const read = async () => {
        const socket = new Socket("/test/burst?count=100&size=500");
        socket.binaryType = "arraybuffer";
        const kinds = [];
        for (let n = 0; n < 100; n++) {
          const { data } = await fired(socket, "message");
          const text = typeof data === "string" ? data : new TextDecoder().decode(data);
          if (Number(text) !== n || text.length !== 500) return `message ${n} is ${text}`;
          kinds.push(typeof data === "string" ? "t" : "b");
        }
        return kinds.join("");
      };
      return [...new Set(await Promise.all(Array.from({ length: 30 }, read)))];
    },
    (kinds) => assert.deepEqual(kinds, ["ttb".repeat(33) + "t"]),
  ));

test("a handler may send, close, open another socket, and throw", () =>
  onBoth(
    async () => {
      const errors = [];
      addEventListener("error", (event) => {
        errors.push(event.message);
        event.preventDefault();
      });
      const log = [];
      const first = new Socket("/test/echo");
      first.onopen = () => {
        first.send("a");
        throw new Error("thrown in open");
      };
      let second;
      first.onmessage = ({ data }) => {
        log.push(data);
        if (data === "a") {
          first.send("b");
          second = new Socket("/test/echo");
          second.onopen = () => second.send("c");
          second.onmessage = (event) => {
            log.push(event.data);
            second.close();
            first.close(3000, "done");
          };
          throw new Error("thrown in message");
        }
      };
      const close = await fired(first, "close");
      return { log: log.sort(), code: close.code, errors };
    },
    ({ log, code, errors }) => {
      assert.deepEqual(log, ["a", "b", "c"]);
      assert.equal(code, 3000);
      assert.deepEqual(errors, ["Uncaught Error: thrown in open", "Uncaught Error: thrown in message"]);
    },
  ));

test("the first message of a task leaves at once, and what several sockets send after it in one physical message", async () => {
  const page = await world.openPage();
  const sent = await runInPage(page, async () => {
    const messages = [];
    const { send } = WebSocket.prototype;
    WebSocket.prototype.send = function (data) {
      messages.push(typeof data === "string" ? data : "batch");
      return send.call(this, data);
    };
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer");
    const sockets = Array.from({ length: 10 }, () => new M.WebSocket("/test/echo"));
    await Promise.all(sockets.map((socket) => new Promise((resolve) => (socket.onopen = resolve))));
    const task = () => new Promise((resolve) => setTimeout(resolve, 50));
    await task();
    const before = messages.length;
    // The task is long where the machine is busy, and 2 ms after the first unsent message a batch leaves: time stands still.
    const now = performance.now();
    performance.now = () => now;
    for (const socket of sockets) for (let n = 0; n < 20; n++) socket.send(`message ${n}`);
    await task();
    delete performance.now;
    sockets[3].send("alone");
    await null;
    await null;
    return messages.slice(before);
  });
  assert.deepEqual(sent, ["1:message 0", "batch", "4:alone"]);
  await page.close();
});

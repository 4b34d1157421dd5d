// The wasm traps, starts late or not at all: sockets end as with a lost link, and the next ones work.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { runInPage, startWorld } from "../harness/index.js";

const world = await startWorld();
after(() => world.close());

for (const [what, inject] of [
  ["a trap", () => trapNext()],
  ["a clock of the page's that throws", () => {
    const { now } = performance;
    performance.now = () => {
      performance.now = now;
      throw new Error("replaced by the page");
    };
  }],
]) {
  test(`${what} ends the page's sockets, and the next socket opens`, async (t) => {
    const page = await world.openPage();
    t.after(() => page.close());
    await runInPage(page, async () => {
      const { Instance } = WebAssembly;
      let traps = false;
      globalThis.instances = 0;
      globalThis.trapNext = () => (traps = true);
      WebAssembly.Instance = function (...args) {
        instances++;
        const { exports } = new Instance(...args);
        const { sendText } = exports;
        return {
          exports: { ...exports, sendText: (...values) => {
            if (!traps) return sendText(...values);
            traps = false;
            throw new WebAssembly.RuntimeError("unreachable");
          } },
        };
      };
      const { MultiWebSocket } = await import("/pkg/index.js");
      globalThis.event = (target, type) => new Promise((resolve) => target.addEventListener(type, resolve, { once: true }));
      globalThis.Ms = [new MultiWebSocket("/multiplexer"), new MultiWebSocket("/multiplexer")];
      globalThis.sockets = Ms.flatMap((M) => Array.from({ length: 3 }, () => new M.WebSocket("/demo/echo")));
      await Promise.all(sockets.map((socket) => event(socket, "open")));
      globalThis.log = sockets.map(() => []);
      sockets.forEach((socket, n) => {
        for (const type of ["error", "close"]) socket.addEventListener(type, ({ code }) => log[n].push(code ?? type));
      });
      globalThis.linksEnded = Promise.all(Ms.map((M) => event(M, "close")));
      globalThis.reported = [];
      addEventListener("error", ({ message }) => reported.push(message));
    });
    await runInPage(page, inject);
    const seen = await runInPage(page, async () => {
      const ends = sockets.map((socket) => event(socket, "close"));
      // It does not throw.
      sockets[0].send("x");
      await Promise.all([...ends, linksEnded]);
      for (const socket of sockets) socket.send("in vain");
      const echoes = [];
      for (const M of Ms) {
        const socket = new M.WebSocket("/demo/echo");
        await event(socket, "open");
        socket.send("again");
        echoes.push((await event(socket, "message")).data);
      }
      return { log, echoes, instances, reported: reported.length, buffered: sockets[1].bufferedAmount };
    });
    assert.deepEqual(seen, { log: Array(6).fill(["error", 1006]), echoes: ["again", "again"], instances: 2, reported: 1, buffered: 7 });
  });
}

test("an engine that compiles nothing large at once starts asynchronously, behind the same API", async (t) => {
  const page = await world.openPage();
  t.after(() => page.close());
  const seen = await runInPage(page, async () => {
    const { Module } = WebAssembly;
    WebAssembly.Module = class extends Module {
      constructor(bytes) {
        // As Chromium before 114.
        if (bytes.byteLength > 4096) throw new RangeError("WebAssembly.Compile is disallowed on the main thread, if the buffer size is larger than 4KB.");
        super(bytes);
      }
      static [Symbol.hasInstance](value) {
        return value instanceof Module;
      }
    };
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer");
    const sockets = [new M.WebSocket("/demo/echo"), new M.WebSocket("/demo/echo")];
    sockets[1].close();
    const ends = [];
    sockets[1].onclose = ({ code }) => ends.push(code);
    await new Promise((resolve) => (sockets[0].onopen = resolve));
    sockets[0].send("late");
    const { data } = await new Promise((resolve) => (sockets[0].onmessage = resolve));
    return { data, ends, url: new URL(M.url).pathname };
  });
  assert.deepEqual(seen, { data: "late", ends: [1006], url: "/multiplexer" });
});

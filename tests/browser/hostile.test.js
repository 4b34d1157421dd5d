// A hostile server against the page: each attack runs in a page that continues, over its own link, over a watched link, and over a
// shared worker's. docs/security.md, "A hostile server", describes these tests.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { WebSocket } from "ws";
import { startHostile } from "../harness/hostile.js";
import { runInPage, startWorld } from "../harness/index.js";
import { attacks } from "../hostile/attacks.js";

const world = await startWorld();
after(() => world.close());
const hostile = await startHostile();
after(() => hostile.stop());

/** The memory that an attack may leave by default: the events of the log, and noise. */
const NOISE = 200_000;

/** Far longer than any attack. */
const PATIENCE = 60_000;

/** A link that is passed on to the honest server. */
function passOn({ socket, request }) {
  const onward = new WebSocket(world.server.origin.replace("http", "ws") + request.url, socket.protocol, { origin: world.server.origin });
  const early = [];
  socket.on("message", (data, isBinary) => (onward.readyState === 1 ? onward.send(data, { binary: isBinary }) : early.push([data, isBinary])));
  onward.on("open", () => early.forEach(([data, isBinary]) => onward.send(data, { binary: isBinary })));
  onward.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on("close", () => onward.close());
}

for (const mode of ["of its own", "watched", "of a shared worker"]) {
  test(`over a link ${mode}`, { concurrency: false }, async (t) => {
    const page = await world.openPage();
    const printed = [];
    page.on("console", (message) => printed.push(message.text()));
    const session = await page.context().newCDPSession(page);
    const memory = async () => {
      for (let i = 0; i < 2; i++) await session.send("HeapProfiler.collectGarbage");
      const { usedSize, backingStorageSize } = await session.send("Runtime.getHeapUsage");
      return usedSize + backingStorageSize;
    };
    await runInPage(page, async () => {
      const { MultiWebSocket } = await import("/pkg/index.js");
      const prototypes = [Object, Array, String, Function, Promise, EventTarget].map(({ prototype }) => prototype);
      const names = () => JSON.stringify(prototypes.map((prototype) => Object.getOwnPropertyNames(prototype).map((name) => `${name} ${typeof Object.getOwnPropertyDescriptor(prototype, name).value}`)));
      const before = names();
      const neighbour = new (new MultiWebSocket("/multiplexer").WebSocket)("/demo/echo");
      globalThis.echo = (socket, text) => new Promise((resolve) => {
        socket.onmessage = ({ data }) => resolve(data);
        socket.send(text);
      });
      const opened = (socket) => new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onclose: reject }));
      await opened(neighbour);
      /** Opens three sockets to the hostile server; their events are in `events`. */
      globalThis.besiege = async (url, mode, offer) => {
        // A separate worker for each.
        globalThis.M = new MultiWebSocket(`${url}/multiplexer`, { shared: mode === "of a shared worker" && crypto.randomUUID() });
        if (mode === "watched") await M.inspect();
        globalThis.events = [[], [], []];
        globalThis.sockets = events.map((seen, n) => {
          const socket = new M.WebSocket(`${url}/${n}`, offer);
          socket.onopen = () => seen.push(socket.protocol ? `open ${socket.protocol}` : "open");
          socket.onmessage = ({ data }) => seen.push(typeof data === "string" ? JSON.parse(JSON.stringify(data.slice(0, 100))) : data);
          socket.onerror = () => seen.push("error");
          socket.onclose = ({ code, reason }) => seen.push(reason ? `${code} ${reason}` : `${code}`);
          return socket;
        });
      };
      /** Checks the page after each attack: the same page, the same multiplexer, another server behind its URL. */
      globalThis.goesOn = async (url) => {
        if (M.readyState < 3) await new Promise((resolve) => M.addEventListener("close", resolve));
        const socket = new M.WebSocket(`${url}/demo/echo`);
        await opened(socket);
        const echoes = [await echo(socket, "again"), await echo(neighbour, "neighbour")];
        socket.onclose = null;
        socket.close();
        M.close();
        return { echoes, isClean: names() === before && {}.polluted === undefined };
      };
    });
    // The first is not measured: code that is loaded and compiled once is no growth.
    for (const [at, [name, { run, events, offer, prints, answers, grows = at === 0 ? Infinity : NOISE }]] of Object.entries(attacks).entries()) {
      await t.test(name, async () => {
        hostile.failures.length = 0;
        const before = mode === "of its own" ? await memory() : 0;
        printed.length = page.uncaught.length = 0;
        let wire;
        hostile.next((its) => {
          wire = its;
          return run(wire);
        });
        await runInPage(page, ([url, mode, offer]) => besiege(url, mode, offer), [hostile.url, mode, offer]);
        await page.waitForFunction((expected) => JSON.stringify(events) === expected, JSON.stringify(events), { timeout: PATIENCE, polling: 20 })
          .catch(async () => assert.deepEqual(await runInPage(page, () => globalThis.events), events));
        assert.deepEqual(hostile.failures, []);
        if (mode === "of its own") {
          const grown = (await memory()) - before;
          assert.ok(grown < grows, `the page's memory has grown by ${grown} bytes`);
        }
        if (answers !== undefined) assert.ok(wire.received.length < answers, `${wire.received.length} answers`);
        if (prints !== undefined && mode !== "of a shared worker") assert.ok(printed.some((line) => line.includes(prints)), `${printed}`);
        assert.ok(printed.every((line) => line.length < 500), "a console keeps lines");
        wire.socket.terminate();
        hostile.next(passOn);
        const { echoes, isClean } = await runInPage(page, (url) => goesOn(url), hostile.url);
        assert.deepEqual([echoes, isClean, page.uncaught], [["again", "neighbour"], true, []]);
      });
    }
    await page.close();
  });
}

// Sockets that have closed leave nothing behind: not in the page's heap, not in wasm's memory, not at the server.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { runInPage, startWorld } from "../harness/index.js";

const world = await startWorld();
after(() => world.close());

// A socket that leaked as little as one object of 20 bytes would show.
const SOCKETS = 20_000;
const TOLERANCE = 400_000;

test(`${SOCKETS} sockets, opened, used and closed`, async () => {
  const page = await world.openPage();
  const session = await page.context().newCDPSession(page);
  const memory = async () => {
    for (let i = 0; i < 3; i++) await session.send("HeapProfiler.collectGarbage");
    const { usedSize, backingStorageSize } = await session.send("Runtime.getHeapUsage");
    return { heap: usedSize, buffers: backingStorageSize };
  };
  await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer");
    const one = () =>
      new Promise((resolve) => {
        const socket = new M.WebSocket("/demo/echo");
        socket.onopen = () => {
          socket.send("text");
          socket.send(new Uint8Array(100));
        };
        let messages = 0;
        socket.onmessage = () => ++messages === 2 && socket.close(1000, "enough");
        socket.onclose = resolve;
      });
    globalThis.use = async (count) => {
      for (let done = 0; done < count; done += 500) await Promise.all(Array.from({ length: 500 }, one));
    };
    await use(2000);
  });
  const before = await memory();
  await runInPage(page, (count) => use(count), SOCKETS);
  const afterwards = await memory();
  const grown = { heap: afterwards.heap - before.heap, buffers: afterwards.buffers - before.buffers };
  assert.ok(grown.heap < TOLERANCE, `the heap has grown by ${grown.heap} bytes`);
  // Wasm's memory grows by 64 KiB at a time.
  assert.ok(grown.buffers < 65_536, `buffers, wasm's memory among them, have grown by ${grown.buffers} bytes`);
  assert.equal((await world.server.stats()).virtual, 0);
  await page.close();
});

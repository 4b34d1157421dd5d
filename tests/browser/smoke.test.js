// Smoke test: a page loads the package and talks to the shipped server.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { runInPage, startWorld } from "../harness/index.js";

const world = await startWorld();
after(() => world.close());

test("virtual sockets echo text and bytes over one physical connection", async () => {
  const page = await world.openPage();
  const echoed = await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer");
    const echo = (number) =>
      new Promise((resolve, reject) => {
        const socket = new M.WebSocket("/demo/echo");
        socket.binaryType = "arraybuffer";
        const received = [];
        socket.onopen = () => {
          socket.send(`grüße ${number}`);
          socket.send(Uint8Array.of(number, 0, 255));
        };
        socket.onmessage = ({ data }) => {
          received.push(typeof data === "string" ? data : [...new Uint8Array(data)]);
          if (received.length === 2) resolve(received);
        };
        socket.onclose = ({ code }) => reject(new Error(`closed with ${code}`));
      });
    return Promise.all(Array.from({ length: 50 }, (_, number) => echo(number)));
  });
  assert.deepEqual(
    echoed,
    Array.from({ length: 50 }, (_, number) => [`grüße ${number}`, [number, 0, 255]]),
  );
  const { physical, native, virtual } = await world.server.stats();
  assert.deepEqual({ physical, native, virtual }, { physical: 1, native: 0, virtual: 50 });
  assert.deepEqual(page.uncaught, []);
  await page.close();
});

test("the server stops cleanly on SIGTERM while a page is connected", async () => {
  const page = await world.openPage();
  await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const socket = new (new MultiWebSocket("/multiplexer").WebSocket)("/demo/echo");
    await new Promise((resolve) => socket.addEventListener("open", resolve));
  });
  assert.equal(await world.server.stop(), 0);
});

// Runs the parity suite in a browser that Playwright does not drive: virtual sockets behave as that browser's own do, in a window, in a
// worker, and over a shared worker's link.
import assert from "node:assert/strict";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { makeSite, removeSite, repository, startServer } from "./index.js";

// Several times the length of the suite; it ends a suite that has lost its page.
const PATIENCE = 120_000;

const inWindow = async () => (await import("/parity/main.js")).default;

const inWorker = () =>
  new Promise((resolve, reject) => {
    const worker = new Worker(`/parity/main.js${location.hash}`, { type: "module" });
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
  });

const PLACES = { "in a window": ["", inWindow], "in a worker": ["", inWorker], "over the link of a shared worker": ["shared=&", inWindow] };

/** Where tabs share a link: opens a socket, and returns the echo of a message. */
const echo = async () => {
  const { MultiWebSocket } = await import("/pkg/index.js");
  globalThis.M ??= new MultiWebSocket("/multiplexer", { shared: "two tabs" });
  const socket = new M.WebSocket("/test/echo");
  await new Promise((resolve) => (socket.onopen = resolve));
  socket.send("hello");
  return (await new Promise((resolve) => (socket.onmessage = resolve))).data;
};

/**
 * @param {import("node:test").TestContext} t
 * @param {() => Promise<{ openPage(url: string): Promise<object>, close(): Promise<void> }>} start starts the browser
 * @param {object} options
 * @param {Record<string, string>} options.departures where the browser's own sockets depart from the standard, and so from virtual ones,
 *   which follow it; each case with the rule
 * @param {Record<string, string>} [options.varies] the same, where they do so only sometimes
 * @param {string} [options.except] a topic of which the browser fires no events at all
 * @param {boolean} [options.workerOutlivesTab] whether a shared worker goes on when the tab that started it is closed
 */
export async function checkEngine(t, start, { departures, varies = {}, except = "", workerOutlivesTab = true }) {
  const site = await makeSite();
  t.after(() => removeSite(site));
  await cp(join(repository, "tests/parity"), join(site, "parity"), { recursive: true });
  const server = await startServer(site, { kind: "test" });
  t.after(() => server.stop());
  const browser = await start();
  t.after(() => browser.close());
  for (const [place, [wish, run]] of Object.entries(PLACES)) {
    await t.test(place, { timeout: PATIENCE }, async (t) => {
      const page = await browser.openPage(`${server.origin}/#${wish}except=${except}`);
      const results = await page.evaluate(run);
      assert.ok(results.length >= 200, `${results.length} cases`);
      for (const [name, native, virtual] of results) {
        await t.test(name, () => {
          assert.equal(virtual.at(-1), "finished", "the case itself is sound");
          if (name in varies) return;
          if (name in departures) assert.notDeepEqual(virtual, native, "the browser has been repaired");
          else assert.deepEqual(virtual, native);
        });
      }
      await page.close();
    });
  }
  await t.test("two tabs with one connection", { timeout: PATIENCE }, async () => {
    const pages = [await browser.openPage(`${server.origin}/`), await browser.openPage(`${server.origin}/`)];
    for (const page of pages) assert.equal(await page.evaluate(echo), "hello");
    const stats = { physical: 1, virtual: 2, parked: 0 };
    // First closes pages that the suite left open.
    while ((await server.stats()).physical > 1) await new Promise((resolve) => setTimeout(resolve, 50));
    assert.deepEqual(await server.stats(), stats);
    await pages[0].close();
    while ((await server.stats()).virtual > 1) await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(await pages[1].evaluate(echo), "hello");
    if (workerOutlivesTab) assert.deepEqual(await server.stats(), stats);
    await pages[1].close();
  });
}

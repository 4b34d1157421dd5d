// The parity suite in Firefox: virtual sockets behave as that browser's own do, in a window, in a worker, and over a shared worker's link.
import assert from "node:assert/strict";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";
import { firefox, startFirefox } from "../harness/firefox.js";
import { makeSite, removeSite, repository, startServer } from "../harness/index.js";

// Several times the length of the suite; it ends a suite that has lost its page.
const PATIENCE = 120_000;

/** Where Firefox 153 departs from the standard, and so from virtual sockets, which follow it. */
const DEPARTURES = {
  "construction: protocols of every type": "WebIDL GetMethod: an @@iterator that is null is as good as none",
  "construction: relative URLs": "URL: the empty string is a relative URL, of the base itself",
  "construction: subprotocol: the server chooses": "WHATWG WebSockets: an answer without one of the offered subprotocols fails the connection",
};

const inWindow = async () => (await import("/parity/main.js")).default;

const inWorker = () =>
  new Promise((resolve, reject) => {
    const worker = new Worker("/parity/main.js", { type: "module" });
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
  });

test("in Firefox", { skip: firefox === null && "Firefox is not installed" }, async (t) => {
  const site = await makeSite();
  t.after(() => removeSite(site));
  await cp(join(repository, "tests/parity"), join(site, "parity"), { recursive: true });
  const server = await startServer(site, { kind: "test" });
  t.after(() => server.stop());
  const browser = await startFirefox();
  t.after(() => browser.close());
  const places = { "in a window": ["", inWindow], "in a worker": ["", inWorker], "over the link of a shared worker": ["#shared=", inWindow] };
  for (const [place, [wish, run]] of Object.entries(places)) {
    await t.test(place, { timeout: PATIENCE }, async (t) => {
      const page = await browser.openPage(`${server.origin}/${wish}`);
      const results = await page.evaluate(run);
      assert.ok(results.length >= 200, `${results.length} cases`);
      for (const [name, native, virtual] of results) {
        await t.test(name, () => {
          assert.equal(native.at(-1), "finished", "the case itself is sound");
          if (name in DEPARTURES) assert.notDeepEqual(virtual, native, "Firefox has been repaired");
          else assert.deepEqual(virtual, native);
        });
      }
      await page.close();
    });
  }
  await t.test("two tabs with one connection", { timeout: PATIENCE }, async () => {
    const pages = [await browser.openPage(`${server.origin}/`), await browser.openPage(`${server.origin}/`)];
    const echo = async () => {
      const { MultiWebSocket } = await import("/pkg/index.js");
      globalThis.M ??= new MultiWebSocket("/multiplexer", { shared: "two tabs" });
      const socket = new M.WebSocket("/test/echo");
      await new Promise((resolve) => (socket.onopen = resolve));
      socket.send("hello");
      return (await new Promise((resolve) => (socket.onmessage = resolve))).data;
    };
    for (const page of pages) assert.equal(await page.evaluate(echo), "hello");
    const stats = { physical: 1, virtual: 2, parked: 0 };
    // First closes pages that the suite left open.
    while ((await server.stats()).physical > 1) await new Promise((resolve) => setTimeout(resolve, 50));
    assert.deepEqual(await server.stats(), stats);
    await pages[0].close();
    while ((await server.stats()).virtual > 1) await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(await pages[1].evaluate(echo), "hello");
    assert.deepEqual(await server.stats(), stats);
    await pages[1].close();
  });
});

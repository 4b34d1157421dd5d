// The parity suite in Firefox: virtual sockets behave as that browser's own do, in a window and in a worker.
import assert from "node:assert/strict";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";
import { firefox, startFirefox } from "../harness/firefox.js";
import { makeSite, removeSite, repository, startServer } from "../harness/index.js";

// Several times what the suite takes; it ends one that has lost its page.
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
  for (const [place, run] of Object.entries({ "in a window": inWindow, "in a worker": inWorker })) {
    await t.test(place, { timeout: PATIENCE }, async (t) => {
      const page = await browser.openPage(`${server.origin}/`);
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
});

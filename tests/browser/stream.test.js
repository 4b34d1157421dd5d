// The demo's page of streams: progress, and an abort that stops the function at the server.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { makeSite, runInPage, startWorld, until } from "../harness/index.js";

const world = await startWorld({ site: await makeSite({ folders: ["www"] }) });
after(() => world.close());
const watcher = await world.openPage("/stream.html");

/** The number of streams that run at the server, as it says itself. */
const running = () =>
  runInPage(watcher, async () => {
    const { rpc } = await import("/pkg/rpc.js");
    return rpc("/demo/rpc/primes/running")();
  });

/** Opens the page and starts a stream of all primes, which it reads slowly. */
async function begin() {
  const page = await world.openPage("/stream.html");
  await page.check("#slow");
  await page.click("#start");
  await page.waitForFunction(() => Number(document.getElementById("found").textContent) > 0);
  assert.equal(await running(), 1);
  return page;
}

test("a stream that is read to its end, with its progress", async () => {
  const page = await world.openPage("/stream.html");
  await page.fill("#limit", "100000");
  await page.click("#start");
  await page.waitForFunction(() => document.getElementById("status").textContent === "That was all of it: 9,592 primes.");
  await page.waitForFunction(() => document.getElementById("progress").value === 1 && document.getElementById("running").textContent === "0");
  assert.equal(await page.isDisabled("#abort"), true);
  assert.deepEqual(page.uncaught, []);
  await page.close();
});

test("the button aborts it: the server's function has stopped, and the page can start again", async () => {
  const page = await begin();
  await page.click("#abort");
  await until("the end at the server", async () => (await running()) === 0);
  await page.waitForFunction(() => document.getElementById("status").textContent.startsWith("Aborted"));
  assert.ok((await page.textContent("#found")).length < 5, "a few of 664,579");
  await page.uncheck("#slow");
  await page.fill("#limit", "10");
  await page.press("#limit", "Enter");
  await page.waitForFunction(() => document.getElementById("status").textContent === "That was all of it: 4 primes.");
  assert.deepEqual(page.uncaught, []);
  await page.close();
});

test("a page that leaves stops it, too", async () => {
  const page = await begin();
  await page.close();
  await until("the end at the server", async () => (await running()) === 0);
});

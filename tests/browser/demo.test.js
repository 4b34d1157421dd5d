// The demo page really runs the same code over native and virtual sockets.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { makeSite, runInPage, startWorld } from "../harness/index.js";

const world = await startWorld({ site: await makeSite({ folders: ["www"] }) });
after(() => world.close());
const page = await world.openPage();
await page.waitForFunction(() => globalThis.demo);

test("500 virtual sockets echo 10,000 mixed messages in order over one physical connection", async () => {
  const result = await runInPage(page, () => demo.run({ which: "virtual", sockets: 500, messages: 10_000 }));
  const { openMs, sendMs, ...counts } = result;
  assert.deepEqual(counts, { opened: 500, failed: 0, echoed: 10_000, mismatches: 0, physical: 1 });
  assert.deepEqual(await world.server.stats(), { physical: 1, native: 0, virtual: 500 });
  await runInPage(page, () => demo.close("virtual"));
});

test("the same page code over native sockets", async () => {
  const result = await runInPage(page, () => demo.run({ which: "native", sockets: 50, messages: 10_000 }));
  const { openMs, sendMs, ...counts } = result;
  assert.deepEqual(counts, { opened: 50, failed: 0, echoed: 10_000, mismatches: 0, physical: 50 });
  await runInPage(page, () => demo.close("native"));
});

test("the page as a whole, by its button", async () => {
  await page.fill("#count", "4");
  await page.click("#both");
  await page.waitForFunction(() => document.getElementById("status").textContent.includes("times faster"), null, {
    timeout: 60_000,
  });
  const numbers = await page.locator("#virtual dd").allTextContents();
  assert.equal(numbers[0], "50 of 50");
  assert.equal(numbers[3], "1", "one physical connection");
  assert.deepEqual(page.uncaught, []);
});

test("its button cuts the connection, and the sockets go on", async () => {
  await runInPage(page, () => demo.close("virtual"));
  const run = runInPage(page, () => demo.run({ which: "virtual", sockets: 50, messages: 100_000 }));
  for (let n = 0; n < 3; n++) {
    const dialled = page.waitForEvent("websocket", (socket) => socket.url().includes("manysocket-resume"));
    await page.click("#cut:enabled");
    await dialled;
  }
  const { opened, failed, echoed, mismatches } = await run;
  assert.deepEqual({ opened, failed, echoed, mismatches }, { opened: 50, failed: 0, echoed: 100_000, mismatches: 0 });
  assert.deepEqual(page.uncaught, []);
});

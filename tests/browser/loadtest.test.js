// The load test works, and its figures are true.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, test } from "node:test";
import { makeSite, runInPage, startWorld } from "../harness/index.js";

const world = await startWorld({ site: await makeSite({ folders: ["www"] }) });
after(() => world.close());
const page = await world.openPage("/loadtest.html");
await page.waitForFunction(() => globalThis.loadtest);

/** Runs a test; `rate` left out is as many messages as go. */
const run = (settings) => runInPage(page, (settings) => loadtest.run({ rate: Infinity, ...settings }), settings);

test("both contestants echo everything, each over its own connections, and close them", async () => {
  const { results } = await run({ contestants: ["native", "virtual"], sockets: 9, size: 32, seconds: 0.5 });
  for (const [which, connections] of [["native", 9], ["virtual", 1]]) {
    const { opened, failed, echoed, wrong, lost, series, ...result } = results[which];
    assert.deepEqual({ opened, failed, wrong, lost }, { opened: 9, failed: 0, wrong: 0, lost: 0 }, which);
    assert.equal(result.connections, connections, which);
    assert.ok(echoed > 0 && series.length > 0 && result.openMs > 0, which);
    assert.ok(result.median <= result.p99 && result.p99 <= result.slowest * 1.05, which);
  }
  const { native, virtual } = await world.server.stats();
  assert.deepEqual({ native, virtual }, { native: 0, virtual: 0 });
});

test("a rate is kept, and large messages come back whole", async () => {
  const slow = await run({ contestants: ["virtual"], sockets: 3, size: 16, rate: 200, seconds: 1 });
  const { echoed, wrong, lost } = slow.results.virtual;
  assert.deepEqual({ wrong, lost }, { wrong: 0, lost: 0 });
  assert.ok(echoed > 100 && echoed <= 200, `${echoed} of 200`);
  const large = await run({ contestants: ["virtual"], sockets: 3, size: 1 << 20, seconds: 0.2 });
  assert.ok(large.results.virtual.echoed >= 16);
  assert.deepEqual([large.results.virtual.wrong, large.results.virtual.lost], [0, 0]);
});

test("echoes that are not the message due are counted", async () => {
  const counts = await runInPage(page, async () => {
    const { Load } = await import("/load.js");
    const broken = {
      sent: 0,
      send(data) {
        const isSpoiled = this.sent++ < 2;
        const echo = typeof data === "string" ? data : data.slice().buffer;
        if (isSpoiled && typeof data !== "string") new Uint8Array(echo)[15] ^= 1;
        queueMicrotask(() => this.onmessage({ data: isSpoiled && typeof data === "string" ? `${data} ` : echo }));
      },
    };
    const load = new Load([broken], { size: 16, rate: 100 });
    await load.run(0.2);
    return { wrong: load.wrong, lost: load.lost, hasMore: load.echoed > 2 };
  });
  assert.deepEqual(counts, { wrong: 2, lost: 0, hasMore: true });
});

test("percentiles are right within a class", async () => {
  const [median, p99, none] = await runInPage(page, async () => {
    const { Histogram } = await import("/histogram.js");
    const histogram = new Histogram();
    const none = histogram.percentile(0.5);
    for (let ms = 1; ms <= 1000; ms++) histogram.add(ms);
    return [histogram.percentile(0.5), histogram.percentile(0.99), none];
  });
  assert.ok(median >= 500 && median < 500 * 1.045, median);
  assert.ok(p99 >= 990 && p99 < 990 * 1.045, p99);
  assert.equal(none, null);
});

test("the page as a whole: start, verdict, saved report; stop", async () => {
  const status = (text) =>
    page.waitForFunction((text) => document.getElementById("status").textContent.includes(text), text);
  await page.selectOption("[name=sockets]", "10");
  await page.selectOption("[name=seconds]", "2");
  await page.click("#start");
  await status("over one connection.");
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
  const report = JSON.parse(await readFile(await download.path(), "utf8"));
  assert.deepEqual(report.settings, { sockets: 10, size: 32, rate: "unlimited", seconds: 2 });
  assert.deepEqual(Object.keys(report.results), ["virtual", "native"]);
  await page.selectOption("[name=seconds]", "600");
  await page.click("#start");
  await status("Sending");
  await page.click("#stop");
  await status("Stopped.");
  assert.deepEqual(page.uncaught, []);
});

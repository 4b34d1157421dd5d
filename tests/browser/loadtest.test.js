// The load test's page does what its form says, over both kinds of sockets.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { makeSite, startWorld } from "../harness/index.js";

const world = await startWorld({ site: await makeSite({ folders: ["www"] }) });
after(() => world.close());

test("a load over both contestants: all open, all that is sent comes back, and the figures add up", async () => {
  const page = await world.openPage("/loadtest.html");
  for (const rate of [0, 2000]) {
    const results = await page.evaluate(
      (rate) => globalThis.loadtest.run({ which: ["native", "virtual"], sockets: 10, size: 100, rate, seconds: 1 }),
      rate,
    );
    for (const { contestant, opened, failed, received, sent, perSecond, p50, p99 } of results) {
      assert.deepEqual({ opened, failed }, { opened: 10, failed: 0 }, contestant);
      assert.ok(received > 100 && received <= sent && perSecond > 100, `${contestant}: ${received} of ${sent}`);
      if (rate > 0) assert.ok(sent <= rate * 1.5, `${contestant}: ${sent} sent at a rate of ${rate}`);
      assert.ok(p50 > 0 && p50 <= p99, contestant);
    }
  }
  assert.match(await page.textContent("#status"), /× the messages/);
  assert.equal((await world.server.stats()).native, 0);
});

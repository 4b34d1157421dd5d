// A server that omits its duties: to answer, to grant, to state its limits truthfully.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { batch, startHostile } from "../harness/hostile.js";
import { runInPage, startWorld } from "../harness/index.js";

const world = await startWorld();
after(() => world.close());
const hostile = await startHostile();
after(() => hostile.stop());

const greeting = () => batch().hello([5, 0]);

/** Opens a page with sockets to the hostile server, `sockets`, whose events go to `events`. */
async function besieged(t, attack, paths = ["/1", "/2"]) {
  const page = await world.openPage();
  t.after(() => page.close());
  let wire;
  hostile.next((its) => attack((wire = its)));
  await page.clock.install();
  await runInPage(page, async ([url, paths]) => {
    const { setTimeout } = globalThis;
    globalThis.delays = [];
    globalThis.setTimeout = (act, delay) => {
      delays.push(delay);
      return setTimeout(act, delay);
    };
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.M = new MultiWebSocket(`${url}/multiplexer`);
    globalThis.events = [];
    globalThis.sockets = paths.map((path) => {
      const made = new M.WebSocket(`${url}${path}`);
      for (const type of ["open", "message", "error", "close"]) made.addEventListener(type, ({ code, data }) => events.push(data ?? code ?? type));
      return made;
    });
  }, [hostile.url, paths]);
  return { page, wire: () => wire, seen: () => runInPage(page, () => events), until: (count) => page.waitForFunction((count) => events.length >= count, count, { polling: 20 }) };
}

test("an open that is never answered fails when a native one would", async (t) => {
  const { page, wire, seen, until } = await besieged(t, async (wire) => {
    await wire.send(greeting().accept(2));
    await wire.send("2:greeted");
  });
  await until(2);
  await page.clock.runFor(239_000);
  assert.deepEqual(await seen(), ["open", "greeted"]);
  await page.clock.runFor(1_000);
  await until(4);
  assert.deepEqual(await seen(), ["open", "greeted", "error", 1006]);
  // The server's late messages for the socket that was given up.
  await wire().send(batch().accept(1).say(1, "late").close(1, 1000));
  await wire().send("2:goes on");
  await until(5);
  assert.deepEqual((await seen()).slice(4), ["goes on"]);
  assert.deepEqual(page.uncaught, []);
});

test("a close that is never answered ends when a native one would, and not before all has been sent", async (t) => {
  const { page, wire, seen, until } = await besieged(t, (wire) => wire.send(greeting().accept(1).accept(2)));
  await until(2);
  await runInPage(page, () => {
    sockets[0].close(1000);
    // More than the credit of 256 KiB.
    sockets[1].send("x".repeat(300_000));
    sockets[1].close(3000);
  });
  await page.clock.runFor(59_000);
  assert.deepEqual(await seen(), ["open", "open"]);
  await page.clock.runFor(1_000);
  await until(3);
  assert.deepEqual(await seen(), ["open", "open", 1006]);
  assert.deepEqual(await runInPage(page, () => sockets.map(({ readyState }) => readyState)), [3, 2]);
  await wire().send(batch().frame("grant", 2, 300_000));
  await wire().until((message) => message.length < 50 && Buffer.from(message).includes(Buffer.from([0x29, 0xb8, 0x17])));
  await page.clock.runFor(60_000);
  await until(4);
  assert.deepEqual((await seen()).slice(3), [1006]);
});

test("without grants a socket's data waits, and no other's", async (t) => {
  const { page, wire, until } = await besieged(t, (wire) => wire.send(greeting().accept(1).accept(2)));
  await until(2);
  const waiting = await runInPage(page, async () => {
    for (let n = 0; n < 100; n++) sockets[0].send(new Uint8Array(10_000));
    const atOnce = sockets[0].bufferedAmount;
    sockets[1].send("not held up");
    return atOnce;
  });
  assert.equal(waiting, 1_000_000);
  await wire().until((message) => message.includes("not held up"));
  await page.waitForFunction(() => sockets[0].bufferedAmount < 800_000, null, { polling: 20 });
  const left = await runInPage(page, () => sockets[0].bufferedAmount);
  assert.ok(left >= 1_000_000 - 262_144, `${left} bytes wait for credit`);
  await wire().send(batch().frame("grant", 1, 2 ** 31 - 1 - 262_144));
  await page.waitForFunction(() => sockets[0].bufferedAmount === 0, null, { polling: 20 });
});

test("an interval of seven weeks between pings is no timer that fires at once", async (t) => {
  const { page, until } = await besieged(t, (wire) => wire.send(batch().hello([5, 2 ** 32 - 1]).accept(1).accept(2)));
  await until(2);
  const delays = await runInPage(page, () => delays);
  // A longer timer fires at once, and would do so again and again.
  assert.ok(delays.every((delay) => delay < 2 ** 31), `${delays}`);
});

test("opens beyond a limit that the server tells late fail at once", async (t) => {
  // Two of the long ones fit into the handshake.
  const long = `/${"x".repeat(1400)}`;
  const { seen, until } = await besieged(t, (wire) => wire.send(batch().hello([1, 4], [5, 0])), ["/1", "/2", long, long, long]);
  await until(2);
  assert.deepEqual(await seen(), ["error", 1006]);
});

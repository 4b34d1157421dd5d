// Functions that return streams, from a page: items at the page's pace, their end, and leaving early.
// MANYSOCKET_ITEMS=1000000 node --test tests/browser/rpc_streams.test.js: more items than a test's share, for a slow page.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { runInPage, startWorld } from "../harness/index.js";

const ITEMS = Number(process.env.MANYSOCKET_ITEMS ?? 100_000);

const world = await startWorld({ kind: "test" });
after(() => world.close());

/** Runs code in a fresh page, where `streams` has the functions under /test/streams/. */
async function inPage(kind, code, argument) {
  const page = await world.browser.newPage();
  const session = await page.context().newCDPSession(page);
  await page.exposeFunction("collectGarbage", () => session.send("HeapProfiler.collectGarbage"));
  await page.goto(world.server.origin);
  await runInPage(page, async (kind) => {
    const { rpc } = await import("/pkg/rpc.js");
    let Socket = WebSocket;
    if (kind === "virtual") {
      const { MultiWebSocket } = await import("/pkg/index.js");
      Socket = new MultiWebSocket("/multiplexer").WebSocket;
    }
    /** The sockets that the client has made. */
    const sockets = [];
    const Counted = class extends Socket {
      constructor(...args) {
        super(...args);
        sockets.push(this);
      }
    };
    const failure = (promise) => promise.then((result) => ({ result }), ({ name, code, message, data }) => ({ name, code, message, data }));
    const streams = rpc("/test/streams/", { WebSocket: Counted });
    // The server knows the streams of all tests.
    const my = (name) => `${name}, ${kind}`;
    Object.assign(globalThis, { my, rpc, sockets, failure, streams, idle: rpc("/test/streams/", { WebSocket: Counted, idleTimeout: 1 }) });
  }, kind);
  const result = await runInPage(page, code, argument);
  assert.deepEqual(page.uncaught ?? [], []);
  await page.close();
  return result;
}

for (const kind of ["native", "virtual"]) {
  test(`${kind}: for await reads items in order, many streams over one socket`, async () => {
    const seen = await inPage(kind, async () => {
      const read = async (name, to) => {
        const items = [];
        for await (const item of await streams.count(my(name), to)) items.push(item);
        return items;
      };
      const [none, few, many] = await Promise.all([read("none", 0), read("few", 3), read("many", 5000)]);
      const inner = [];
      // A stream in a stream does not wait for the other's end.
      for await (const outer of await streams.count(my("outer"), 3)) {
        for await (const item of await streams.count(my(`inner ${outer}`), 2)) inner.push(outer * 10 + item);
      }
      return { none, few, many: many.length, isInOrder: many.every((item, n) => item === n), inner, sockets: sockets.length };
    });
    assert.deepEqual(seen, { none: [], few: [0, 1, 2], many: 5000, isInOrder: true, inner: [0, 1, 10, 11, 20, 21], sockets: 1 });
  });

  test(`${kind}: a page that reads slowly holds a bounded number of items, and gets all of them`, async (t) => {
    const [server, begun] = [world.server.memory(), performance.now()];
    const seen = await inPage(kind, async (ITEMS) => {
      const heap = async () => {
        await collectGarbage();
        return performance.memory.usedJSHeapSize;
      };
      let [taken, ahead, before, most] = [0, 0, 0, 0];
      for await (const item of await streams.count(my("slow"), ITEMS)) {
        if (item !== taken++) throw new Error(`${item} came in the place of ${taken - 1}`);
        if (taken % (ITEMS / 20) !== 0) continue;
        // Asked over another socket, whose answer comes after the server's earlier messages.
        const { made } = await streams.made(my("slow"));
        ahead = Math.max(ahead, made - taken);
        before ||= await heap();
        most = Math.max(most, (await heap()) - before);
      }
      const { made, is_dropped } = await streams.dropped(my("slow"));
      return { taken, ahead, made, is_dropped, most };
    }, ITEMS);
    const grown = world.server.memory() - server;
    t.diagnostic(`${Math.round(performance.now() - begun)} ms, ${seen.ahead} items ahead, page ${seen.most >> 10} KiB, server ${grown >> 10} KiB`);
    assert.deepEqual([seen.taken, seen.made, seen.is_dropped], [ITEMS, ITEMS, true]);
    assert.ok(seen.ahead > 0 && seen.ahead <= 256, `${seen.ahead} items ahead`);
    assert.ok(seen.most < 4 << 20, `${seen.most} bytes more in the page`);
    assert.ok(grown < 16 << 20, `${grown} bytes more in the server`);
  });

  test(`${kind}: break, return, abort and close drop the stream at the server`, async (t) => {
    const { took, ends: seen } = await inPage(kind, async () => {
      const ends = [];
      let n = 0;
      for await (const _ of await streams.count(my("break"), 1_000_000)) if (++n === 100) break;
      ends.push((await streams.dropped(my("break"))).made < 1000);

      const controller = new AbortController();
      const aborted = await rpc(streams, { signal: controller.signal }).count(my("abort"), 1_000_000);
      for (let n = 0; n < 100; n++) await aborted.next();
      const begun = performance.now();
      controller.abort(new Error("enough"));
      const reason = await failure(aborted.next());
      const isEarly = (await streams.dropped(my("abort"))).made < 1000;
      // The way there and back is part of it.
      const took = performance.now() - begun;
      ends.push(isEarly, reason.message, await aborted.next());

      // One that waits for its next item.
      const leaving = new AbortController();
      const waiting = await rpc(streams, { signal: leaving.signal }).wait(my("wait"));
      ends.push(await waiting.next());
      const never = failure(waiting.next());
      leaving.abort();
      ends.push((await never).name, (await streams.dropped(my("wait"))).made);

      const returned = await streams.wait(my("return"));
      const pending = [returned.next(), returned.next()];
      await pending[0];
      ends.push(await returned.return(7), await pending[1], await returned.next(), (await streams.dropped(my("return"))).made);

      const lost = await streams.wait(my("lost"));
      await lost.next();
      const next = failure(lost.next());
      for (const socket of sockets) if (socket.url.endsWith("/wait")) socket.close();
      ends.push((await next).code, await lost.next(), (await streams.dropped(my("lost"))).made);
      return { took, ends };
    });
    t.diagnostic(`the server had dropped the stream ${took.toFixed(1)} ms after the abort`);
    const done = { done: true, value: undefined };
    assert.deepEqual(seen, [
      true,
      true, "enough", done,
      { done: false, value: 0 }, "AbortError", 1,
      { done: true, value: 7 }, done, done, 1,
      "lost", done, 1,
    ]);
  });

  test(`${kind}: an error ends a stream behind its items, or is the answer`, async () => {
    const seen = await inPage(kind, async () => {
      const items = [];
      const read = async () => {
        for await (const item of await streams.fail(my("late"), 3, false)) items.push(item);
      };
      return { late: await failure(read()), items, early: await failure(streams.fail(my("early"), 3, true)) };
    });
    const error = { name: "RpcError", code: "tired", message: "that was enough", data: 3 };
    assert.deepEqual(seen, { late: error, items: [0, 1, 2], early: error });
  });

  test(`${kind}: a socket with a stream is not idle`, async () => {
    const seen = await inPage(kind, async () => {
      const stream = await idle.wait(my("idle"));
      await stream.next();
      // A timer of 1 ms would have fired by then.
      for (let n = 0; n < 3; n++) await new Promise((resolve) => setTimeout(resolve, 20));
      const socket = sockets.find(({ url }) => url.endsWith("/wait"));
      const state = socket.readyState;
      await stream.return();
      if (socket.readyState < 3) await new Promise((resolve) => socket.addEventListener("close", resolve));
      return [state, (await streams.dropped(my("idle"))).made];
    });
    assert.deepEqual(seen, [1, 1]);
  });
}

test("a stream that the page has forgotten is dropped", async () => {
  const made = await inPage("virtual", async () => {
    await (async () => void (await (await streams.wait(my("forgotten"))).next()))();
    const dropped = streams.dropped(my("forgotten"));
    let isDropped = false;
    dropped.then(() => (isDropped = true));
    while (!isDropped) {
      // Garbage, so that the collector runs.
      new Array(1 << 20).fill(0);
      await new Promise((resolve) => setTimeout(resolve));
    }
    return (await dropped).made;
  });
  assert.equal(made, 1);
});

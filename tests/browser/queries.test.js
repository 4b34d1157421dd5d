// The query of a URL reaches the server as the browser sends it natively.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { runInPage, startFront, startWorld } from "../harness/index.js";

const world = await startWorld();
after(() => world.close());

// Signed parameters, flags without values, parameters of our own names, and a query that is empty.
const QUERIES = ["?token=a~b/c%20d&flag&x=%FF'", "?a=1+2&b=%7E*&&=&c", "?document=budget&since=2024", "?", ""];

/** A front whose targets below a path are asked for in order. */
async function recorded(t) {
  const front = await startFront(world.server.origin);
  t.after(() => front.stop());
  const page = await world.browser.newPage();
  t.after(() => page.close());
  await page.goto(front.origin);
  return { front, page, queries: (path) => front.targets.filter((target) => target.split("?")[0] === path).map((target) => target.slice(path.length)) };
}

test("a link, a call and a virtual open keep the query", async (t) => {
  const { page, queries } = await recorded(t);
  await runInPage(page, async (queries) => {
    const { MultiWebSocket, JsonWebSocket, RelativeWebSocket } = await import("/pkg/index.js");
    const { rpc } = await import("/pkg/rpc.js");
    const opened = (socket) => new Promise((resolve) => socket.addEventListener("open", resolve));
    for (const query of queries) {
      await opened(new WebSocket(`/demo/echo${query}`));
      await opened(new RelativeWebSocket(`demo/topics/a${query}`));
      await opened(new JsonWebSocket(`demo/topics/b${query}`));
      await rpc(`/demo/rpc${query}`).add(1, 2);
      await opened(new (new MultiWebSocket(`/multiplexer${query}`).WebSocket)("/demo/echo"));
    }
  }, QUERIES);
  const native = queries("/demo/echo");
  assert.equal(native.length, QUERIES.length);
  for (const path of ["/demo/topics/a", "/demo/topics/b", "/demo/rpc/add"]) assert.deepEqual(queries(path), native, path);
  for (const [n, query] of queries("/multiplexer").entries()) {
    assert.ok(query.startsWith(`${native[n]}${native[n] === "" ? "?" : "&"}manysocket-nonce=`), query);
  }
});

test("sixty opens in one task pass a front that allows short request lines only", async (t) => {
  // The last one is shorter than a link without any early opens.
  for (const [most, query] of [[2048, ""], [2048, `?token=${"t".repeat(1000)}`], [400, ""], [100, ""]]) {
    const lengths = [];
    const front = await startFront(world.server.origin, { refuses: (target) => target.includes("multiplexer") && lengths.push(target.length) && target.length > most });
    t.after(() => front.stop());
    const page = await world.browser.newPage();
    t.after(() => page.close());
    await page.goto(front.origin);
    const counts = await runInPage(page, async (query) => {
      const { MultiWebSocket } = await import("/pkg/index.js");
      const M = new MultiWebSocket(`/multiplexer${query}`);
      const counts = { open: 0, closes: 0, echoes: 0 };
      M.addEventListener("close", () => counts.closes++);
      await Promise.all(Array.from({ length: 60 }, (_, n) => new Promise((resolve) => {
        const socket = new M.WebSocket(`/demo/echo?room=${"x".repeat(40)}${n}`);
        socket.onopen = () => socket.send(counts.open++);
        socket.onmessage = () => resolve(counts.echoes++);
        socket.onclose = resolve;
      })));
      return counts;
    }, query);
    assert.deepEqual(counts, { open: 60, closes: 0, echoes: 60 }, `at most ${most}`);
    assert.ok(lengths.length <= 2, `${lengths.length} handshakes`);
    if (query === "" && most === 2048) assert.equal(lengths.length, 1, `${lengths}`);
  }
});

test("a handshake that a server refuses is tried twice, then over HTTP, and then fails once", async (t) => {
  const front = await startFront(world.server.origin, { refuses: (target) => target.startsWith("/multiplexer") });
  t.after(() => front.stop());
  const page = await world.browser.newPage();
  t.after(() => page.close());
  await page.goto(front.origin);
  const seen = await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer");
    const seen = [];
    M.addEventListener("close", ({ code }) => seen.push(`link ${code}`));
    const socket = new M.WebSocket("/demo/echo");
    socket.onerror = () => seen.push("error");
    await new Promise((resolve) => (socket.onclose = ({ code }) => resolve(seen.push(code))));
    return seen;
  });
  assert.deepEqual(seen, ["link 1006", "error", 1006]);
  const targets = front.targets.filter((target) => target.startsWith("/multiplexer"));
  assert.deepEqual(targets.map((target) => target.replaceAll(/=[^&]*/g, "")),
    ["/multiplexer?manysocket-nonce&manysocket", "/multiplexer?manysocket-nonce", "/multiplexer?manysocket-nonce"]);
});

test("a document that connects again appends to the query", async (t) => {
  const { front, page, queries } = await recorded(t);
  for (const [n, query] of QUERIES.entries()) {
    const path = `/demo/state/query-${n}`;
    await runInPage(page, async (url) => {
      const { state } = await import("/pkg/state.js");
      globalThis.s = await state(url);
      globalThis.reopened = new Promise((resolve) => s.addEventListener("close", () => s.addEventListener("open", resolve)));
    }, path + query);
    front.cut();
    await runInPage(page, () => reopened);
    await runInPage(page, () => s.close());
    const [first, again] = queries(path);
    assert.match(again.slice(first.length), /^[?&]document=[0-9a-f]+&since=0$/);
    assert.ok(again.startsWith(first), again);
    // A separator only where the page wrote none.
    assert.equal(again[first.length], first === "" ? "?" : "&");
  }
});

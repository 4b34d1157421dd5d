// A page's link outlives its connections: between the page and the server is a relay that cuts.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { runInPage, startRelay, startServer, startWorld, until } from "../harness/index.js";

const world = await startWorld({ more: ["--resume", "20"] });
after(() => world.close());

/** Opens a page over a relay, with a socket whose events `events` and `echoes` record. */
async function openPage(options, delay) {
  const relay = await startRelay(world.server.origin, { delay });
  const page = await world.browser.newPage();
  await page.goto(relay.origin);
  await runInPage(page, async (options) => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.asked = 0;
    globalThis.answer = async () => `/multiplexer?token=${++asked}`;
    globalThis.M = new MultiWebSocket(options.asks ? () => answer() : "/multiplexer", options);
    globalThis.events = [];
    for (const type of ["open", "interrupted", "resumed", "close"]) M.addEventListener(type, () => events.push(`M ${type}`));
    globalThis.openSocket = () => {
      const socket = new M.WebSocket("/demo/echo");
      socket.binaryType = "arraybuffer";
      socket.echoes = [];
      for (const type of ["open", "error", "close"]) socket.addEventListener(type, ({ code }) => events.push(code ?? type));
      socket.addEventListener("message", ({ data }) => socket.echoes.push(typeof data === "string" ? data : data.byteLength));
      return socket;
    };
    globalThis.socket = openSocket();
    await new Promise((resolve) => socket.addEventListener("open", resolve));
    socket.send("ready");
    await new Promise((resolve) => socket.addEventListener("message", resolve));
  }, options);
  return { page, relay, close: () => page.close().then(relay.close) };
}

const echoes = (page, count) => until(`${count} echoes`, () => runInPage(page, (count) => socket.echoes.length >= count, count));

test("sockets notice nothing of a connection that is cut", async (t) => {
  const { page, relay, close } = await openPage({});
  t.after(close);
  for (let n = 0; n < 10; n++) {
    await runInPage(page, (n) => {
      socket.send(`${n} before`);
      // The page may change the buffer at once: a replay must carry the first bytes.
      const bytes = new Uint8Array(50_000).fill(n);
      socket.send(bytes);
      bytes.fill(99);
    }, n);
    relay.cut();
    await runInPage(page, (n) => socket.send(`${n} after`), n);
    await echoes(page, 1 + 3 * (n + 1));
  }
  const expected = ["ready"];
  for (let n = 0; n < 10; n++) expected.push(`${n} before`, 50_000, `${n} after`);
  const seen = await runInPage(page, () => ({ events, echoes: socket.echoes, state: M.readyState, size: M.size }));
  assert.deepEqual(seen.echoes, expected);
  assert.deepEqual(seen.events.filter((event) => !["M interrupted", "M resumed"].includes(event)), ["M open", "open"]);
  const count = (event) => seen.events.filter((seen) => seen === event).length;
  assert.ok(count("M interrupted") >= 10 && count("M interrupted") === count("M resumed"), seen.events.join());
  assert.deepEqual([seen.state, seen.size], [1, 1]);
});

test("messages and opens wait meanwhile", async (t) => {
  const { page, relay, close } = await openPage({});
  t.after(close);
  relay.accepts = false;
  relay.cut();
  await until("the interruption", () => runInPage(page, () => events.includes("M interrupted")));
  const meanwhile = await runInPage(page, () => {
    socket.send("meanwhile");
    globalThis.second = openSocket();
    return { state: M.readyState, amount: socket.bufferedAmount, states: [socket.readyState, second.readyState] };
  });
  assert.deepEqual(meanwhile, { state: 0, amount: 9, states: [1, 0] });
  relay.accept();
  await echoes(page, 2);
  await until("the second socket", () => runInPage(page, () => second.readyState === 1));
  const seen = await runInPage(page, () => [socket.echoes, events, socket.bufferedAmount]);
  assert.deepEqual(seen, [["ready", "meanwhile"], ["M open", "open", "M interrupted", "M resumed", "open"], 0]);
});

test("without resumption, and after M.close(), sockets end with 1006 at once", async (t) => {
  const { page, relay, close } = await openPage({ resume: false });
  t.after(close);
  relay.cut();
  await until("the end", () => runInPage(page, () => events.includes(1006)));
  assert.deepEqual(await runInPage(page, () => events.filter((event) => event === 1006)), [1006]);

  const closed = await openPage({});
  t.after(closed.close);
  await runInPage(closed.page, () => M.close());
  await until("the end", () => runInPage(closed.page, () => events.includes(1006)));
  assert.deepEqual(await runInPage(closed.page, () => events), ["M open", "open", "M close", 1006]);
  await until("the server's end", async () => (await world.server.stats()).virtual === 0);
});

test("a link that the page closes while it is interrupted ends at once, and the next socket dials anew", async (t) => {
  const { page, relay, close } = await openPage({});
  t.after(close);
  relay.accepts = false;
  relay.cut();
  await until("the interruption", () => runInPage(page, () => events.includes("M interrupted")));
  await runInPage(page, () => M.close());
  await until("the end", () => runInPage(page, () => events.includes(1006)));
  relay.accept();
  await runInPage(page, async () => {
    globalThis.socket = openSocket();
    await new Promise((resolve) => socket.addEventListener("open", resolve));
  });
  assert.equal(await runInPage(page, () => M.readyState), 1);
});

test("a page's function is asked for the URL of each connection", async (t) => {
  const { page, relay, close } = await openPage({ asks: true });
  t.after(close);
  const dialled = [];
  page.on("websocket", (socket) => dialled.push(new URL(socket.url()).searchParams.get("token")));
  // It has no URL the first time.
  await runInPage(page, () => {
    const { answer } = globalThis;
    globalThis.answer = () => (asked++ === 1 ? Promise.reject(new Error("not logged in")) : answer());
  });
  relay.cut();
  await runInPage(page, () => socket.send("after"));
  await echoes(page, 2);
  const seen = await runInPage(page, () => [socket.echoes, events]);
  assert.deepEqual(seen, [["ready", "after"], ["M open", "open", "M interrupted", "M resumed"]]);
  assert.deepEqual(dialled, ["4"]);
});

test("when the server has forgotten the link, sockets end with 1006, and opens that it has not answered go to a new one", async (t) => {
  const { page, relay, close } = await openPage({});
  t.after(close);
  const other = await startServer(world.site);
  t.after(() => other.stop());
  relay.accepts = false;
  relay.cut();
  await until("the interruption", () => runInPage(page, () => events.includes("M interrupted")));
  await runInPage(page, () => (globalThis.second = openSocket()));
  relay.to = other.origin;
  relay.accept();
  await until("the second socket", () => runInPage(page, () => second.readyState === 1));
  const seen = await runInPage(page, () => [events, socket.readyState, M.readyState, M.size]);
  assert.deepEqual([seen[0].toSorted(), ...seen.slice(1)], [["M close", "M interrupted", "M open", "M open", 1006, "open", "open"].toSorted(), 3, 1, 1]);
});

for (const delay of [20, 100]) {
  test(`the first message follows the answer to the handshake by one round trip, at ${delay} ms each way`, async (t) => {
    const { page, relay, close } = await openPage({}, delay);
    t.after(close);
    const topic = `/demo/topics/delay-${delay}`;
    await runInPage(page, async (topic) => {
      globalThis.news = new M.WebSocket(topic);
      await new Promise((resolve) => (news.onopen = resolve));
      globalThis.arrived = new Promise((resolve) => (news.onmessage = () => resolve(performance.now())));
      globalThis.interrupted = new Promise((resolve) => M.addEventListener("interrupted", () => resolve(performance.now())));
    }, topic);
    relay.accepts = false;
    relay.cut();
    await runInPage(page, () => interrupted);
    const publisher = await world.openPage();
    t.after(() => publisher.close());
    await runInPage(publisher, async (topic) => {
      const socket = new WebSocket(topic);
      await new Promise((resolve) => (socket.onopen = resolve));
      socket.send("news");
      await new Promise((resolve) => (socket.onmessage = resolve));
    }, topic);
    // The request, its answer, RESUME, and its answer with the message.
    relay.flights = 4;
    const since = await runInPage(page, () => performance.now());
    relay.accept();
    const took = (await runInPage(page, () => arrived)) - since;
    t.diagnostic(`${Math.round(took)} ms from the network's return to the first message, with two round trips of ${2 * delay} ms`);
    relay.flights = Infinity;
    relay.cut();
    await runInPage(page, () => socket.send("afterwards"));
    await echoes(page, 2);
  });
}

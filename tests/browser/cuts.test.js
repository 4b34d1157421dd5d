// An oracle for resumption: under load, a relay cuts the link's connection again and again, and each message arrives once, in order and
// unchanged.
//
// MANYSOCKET_CUTS=1000 node --test tests/browser/cuts.test.js: more cuts than a test's share; Firefox has a tenth of them.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { firefox, startFirefox } from "../harness/firefox.js";
import { makeSite, removeSite, runInPage, startBrowser, startRelay, startServer, until } from "../harness/index.js";

const CUTS = Number(process.env.MANYSOCKET_CUTS ?? 100);

/** The sockets that send all the time, and those of which one follows the other. */
const STEADY = 100;
const PASSING = 10;

const site = await makeSite();
after(() => removeSite(site));

/** A server with its metrics, and a relay to it that cuts once it is asked to. */
async function start(t) {
  const server = await startServer(site, { more: ["--metrics", "127.0.0.1:0"] });
  t.after(() => server.stop());
  const address = () => /http:\S+\/metrics/.exec(server.output());
  // The log is another stream than the line that the server is ready.
  await until("the address of the metrics", () => address() !== null);
  const [metrics] = address();
  const relay = await startRelay(server.origin);
  t.after(() => relay.close());
  const metric = async (name) => {
    const text = await (await fetch(metrics)).text();
    return Number(new RegExp(`^manysocket_${name} (\\S+)$`, "m").exec(text)[1]);
  };
  return { relay, metric };
}

/** Bytes that connections carry each way: some not even the handshake, some megabytes. Others are cut after a time. */
function allowances() {
  let state = 1;
  return () => {
    // A linear congruential generator: the same cuts in each run.
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const random = state / 2 ** 32;
    if (random < 0.05) return { bytes: Math.floor(random * 20_000) };
    if (random > 0.3) return { bytes: Math.floor(1_000 * 3_000 ** ((random - 0.3) / 0.7)) };
    return { milliseconds: 2_000 * random };
  };
}

/** In the page: has sockets send until `stop()`; `faults` lists events that native sockets would not see without cuts. */
const load = async ({ steady, passing, ...options }) => {
  const { MultiWebSocket } = await import("/pkg/index.js");
  globalThis.faults = [];
  globalThis.happened = { open: 0, interrupted: 0, resumed: 0, close: 0 };
  globalThis.M = new MultiWebSocket("/multiplexer", { ...options, idleTimeout: Infinity });
  for (const type of Object.keys(happened)) M.addEventListener(type, () => happened[type]++);

  const message = (number, n) => {
    const size = n % 61 === 60 && number % 20 < 2 ? 2 ** 20 : n % 7 === 3 ? 5_000 : 20;
    const head = `${number} ${n} `;
    if (n % 2 === 0) return head.padEnd(size, "aé");
    return new TextEncoder().encode(head.padEnd(size, String.fromCharCode(97 + (n % 26))));
  };
  const same = (one, other) => {
    if (typeof one === "string" || typeof other === "string") return one === other;
    const bytes = new Uint8Array(one);
    return bytes.length === other.length && bytes.every((byte, at) => byte === other[at]);
  };

  /** Sends messages while `goesOn`, then closes; each must come back. */
  const use = (number, goesOn) =>
    new Promise((resolve) => {
      const socket = new M.WebSocket("/demo/echo");
      socket.binaryType = "arraybuffer";
      let [sent, received, isOpen] = [0, 0, false];
      const send = () => {
        const data = message(number, sent++);
        socket.send(data);
        // The page may change the buffer at once.
        if (typeof data !== "string") data.fill(0);
      };
      socket.onopen = () => {
        if (isOpen) faults.push(`${number} opened twice`);
        isOpen = true;
        for (let n = 0; n < 4; n++) send();
      };
      socket.onmessage = ({ data }) => {
        if (!same(data, message(number, received))) faults.push(`${number}: not message ${received}, ${typeof data === "string" ? data.slice(0, 30) : data.byteLength}`);
        received++;
        counts.messages++;
        if (goesOn(received)) send();
        else if (received === sent) socket.close(3000, "enough");
      };
      socket.onerror = () => faults.push(`${number} failed`);
      socket.onclose = ({ code, reason, wasClean }) => {
        if (`${code} ${reason} ${wasClean}` !== "3000 enough true") faults.push(`${number} was closed with ${code} ${reason}`);
        if (received !== sent) faults.push(`${number} was closed with ${sent - received} messages under way`);
        counts.sockets++;
        resolve();
      };
    });

  /** Fills the client's memory for large messages (`spares` of js/glue.js), up to 4 MiB, so that its use is no growth. */
  globalThis.fill = () =>
    new Promise((resolve) => {
      const socket = new M.WebSocket("/demo/echo");
      let left = 8;
      socket.onopen = () => {
        for (let n = 0; n < left; n++) socket.send(new Uint8Array(2 ** 20));
      };
      socket.onmessage = () => --left === 0 && socket.close();
      socket.onclose = resolve;
    });

  globalThis.begin = () => {
    let isStopping = false;
    globalThis.counts = { messages: 0, sockets: 0 };
    const all = Array.from({ length: steady }, (_, number) => use(number, () => !isStopping));
    const follow = async (number) => {
      while (!isStopping) await use(number, (received) => received < 8);
    };
    for (let number = 0; number < passing; number++) all.push(follow(steady + number));
    globalThis.stop = async () => {
      isStopping = true;
      await Promise.all(all);
    };
  };
  // The link is there before anything is cut.
  globalThis.counts = { messages: 0, sockets: 0 };
  await use(0, () => false);
};

/** Cuts connections under load, `cuts` times. */
async function cutUnderLoad(page, relay, cuts) {
  const end = relay.cuts + cuts;
  await runInPage(page, () => begin());
  relay.allowance = allowances();
  relay.cut();
  let [seen, since] = [relay.cuts, performance.now()];
  while (relay.cuts < end) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (relay.cuts > seen) [seen, since] = [relay.cuts, performance.now()];
    const faults = await runInPage(page, () => faults);
    assert.deepEqual(faults, []);
    assert.ok(performance.now() - since < 60_000, "the link stands still");
  }
  relay.allowance = () => ({});
  await runInPage(page, () => stop());
  return runInPage(page, () => ({ faults, happened, ...counts }));
}

/** @param {number} share the part of the cuts that hit the link's connection */
async function check(t, page, relay, metric, cuts, { measure = async () => ({}), share = 1 / 2 } = {}) {
  // Caches are full after this.
  await cutUnderLoad(page, relay, 20);
  await runInPage(page, () => fill());
  const [memory, held] = [await measure(), await metric("memory_bytes")];
  const before = await metric("links_resumed_total");
  const seen = await cutUnderLoad(page, relay, cuts);
  const resumed = (await metric("links_resumed_total")) - before;
  const afterwards = { memory: await measure(), held: await metric("memory_bytes") };
  t.diagnostic(`${cuts} cuts, ${resumed} resumptions, ${seen.messages} messages of ${seen.sockets} sockets`);
  t.diagnostic(`page ${JSON.stringify(memory)} then ${JSON.stringify(afterwards.memory)}, server ${held} then ${afterwards.held} bytes`);
  assert.deepEqual(seen.faults, []);
  assert.deepEqual([seen.happened.open, seen.happened.close], [1, 0], "one link");
  assert.equal(seen.happened.interrupted, seen.happened.resumed);
  assert.ok(resumed >= cuts * share, `${resumed} resumptions`);
  assert.equal(await metric("links_opened_total"), 1);
  for (const [kind, bytes] of Object.entries(afterwards.memory)) {
    // A message of 1 MiB may still wait for its acknowledgement.
    assert.ok(bytes - memory[kind] < 4 << 20, `${kind} has grown by ${bytes - memory[kind]} bytes`);
  }
  assert.ok(afterwards.held - held < 4 << 20, `the server holds ${afterwards.held - held} bytes more`);
}

// Over HTTP, a link has two connections, and one of them is idle at times.
const OVER_HTTP = 1 / 4;

for (const [what, options, share] of [
  ["over a page's own link", { carriers: ["websocket"] }],
  ["over the link of a shared worker", { carriers: ["websocket"], shared: true }],
  ["over HTTP", { carriers: ["http"] }, OVER_HTTP],
]) {
  test(`in Chromium, ${what}`, async (t) => {
    const { relay, metric } = await start(t);
    const browser = await startBrowser();
    t.after(() => browser.close());
    const page = await browser.newPage();
    await page.goto(relay.origin);
    await runInPage(page, load, { ...options, steady: STEADY, passing: PASSING });
    const session = await page.context().newCDPSession(page);
    const measure = async () => {
      for (let n = 0; n < 3; n++) await session.send("HeapProfiler.collectGarbage");
      const { usedSize, backingStorageSize } = await session.send("Runtime.getHeapUsage");
      return { heap: usedSize, buffers: backingStorageSize };
    };
    await check(t, page, relay, metric, CUTS, { measure, share });
  });
}

test("in Chromium, from WebSockets to HTTP and back", async (t) => {
  const { relay, metric } = await start(t);
  const browser = await startBrowser();
  t.after(() => browser.close());
  const page = await browser.newPage();
  await page.goto(relay.origin);
  await runInPage(page, load, { steady: STEADY, passing: PASSING });
  // Each connection has the other carrier than the one before.
  await runInPage(page, () => {
    globalThis.carriers = new Set();
    M.addEventListener("resumed", () => {
      carriers.add(M.carrier);
      sessionStorage.clear();
    });
  });
  let resumed = 0;
  const change = setInterval(async () => {
    const now = await runInPage(page, () => happened.resumed).catch(() => resumed);
    if (now > resumed) relay.websockets = !relay.websockets;
    resumed = now;
  }, 20);
  t.after(() => clearInterval(change));
  await check(t, page, relay, metric, CUTS, { share: OVER_HTTP });
  assert.deepEqual(await runInPage(page, () => [...carriers].sort()), ["http-stream", "websocket"]);
});

test("in Firefox", { skip: firefox === null && "Firefox is not installed" }, async (t) => {
  const { relay, metric } = await start(t);
  const browser = await startFirefox();
  t.after(() => browser.close());
  const page = await browser.openPage(`${relay.origin}/`);
  await runInPage(page, load, { carriers: ["websocket"], steady: STEADY, passing: PASSING });
  await check(t, page, relay, metric, Math.ceil(CUTS / 10));
});

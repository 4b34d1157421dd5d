// The package works wherever there is a WebSocket: in each kind of worker and frame, imported in each way, several at a time.
// parity.test.js runs the whole suite in windows, frames, dedicated and shared workers; here are all other places.
import assert from "node:assert/strict";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";
import { places } from "../places/places.js";
import { runInPage, startBrowser } from "../harness/browser.js";
import { firefox, startFirefox } from "../harness/firefox.js";
import { makeSite, removeSite, repository, startServer } from "../harness/index.js";

const site = await makeSite();
await cp(join(repository, "tests/parity"), join(site, "parity"), { recursive: true });
await cp(join(repository, "tests/places"), join(site, "places"), { recursive: true });
// A second copy of the package.
await cp(join(repository, "pkg"), join(site, "copy"), { recursive: true });
const server = await startServer(site, { kind: "test" });
after(async () => {
  await server.stop();
  await removeSite(site);
});

// Far longer than a place needs; it ends one in which an event never arrives.
const PATIENCE = 120_000;

/** Where Firefox 153 resolves relative URLs against the page, and not, as HTML asks for, against the worker's own URL. */
const DEPARTURES = ["a module worker from a blob: URL", "a classic worker from a blob: URL"];

async function suite(t, openPage, departures = []) {
  for (const name of Object.keys(places)) {
    await t.test(name, { timeout: PATIENCE }, async (t) => {
      const page = await openPage(`${server.origin}/`);
      t.after(() => page.close());
      const run = async ([name, base]) => (await import("/places/places.js")).places[name](base);
      const [native, virtual, state] = await page.evaluate(run, [name, server.origin.replace("http", "ws")]);
      assert.ok(native.length > 15, native.join("\n"));
      if (departures.includes(name)) {
        assert.notDeepEqual(virtual.splice(0, 2), native.splice(0, 2), "Firefox has been repaired");
      }
      assert.deepEqual(virtual, native);
      assert.equal(state, 1, "the sockets were on a link");
    });
  }
  const alone = async (t, name) => {
    const page = await openPage(`${server.origin}/`);
    t.after(() => page.close());
    return page.evaluate(async (name) => (await import("/places/places.js"))[name](), name);
  };
  await t.test("a page whose policy forbids the connection: it fails, and does not wait for ever", { timeout: PATIENCE }, async (t) =>
    assert.deepEqual(await alone(t, "forbidden"), ["error in state 3", 1006]));
  await t.test("a server that answers without the subprotocol is one without a multiplexer", { timeout: PATIENCE }, async (t) =>
    assert.equal(await alone(t, "mute"), "hello"));
}

test("in Chromium", async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.close());
  await suite(t, async (url) => {
    const page = await browser.newPage();
    await page.goto(url);
    return page;
  });
});

/** A page of Chromium with code that runs in it. */
async function inPage(code, argument) {
  const browser = await startBrowser();
  try {
    const page = await browser.newPage();
    await page.goto(server.origin);
    return await runInPage(page, code, argument);
  } finally {
    await browser.close();
  }
}

test("two links of one page do not mix, and one ends without the other", async () => {
  const seen = await inPage(async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const all = [new MultiWebSocket("/multiplexer"), new MultiWebSocket("/multiplexer")];
    // The same channel numbers on both links, and messages of both in one task.
    const sockets = await Promise.all(all.flatMap((M, m) => [0, 1].map(async (n) => {
      const socket = new M.WebSocket("/test/echo");
      const seen = [];
      socket.onmessage = ({ data }) => seen.push(data);
      await new Promise((resolve) => (socket.onopen = resolve));
      const closed = new Promise((resolve) => (socket.onclose = ({ code }) => resolve(code)));
      return { socket, seen, closed, mark: `${m}.${n}` };
    })));
    for (let i = 0; i < 20; i++) for (const { socket, mark } of sockets) socket.send(`${mark}:${i}`);
    while (sockets.some(({ seen }) => seen.length < 20)) await new Promise((resolve) => setTimeout(resolve));
    const mixed = sockets.flatMap(({ seen, mark }) => seen.filter((data, i) => data !== `${mark}:${i}`));
    all[0].close();
    const codes = await Promise.all(sockets.slice(0, 2).map(({ closed }) => closed));
    return { mixed, codes, states: sockets.map(({ socket }) => socket.readyState), links: all.map((M) => M.readyState) };
  });
  assert.deepEqual(seen, { mixed: [], codes: [1006, 1006], states: [3, 3, 1, 1], links: [3, 1] });
});

test("two copies of the package in one page know their own sockets", async () => {
  const seen = await inPage(async () => {
    const copies = await Promise.all(["/pkg/index.js", "/copy/index.js"].map((file) => import(file)));
    const classes = copies.map(({ MultiWebSocket }) => new MultiWebSocket("/multiplexer").WebSocket);
    const sockets = classes.map((Class) => new Class("/test/burst?count=200"));
    const next = (socket) => new Promise((resolve) => socket.addEventListener("message", resolve, { once: true }));
    const counts = await Promise.all(sockets.map(async (socket) => {
      let last;
      for (let n = 0; n < 200; n++) last = (await next(socket)).data;
      return last;
    }));
    let foreign;
    try {
      foreign = Object.getOwnPropertyDescriptor(classes[0].prototype, "url").get.call(sockets[1]);
    } catch (error) {
      foreign = error.name;
    }
    return { counts, foreign, instance: sockets[0] instanceof classes[1] };
  });
  assert.deepEqual(seen, { counts: ["199", "199"], foreign: "TypeError", instance: false });
});

for (const copy of ["/pkg/index.js", "/copy/index.js"]) {
  test(`where a page has replaced the global, another MultiWebSocket of ${copy} has a separate link`, async () => {
    const seen = await inPage(async (copy) => {
      const { MultiWebSocket } = await import("/pkg/index.js");
      const first = new MultiWebSocket("/multiplexer");
      globalThis.WebSocket = first.WebSocket;
      const other = await import(copy);
      // Its jail leaves all to the global at the time when it was made: to the first.
      const second = new other.MultiWebSocket("/multiplexer");
      const third = new other.MultiWebSocket("/multiplexer", { jail: "/nothing" });
      const last = [];
      for (const M of [second, third]) {
        const socket = new M.WebSocket("/test/burst?count=300");
        let got;
        for (let n = 0; n < 300; n++) got = await new Promise((resolve) => socket.addEventListener("message", ({ data }) => resolve(data), { once: true }));
        last.push(got);
      }
      return { last, links: [first, second, third].map((M) => [M.readyState, M.size]) };
    }, copy);
    assert.deepEqual(seen, { last: ["299", "299"], links: [[1, 1], [1, 1], [3, 0]] });
  });
}

test("in Firefox", { skip: firefox === null && "Firefox is not installed" }, async (t) => {
  const browser = await startFirefox();
  t.after(() => browser.close());
  await suite(t, browser.openPage, DEPARTURES);
});

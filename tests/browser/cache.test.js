// The browser's back/forward cache: a page with open sockets may enter it, and goes on with them when it is shown again.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { firefox, startFirefox } from "../harness/firefox.js";
import { makeSite, removeSite, runInPage, startBrowser, startServer, until } from "../harness/index.js";

const site = await makeSite({ files: { "other.html": "<!doctype html><html lang=en><title>other page</title>" } });
after(() => removeSite(site));
const browser = await startBrowser(undefined, ["--disable-back-forward-cache"]);
after(() => browser.close());

/** Opens a page with a socket, leaves it, and comes back. */
async function leaveAndReturn(t, options) {
  const server = await startServer(site, {});
  t.after(() => server.stop());
  const context = await browser.newContext();
  t.after(() => context.close());
  const [page, listener] = [await context.newPage(), await context.newPage()];
  await listener.goto(server.origin);
  await runInPage(listener, async () => {
    globalThis.heard = [];
    globalThis.topic = new WebSocket("/demo/topics/leaving");
    topic.onmessage = ({ data }) => heard.push(data);
    await new Promise((resolve) => (topic.onopen = resolve));
  });
  await page.goto(server.origin);
  await runInPage(page, async (options) => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.M = new MultiWebSocket("/multiplexer", options);
    globalThis.log = [];
    for (const type of ["interrupted", "resumed", "close"]) M.addEventListener(type, () => log.push(type));
    globalThis.socket = new M.WebSocket("/demo/echo");
    for (const type of ["error", "close"]) socket.addEventListener(type, () => log.push(`socket ${type}`));
    socket.addEventListener("message", ({ data }) => log.push(data));
    await new Promise((resolve) => socket.addEventListener("open", resolve));
    const topic = new M.WebSocket("/demo/topics/leaving");
    await new Promise((resolve) => topic.addEventListener("open", resolve));
    addEventListener("pagehide", () => {
      topic.send("leaving");
      topic.send("still leaving");
      socket.send("left");
    });
    addEventListener("pageshow", ({ persisted }) => {
      log.push(persisted ? "back" : "begun anew");
      socket.send("back");
      const next = new M.WebSocket("/demo/echo");
      next.addEventListener("open", () => log.push("opened"));
    });
  }, options);
  await page.goto(`${server.origin}/other.html`);
  await until("the last words", () => runInPage(listener, () => heard.length >= 2));
  assert.deepEqual(await runInPage(listener, () => heard), ["leaving", "still leaving"]);
  await runInPage(page, () => void setTimeout(() => history.back()));
  await until("the return", () => page.evaluate(() => globalThis.log ? log.includes("opened") && log.filter((line) => line === "back").length === 2 : location.pathname === "/").catch(() => false));
  return runInPage(page, () => ({
    log: globalThis.log?.filter((line) => line !== "opened"),
    why: performance.getEntriesByType("navigation")[0].notRestoredReasons,
  }));
}

test("a page's sockets go on, and new ones open", async (t) => {
  const { log, why } = await leaveAndReturn(t, {});
  assert.equal(why, null, JSON.stringify(why));
  // The echo of its last words may have been faster than the interruption.
  assert.deepEqual(log.filter((line) => line !== "left"), ["interrupted", "back", "resumed", "back"]);
  assert.deepEqual(log.filter((line) => line === "left"), ["left"]);
});

test("sockets over the link of a shared worker do, too, without an interruption", async (t) => {
  const { log, why } = await leaveAndReturn(t, { shared: true });
  assert.equal(why, null, JSON.stringify(why));
  // The echo of its last words may have been faster.
  assert.deepEqual(log.toSorted(), ["back", "back", "left"]);
});

test("over HTTP, too", async (t) => {
  const { log, why } = await leaveAndReturn(t, { carriers: ["http"] });
  assert.equal(why, null, JSON.stringify(why));
  assert.deepEqual(log.filter((line) => line !== "left"), ["interrupted", "back", "resumed", "back"]);
  assert.deepEqual(log.filter((line) => line === "left"), ["left"]);
});

/** In the page: opens a socket of the given kind, or none. */
const openKind = async (kind) => {
  const { MultiWebSocket } = await import("/pkg/index.js");
  globalThis.log = [];
  addEventListener("pageshow", () => log.push("back"));
  const options = { "a link": {}, "a shared link": { shared: true }, "a link over HTTP": { carriers: ["http"] } };
  if (kind === "no socket") return;
  const { WebSocket } = kind === "a native socket" ? globalThis : new MultiWebSocket("/multiplexer", options[kind]);
  const socket = new WebSocket("/demo/echo");
  await new Promise((resolve) => socket.addEventListener("open", resolve));
};

test("Firefox keeps no page with a connection", { skip: firefox === null && "Firefox is not installed" }, async (t) => {
  const server = await startServer(site, {});
  t.after(() => server.stop());
  const browser = await startFirefox();
  t.after(() => browser.close());
  const page = await browser.openPage(server.origin);
  for (const kind of ["no socket", "a native socket", "a link", "a shared link", "a link over HTTP"]) {
    await page.goto(server.origin);
    await runInPage(page, openKind, kind);
    await page.goto(`${server.origin}/other.html`);
    await until("the server's end", async () => (await server.stats()).virtual === 0);
    await page.back();
    await until("the return", () => runInPage(page, () => location.pathname === "/" && document.readyState === "complete"));
    const log = await runInPage(page, () => globalThis.log ?? "a new page");
    assert.deepEqual(log, kind === "no socket" ? ["back"] : "a new page", kind);
  }
});

// Logging in helps the next socket, as natively: an open that is refused on an older link is tried once on a new one.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { runInPage, startWorld } from "../harness/index.js";

const world = await startWorld({ kind: "test" });
after(() => world.close());
const { server, browser } = world;

/** Runs a function in a page with separate cookies, with `M` and `outcome`: `open`, or the code of the close. Returns its links, too. */
async function inPage(t, options, code) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  let links = 0;
  page.on("websocket", (socket) => (links += Number(socket.url().includes("/multiplexer"))));
  await page.goto(`${server.origin}/`);
  await runInPage(page, async (options) => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.M = new MultiWebSocket("/multiplexer", options);
    globalThis.outcome = (socket) => new Promise((resolve) => {
      socket.onopen = () => resolve("open");
      socket.onclose = ({ code }) => resolve(code);
    });
    globalThis.open = (path) => outcome(new M.WebSocket(path));
    globalThis.login = () => (document.cookie = "session=good; path=/");
    globalThis.logout = () => (document.cookie = "session=; max-age=0; path=/");
    /** Sends a text and waits for its echo. */
    globalThis.echo = (socket) => new Promise((resolve) => {
      socket.onmessage = ({ data }) => resolve(data);
      socket.onclose = ({ code }) => resolve(code);
      socket.send("still here");
    });
  }, options);
  return { result: await runInPage(page, code), links: () => links };
}

for (const shared of [false, `login ${process.pid}`]) {
  test(`after a login the next socket opens, and others stay open, shared: ${shared !== false}`, async (t) => {
    const { result } = await inPage(t, { shared }, async () => {
      const other = new M.WebSocket("/test/echo");
      const results = [await outcome(other), await open("/test/secret/echo")];
      const errors = [];
      login();
      // A link for this is dialled at most once a second.
      while (await open("/test/secret/echo") !== "open");
      const secret = new M.WebSocket("/test/secret/echo");
      secret.addEventListener("error", () => errors.push("error"));
      results.push(await outcome(secret), await echo(secret), await echo(other));
      return [...results, ...errors];
    });
    assert.deepEqual(result, ["open", 1006, "open", "still here", "still here"]);
  });
}

test("all that are refused at once move together, in one new link", async (t) => {
  const { result, links } = await inPage(t, {}, async () => {
    const kept = new M.WebSocket("/test/echo");
    await outcome(kept);
    login();
    return Promise.all(Array.from({ length: 20 }, () => open("/test/secret/echo")));
  });
  assert.deepEqual(new Set(result), new Set(["open"]));
  assert.equal(links(), 2);
});

test("refusals cost few further links, and links that were left end", async (t) => {
  const { result, links } = await inPage(t, {}, async () => {
    const kept = new M.WebSocket("/test/echo");
    await outcome(kept);
    const begun = performance.now();
    const results = [];
    for (let n = 0; n < 30; n++) results.push(await open("/test/secret/echo"));
    return [results, Math.ceil((performance.now() - begun) / 1000), await echo(kept), M.readyState];
  });
  const [results, seconds, echoed, state] = result;
  assert.deepEqual(new Set(results), new Set([1006]));
  assert.equal(echoed, "still here");
  assert.equal(state, 1);
  assert.ok(links() <= 1 + seconds, `${links()} links in ${seconds} s`);
});

test("other refusals, and those of the first task, are not tried again", async (t) => {
  const { result, links } = await inPage(t, {}, async () => {
    const first = [open("/test/secret/echo"), outcome(new M.WebSocket("/test/echo"))];
    return [...await Promise.all(first), await open("/test/nowhere")];
  });
  assert.deepEqual(result, [1006, "open", 1006]);
  assert.equal(links(), 1);
});

test("reconnect() has the next socket use a new handshake, also after a logout", async (t) => {
  const { result, links } = await inPage(t, {}, async () => {
    const closes = [];
    M.addEventListener("close", () => closes.push("close"));
    login();
    const first = new M.WebSocket("/test/secret/echo");
    const results = [await outcome(first)];
    logout();
    M.reconnect();
    M.reconnect();
    results.push(await open("/test/secret/echo"), await open("/test/echo"), await echo(first));
    return [...results, closes.length];
  });
  assert.deepEqual(result, ["open", 1006, "open", "still here", 0]);
  assert.ok(links() === 2 || links() === 3, `${links()} links`);
});

// Cookies of the answer to an open are the browser's before the page sees the answer, as natively: of accepted and refused opens, in the
// order of the opens, also those that no script may read.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { runInPage, startWorld } from "../harness/index.js";

const world = await startWorld({ kind: "test" });
after(() => world.close());
const { server, browser } = world;

const KINDS = ["native", "virtual", `shared ${process.pid}`];

/**
 * Runs a function in a page with separate cookies. There, `socket(path)` opens one of the kind, `setting(cookies, more)` one whose
 * answer sets cookies, and `events(socket)` has its events until `open` or `close`, with `document.cookie` at that time.
 * Returns the result, the browser's cookies, and the requests for cookies.
 */
async function inPage(t, kind, code, prepare = async () => {}) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const requests = [];
  page.on("request", (request) => request.method() === "POST" && requests.push(request.url()));
  await prepare(page);
  await page.goto(`${server.origin}/`);
  await runInPage(page, async (kind) => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.M = new MultiWebSocket("/multiplexer", { shared: kind.startsWith("shared") && kind });
    globalThis.socket = (path) => new (kind === "native" ? WebSocket : M.WebSocket)(path);
    globalThis.setting = (cookies, more = "") =>
      socket(`/report/set-cookie?${cookies.map((cookie) => `set=${encodeURIComponent(cookie)}&`).join("")}${more}`);
    globalThis.events = (socket) => new Promise((resolve) => {
      const log = [];
      const see = (type) => (event) => {
        log.push([type, event.data ?? event.code ?? null, document.cookie]);
        if (type === "message" || type === "close") resolve(log);
      };
      for (const type of ["open", "error", "close", "message"]) socket.addEventListener(type, see(type));
    });
    /** The cookies that a handler sees. */
    globalThis.sent = async () => {
      const headers = socket("/report/headers");
      const text = await new Promise((resolve) => (headers.onmessage = ({ data }) => resolve(data)));
      headers.close();
      return (new Map(JSON.parse(text)).get("cookie") ?? "").split("; ").sort();
    };
  }, kind);
  const result = await runInPage(page, code);
  const stored = (await context.cookies()).map(({ name, value, path, httpOnly, sameSite, expires }) =>
    ({ name, value, path, httpOnly, sameSite, isKept: expires > 0 }));
  return { result, stored: stored.sort((one, other) => (one.name < other.name ? -1 : 1)), requests };
}

/** Runs a function with each kind of socket, and expects the same result and cookies of all. */
async function alike(t, code) {
  const [native, ...others] = [await inPage(t, KINDS[0], code), await inPage(t, KINDS[1], code), await inPage(t, KINDS[2], code)];
  for (const { result, stored } of others) assert.deepEqual({ result, stored }, { result: native.result, stored: native.stored });
  return native;
}

test("an accepted open sets cookies before `open`, and the next socket sends them", async (t) => {
  const { result, stored } = await alike(t, async () => {
    const log = await events(setting(["plain=1; Path=/", "hidden=2; Path=/; HttpOnly; SameSite=Strict", "kept=3; Path=/; Max-Age=600"]));
    return [log, await sent()];
  });
  const [log, cookies] = result;
  assert.deepEqual(log.map(([type, value]) => [type, value]), [["open", null], ["message", "after"]]);
  assert.match(log[0][2], /plain=1/);
  assert.deepEqual(cookies, ["hidden=2", "kept=3", "plain=1"]);
  assert.equal(stored.length, 3);
});

test("a refused open sets cookies before `error`", async (t) => {
  const { result } = await alike(t, async () => {
    return [await events(setting(["refused=401; Path=/"], "status=401")), await sent()];
  });
  assert.deepEqual(result, [[["error", null, "refused=401"], ["close", 1006, "refused=401"]], ["refused=401"]]);
});

test("any refusal sets cookies, as the standard has it and Chromium has not", async (t) => {
  const { result } = await inPage(t, "virtual", async () => {
    for (const status of [403, 404, 500]) await events(setting([`refused${status}=1; Path=/`], `status=${status}`));
    return sent();
  });
  assert.deepEqual(result, ["refused403=1", "refused404=1", "refused500=1"]);
});

test("a cookie without a path, with other paths, that deletes, of other attributes", async (t) => {
  const { stored } = await alike(t, async () => {
    const until = [];
    for (const cookies of [
      ["none=1", "empty=1; Path=", "relative=1; path=report", "below=1; Path=/report", "other=1; Path=/elsewhere"],
      ["gone=1; Path=/", "changed=1; Path=/"],
      ["gone=; Path=/; Max-Age=0", "changed=2; Path=/; Expires=Fri, 01 Jan 2100 00:00:00 GMT"],
      ["=nameless; Path=/", "value with spaces=a b; Path=/", "foreign=1; Domain=example.org; Path=/", "secure=1; Secure; Path=/; SameSite=None"],
    ]) until.push(...await events(setting(cookies)));
    return until.map(([type, value]) => [type, value]);
  });
  const paths = Object.fromEntries(stored.map(({ name, path }) => [name, path]));
  assert.deepEqual([paths.none, paths.empty, paths.relative, paths.other], ["/report", "/report", "/report", "/elsewhere"]);
  assert.ok(!("gone" in paths) && !("foreign" in paths));
});

test("with many at once, the last open's cookie counts, and few requests are made", async (t) => {
  for (const kind of KINDS.slice(1)) {
    const { result, stored, requests } = await inPage(t, kind, async () => {
      const sockets = Array.from({ length: 100 }, (_, n) => setting([`rolling=${n}; Path=/; HttpOnly`]));
      const logs = await Promise.all(sockets.map(events));
      return [logs.map((log) => log.map(([type]) => type).join()), await sent()];
    });
    const [logs, cookies] = result;
    assert.deepEqual(new Set(logs), new Set(["open,message"]));
    assert.equal(stored.length, 1);
    // The answers come in the order in which the handlers answer; the next socket sends the browser's cookies.
    assert.deepEqual(cookies, [`rolling=${stored[0].value}`]);
    if (kind === "virtual") assert.ok(requests.length > 0 && requests.length <= 50, `${requests.length} requests`);
  }
});

test("one after the other, the last open's cookie counts", async (t) => {
  const { stored } = await alike(t, async () => {
    for (let n = 0; n < 5; n++) await events(setting([`rolling=${n}; Path=/`]));
    return sent();
  });
  assert.deepEqual(stored.map(({ value }) => value), ["4"]);
});

test("a socket that the page closes meanwhile fails, as natively", async (t) => {
  for (const kind of KINDS) {
    // Whether the browser still gets the cookie is a matter of time, natively too.
    const { result } = await inPage(t, kind, async () => {
      const closed = setting(["closed=1; Path=/"]);
      const log = events(closed);
      closed.close();
      return (await log).map(([type, value]) => [type, value]);
    });
    assert.deepEqual(result, [["error", null], ["close", 1006]], kind);
  }
});

test("a request for cookies that fails holds nothing up for long, and none is made without cookies", async (t) => {
  const blocked = await inPage(t, "virtual", async () => {
    const log = await events(setting(["lost=1; Path=/"]));
    const echoing = setting([]);
    const echoes = await events(echoing);
    return [log, echoes].map((log) => log.map(([type]) => type).join());
  }, (page) => page.route(/\/multiplexer\?/, (route) => route.abort()));
  assert.deepEqual(blocked.result, ["open,message", "open,message"]);
  assert.deepEqual(blocked.stored, []);
  const without = await inPage(t, "virtual", async () => (await events(setting([]))).map(([type]) => type));
  assert.deepEqual([without.result, without.requests], [["open", "message"], []]);
});

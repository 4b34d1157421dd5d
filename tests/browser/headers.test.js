// Headers of an open reach the handler, or the open is refused; they never travel in a URL.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { runInPage, startWorld } from "../harness/index.js";

const world = await startWorld({ kind: "test" });
after(() => world.close());
const { server, browser } = world;

/** Runs a function in a page that has `M`, `seen` (the headers that a handler sees, or the code of the close) and `thrown`. */
async function inPage(t, options, code) {
  const page = await browser.newPage();
  t.after(() => page.close());
  const urls = [];
  page.on("websocket", (socket) => urls.push(socket.url()));
  const lines = [];
  page.on("console", (message) => lines.push(message.text()));
  await page.goto(`${server.origin}/`);
  await runInPage(page, async (options) => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.M = new MultiWebSocket("/multiplexer", options);
    globalThis.seen = (socket) => new Promise((resolve) => {
      socket.onmessage = ({ data }) => resolve(Object.fromEntries(typeof data === "string" ? JSON.parse(data) : data));
      socket.onclose = ({ code }) => resolve(code);
    });
    globalThis.thrown = (make) => {
      try {
        make();
      } catch (error) {
        return error.name;
      }
      return "nothing";
    };
  }, options);
  const result = await runInPage(page, code);
  return { result, urls, lines };
}

for (const shared of [false, true]) {
  test(`headers of sockets, shared: ${shared}`, async (t) => {
    const { result, urls } = await inPage(t, { shared }, async () => {
      const open = (headers, Class = M.WebSocket) => seen(new Class("/report/headers", { headers }));
      const all = [
        await open({ Authorization: "Bearer a: b=", "X-Api-Key": "k" }),
        await open([["x-list", "1"], ["X-List", "2"], ["x-empty", ""]]),
        await open(new Headers({ Authorization: "Bearer c", "X-Latin": "é" })),
        await open({ Authorization: "Bearer d" }, M.RelativeWebSocket),
        await open({ Authorization: "Bearer e" }, M.JsonWebSocket),
        await open(undefined),
        // The server says no.
        await open({ "X-User": "eve" }),
        await open(Object.fromEntries(Array.from({ length: 65 }, (_, n) => [`x-${n}`, "x"]))),
      ];
      const offers = new M.WebSocket("/report/headers", { protocols: ["a", "b"], headers: { "x-a": "1" } });
      return [all, await seen(offers)];
    });
    const [all, offers] = result;
    const [own, list, object, relative, json, none, ...refused] = all;
    assert.deepEqual([own.authorization, own["x-api-key"]], ["Bearer a: b=", "k"]);
    assert.deepEqual([list["x-list"], list["x-empty"]], ["1, 2", ""]);
    assert.equal(object.authorization, "Bearer c");
    assert.equal(relative.authorization, "Bearer d");
    assert.equal(json.authorization, "Bearer e");
    assert.equal(none.authorization, undefined);
    assert.deepEqual(refused, [1006, 1006]);
    // The handler chooses no subprotocol, which fails a socket that offers some.
    assert.equal(offers, 1006);
    for (const url of urls) {
      const batch = Buffer.from(new URL(url).searchParams.get("manysocket") ?? "", "base64url").toString("latin1");
      assert.ok(!/bearer|x-api-key/i.test(batch), "a header travels in the URL");
    }
  });
}

test("headers that cannot be set are refused at once", async (t) => {
  const { result, lines } = await inPage(t, {}, async () => {
    const of = (headers) => thrown(() => new M.WebSocket("/report/headers", { headers }));
    const forbidden = ["Host", "Origin", "Cookie", "Sec-WebSocket-Key", "Connection", "Upgrade", "TE", "Transfer-Encoding", "X-Forwarded-For", "Forwarded", "Proxy-Authorization"];
    const elsewhere = new URL("/report/headers", location.href);
    elsewhere.hostname = elsewhere.hostname === "localhost" ? "127.0.0.1" : "localhost";
    return {
      forbidden: forbidden.map((name) => of({ [name]: "x" })),
      invalid: [of({ "a b": "x" }), of({ a: "x\ny" }), of({ a: "€" }), of("a"), of([["a"]])],
      // As natively, any other object is a subprotocol.
      subprotocols: [thrown(() => new M.WebSocket("/x", {})), thrown(() => new WebSocket("/x", {}))],
      elsewhere: await seen(new M.WebSocket(elsewhere, { headers: { a: "b" } })),
    };
  });
  assert.deepEqual(new Set(result.forbidden), new Set(["SyntaxError"]));
  assert.deepEqual(new Set(result.invalid), new Set(["TypeError"]));
  assert.deepEqual(result.subprotocols, ["SyntaxError", "SyntaxError"]);
  assert.equal(result.elsewhere, 1006, "a native socket has no headers");
  assert.ok(lines.some((line) => line.includes("only sockets on a link have headers")), lines.join("\n"));
});

test("a function gives the headers of each socket", async (t) => {
  const { result } = await inPage(t, {}, async () => {
    const authorization = async (init) => {
      const headers = await seen(new M.WebSocket("/report/headers", init));
      return headers.authorization ?? headers;
    };
    let count = 0;
    M.headers(async () => ({ Authorization: `Bearer ${++count}` }));
    const results = [await authorization(), await authorization(), await authorization({ headers: { authorization: "Bearer own" } })];
    M.headers(() => ({ Authorization: "Bearer at once" }));
    results.push(await authorization());
    for (const wrong of [() => Promise.reject(new Error("no token")), () => ({ Host: "x" }), () => 5]) {
      M.headers(wrong);
      results.push(await authorization());
    }
    M.headers(async () => ({}));
    const closed = new M.WebSocket("/report/headers");
    closed.close();
    results.push(await seen(closed));
    M.headers(null);
    results.push(await authorization() instanceof Object);
    return results;
  });
  assert.deepEqual(result, ["Bearer 1", "Bearer 2", "Bearer own", "Bearer at once", 1006, 1006, 1006, 1006, true]);
});

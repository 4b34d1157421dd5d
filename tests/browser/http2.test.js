// HTTP/2: Chromium has a page, its files, its link and its native sockets on one connection (RFC 8441).
import assert from "node:assert/strict";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { firefox, startFirefox } from "../harness/firefox.js";
import { makeCertificate, makeSite, removeSite, repository, runInPage, startBrowser, startRelay, startServer, until } from "../harness/index.js";

const folder = await mkdtemp(join(tmpdir(), "manysocket-tls-"));
const site = await makeSite();
const server = await startServer(site, { more: makeCertificate(folder) });
const browser = await startBrowser();

after(async () => {
  await browser.close();
  await server.stop();
  await removeSite(site);
  await rm(folder, { recursive: true });
});

/** The case whose last native message Chromium 156 may keep: over HTTP/2, an empty one after a Blob waits for the next. */
const KEPT = "sending: bufferedAmount rises by UTF-8 bytes at once";

/** Opens a page behind a relay, which counts connections; `sockets` has the handshakes that the browser reports. */
async function open() {
  const relay = await startRelay(server.origin);
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  const inspector = await context.newCDPSession(page);
  const sockets = [];
  inspector.on("Network.webSocketHandshakeResponseReceived", ({ response }) => sockets.push(response));
  const files = [];
  inspector.on("Network.responseReceived", ({ response }) => files.push(response.protocol));
  await inspector.send("Network.enable");
  await page.goto(`https://localhost:${new URL(relay.origin).port}/`);
  return { relay, context, page, sockets, files };
}

test("the link and native sockets use the connection of the page", async () => {
  const { relay, context, page, sockets, files } = await open();
  await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.M = new MultiWebSocket("/multiplexer");
    globalThis.next = (socket, type) => new Promise((resolve) => socket.addEventListener(type, resolve, { once: true }));
    globalThis.opened = async (socket) => {
      await next(socket, "open");
      return socket;
    };
  });
  const before = relay.connections;
  const echoes = await runInPage(page, async () => {
    const url = new URL("/demo/echo", location).href.replace("https", "wss");
    globalThis.all = await Promise.all([M.WebSocket, M.WebSocket, WebSocket, WebSocket].map((Class) => opened(new Class(url))));
    const echoes = [];
    for (const [index, socket] of all.entries()) {
      socket.binaryType = "arraybuffer";
      socket.send(`socket ${index}`);
      echoes.push((await next(socket, "message")).data);
      socket.send(new Uint8Array(1 << 20));
      echoes.push((await next(socket, "message")).data.byteLength);
    }
    await fetch("/demo/stats");
    return echoes;
  });
  assert.deepEqual(echoes, [0, 1, 2, 3].flatMap((index) => [`socket ${index}`, 1 << 20]));
  assert.equal(relay.connections, before, "no further connection");
  // One for the link, and one for each native socket.
  assert.equal(sockets.length, 3);
  for (const { status, headers } of sockets) {
    assert.equal(status, 200);
    assert.ok(!Object.keys(headers).some((name) => /^(upgrade|connection|sec-websocket-accept)$/i.test(name)), "no upgrade");
  }
  assert.equal(sockets.filter(({ headers }) => headers["sec-websocket-protocol"] === "manysocket.v1").length, 1);
  assert.ok(files.length >= 3 && files.every((protocol) => protocol === "h2"), `${files}`);

  // Closes pass in both directions.
  const closes = await runInPage(page, () => Promise.all(all.map(async (socket, index) => {
    const closed = next(socket, "close");
    socket.close(4000 + index, "enough");
    const { code, reason, wasClean } = await closed;
    return [code, reason, wasClean];
  })));
  assert.deepEqual(closes, [0, 1, 2, 3].map((index) => [4000 + index, "enough", true]));
  await context.close();
  relay.close();
});

test("links over HTTP use it, too, and more than six of them", async () => {
  const { relay, context, page, files } = await open();
  const before = relay.connections;
  const seen = await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    return Promise.all(Array.from({ length: 8 }, async (_, n) => {
      const M = new MultiWebSocket(`/multiplexer?link=${n}`, { carriers: ["http"] });
      const socket = new M.WebSocket("/demo/echo");
      await new Promise((resolve) => socket.addEventListener("open", resolve));
      socket.send(`socket ${n}`);
      const { data } = await new Promise((resolve) => socket.addEventListener("message", resolve));
      return [M.carrier, data];
    }));
  });
  assert.deepEqual(seen, Array.from({ length: 8 }, (_, n) => ["http-stream", `socket ${n}`]));
  assert.equal(relay.connections, before, "no further connection");
  assert.ok(files.every((protocol) => protocol === "h2"), `${files}`);
  await context.close();
  relay.close();
});

test("virtual and native sockets are alike over HTTP/2", async (t) => {
  const parity = await makeSite();
  t.after(() => removeSite(parity));
  await cp(join(repository, "tests/parity"), join(parity, "parity"), { recursive: true });
  const cases = await startServer(parity, { kind: "test", more: makeCertificate(folder) });
  t.after(() => cases.stop());
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  await page.goto(cases.origin.replace("127.0.0.1", "localhost"));
  const results = await runInPage(page, async () => (await import("/parity/main.js")).default);
  assert.ok(results.length >= 200, `${results.length} cases`);
  for (const [name, native, virtual] of results) {
    await t.test(name, () => {
      if (name === KEPT) return assert.equal(virtual.at(-1), "finished");
      assert.equal(native.at(-1), "finished", "the case itself is sound");
      assert.deepEqual(virtual, native);
    });
  }
  await context.close();
});

test("refusals are those of HTTP/1.1", async () => {
  const { relay, context, page } = await open();
  const events = await runInPage(page, async () => {
    const refused = (path) => new Promise((resolve) => {
      const socket = new WebSocket(new URL(path, location).href.replace("https", "wss"));
      const events = [];
      for (const type of ["open", "error"]) socket.addEventListener(type, () => events.push(type));
      socket.addEventListener("close", ({ code }) => resolve([...events, code]));
    });
    // A path that is not there, a file, a page, and a multiplexer that is not asked for its subprotocol.
    return Promise.all(["/none", "/pkg/index.js", "/", "/multiplexer"].map(refused));
  });
  assert.deepEqual(events, [0, 1, 2, 3].map(() => ["error", 1006]));
  await context.close();
  relay.close();
});

test("a link that loses its connection resumes over another one", async () => {
  const { relay, context, page, sockets } = await open();
  await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.M = new MultiWebSocket("/multiplexer");
    globalThis.echo = new M.WebSocket("/demo/echo");
    globalThis.closes = 0;
    globalThis.resumed = new Promise((resolve) => M.addEventListener("resumed", resolve));
    echo.addEventListener("close", () => closes++);
    globalThis.heard = (text) => new Promise((resolve) => echo.addEventListener("message", ({ data }) => data === text && resolve()));
    await new Promise((resolve) => echo.addEventListener("open", resolve));
    const ready = heard("ready");
    echo.send("ready");
    await ready;
  });
  relay.cut();
  const answer = await runInPage(page, async () => {
    const through = heard("through the gap");
    echo.send("through the gap");
    await Promise.all([through, resumed]);
    return closes;
  });
  assert.equal(answer, 0);
  await until("the second handshake", () => sockets.length === 2);
  // Without a page's connection beside it, Chromium dials with HTTP/1.1.
  assert.deepEqual(sockets.map(({ status }) => status), [200, 101]);
  await context.close();
  relay.close();
});

test("a server that stops closes the sockets of its links", async () => {
  const stopping = await startServer(site, { more: makeCertificate(folder) });
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  await page.goto(stopping.origin.replace("127.0.0.1", "localhost"));
  await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.socket = new (new MultiWebSocket("/multiplexer").WebSocket)("/demo/echo");
    await new Promise((resolve) => socket.addEventListener("open", resolve));
    globalThis.ended = new Promise((resolve) => socket.addEventListener("close", ({ code }) => resolve(code)));
  });
  const stopped = stopping.stop();
  assert.equal(await runInPage(page, () => ended), 1001);
  assert.equal(await stopped, 0);
  await context.close();
});

test("in Firefox", { skip: firefox === null && "Firefox is not installed" }, async () => {
  const relay = await startRelay(server.origin);
  const other = await startFirefox();
  const page = await other.openPage(`https://localhost:${new URL(relay.origin).port}/`);
  await page.evaluate(() => import("/pkg/index.js").then(() => {}));
  const before = relay.connections;
  const answers = await page.evaluate(async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer");
    const answers = [];
    for (const Class of [M.WebSocket, WebSocket, M.WebSocket, WebSocket]) {
      const socket = new Class(new URL("/demo/echo", location).href.replace("https", "wss"));
      answers.push(await new Promise((resolve) => {
        socket.addEventListener("open", () => socket.send("hello"));
        for (const type of ["message", "close"]) socket.addEventListener(type, ({ data, code }) => resolve(data ?? code));
      }));
    }
    return answers;
  });
  assert.deepEqual(answers, ["hello", "hello", "hello", "hello"]);
  assert.equal(relay.connections, before, "no further connection");
  await other.close();
  relay.close();
});

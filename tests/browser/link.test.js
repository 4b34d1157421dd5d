// The life of the physical connection, and the effect of its end on the sockets over it.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { WebSocketServer } from "ws";
import { runInPage, startServer, startWorld, until } from "../harness/index.js";

const world = await startWorld();
after(() => world.close());

test("it is dialled at the first socket, kept while one is open, closed when idle, and dialled again", async () => {
  const page = await world.openPage();
  const states = await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = MultiWebSocket("/multiplexer", { idleTimeout: 100 });
    const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
    const states = [M.readyState];
    const closed = new Promise((resolve) => M.addEventListener("close", resolve));
    const first = new M.WebSocket("/demo/echo");
    states.push(M.readyState);
    await new Promise((resolve) => (first.onopen = resolve));
    states.push(M.readyState, M.size);
    await wait(400);
    states.push(M.readyState);
    first.close();
    states.push((await closed).code, M.readyState, M.size);
    const second = M.WebSocket("/demo/echo");
    await new Promise((resolve) => (second.onopen = resolve));
    states.push(M.readyState, second instanceof M.WebSocket);
    return states;
  });
  assert.deepEqual(states, [3, 0, 1, 1, 1, 1000, 3, 0, 1, true]);
  await page.close();
});

test("when its server dies in the middle of traffic, every socket gets close 1006 once; the next one works again", async () => {
  let server = await startServer(world.site, {});
  const { host } = new URL(server.origin);
  const page = await world.browser.newPage();
  const uncaught = [];
  page.on("pageerror", (error) => uncaught.push(error.message));
  await page.goto(server.origin);
  await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.M = new MultiWebSocket("/multiplexer");
    globalThis.events = [];
    globalThis.echoes = 0;
    globalThis.sockets = Array.from({ length: 100 }, (_, n) => {
      const socket = new M.WebSocket("/demo/echo");
      socket.onopen = () => socket.send(`${n}`);
      socket.onmessage = ({ data }) => {
        echoes++;
        socket.send(data);
      };
      socket.onerror = () => events.push("error");
      socket.onclose = ({ code, wasClean }) => events.push(`${n} ${code} ${wasClean} ${socket.readyState}`);
      return socket;
    });
  });
  await until("traffic", () => runInPage(page, () => echoes > 2000));
  await server.kill();
  // It has forgotten the link.
  server = await startServer(world.site, { listen: host });
  await until("all closes", () => runInPage(page, () => events.length >= 100));
  await page.waitForTimeout(200);
  const closes = (await runInPage(page, () => events)).filter((event) => event !== "error");
  assert.deepEqual(closes.sort(), Array.from({ length: 100 }, (_, n) => `${n} 1006 false 3`).sort());

  assert.deepEqual(uncaught, [], "handlers that send on a socket whose link is gone see nothing of it");

  const echoed = await runInPage(page, async () => {
    const socket = new M.WebSocket("/demo/echo");
    await new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onclose: reject }));
    socket.send("works again");
    return new Promise((resolve) => (socket.onmessage = ({ data }) => resolve(data)));
  });
  assert.equal(echoed, "works again");
  await page.close();
  await server.stop();
});

test("a link that cannot be made fails every socket, as native does", async () => {
  const page = await world.openPage();
  const events = await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const seen = async (socket) => {
      const events = [];
      socket.onerror = () => events.push("error");
      const { code } = await new Promise((resolve) => (socket.onclose = resolve));
      return [...events, code];
    };
    const M = new MultiWebSocket("/no/multiplexer/here", { jail: "/" });
    return Promise.all([seen(new WebSocket("/no/multiplexer/here")), seen(new M.WebSocket("/demo/echo")), seen(new M.WebSocket("/demo/echo"))]);
  });
  assert.deepEqual(events, [["error", 1006], ["error", 1006], ["error", 1006]]);
  await page.close();
});

test("a silent link is kept; one that is dead is found out, and its sockets fail", async () => {
  const interval = 300;
  const server = await startServer(world.site, { kind: "test", more: ["--ping-interval", String(interval)] });
  const page = await world.browser.newPage();
  await page.goto(server.origin);
  await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer", { resume: false });
    globalThis.socket = new M.WebSocket("/test/echo");
    globalThis.events = [];
    for (const type of ["open", "error", "close"]) socket.addEventListener(type, ({ code }) => events.push(code ?? type));
    await new Promise((resolve) => socket.addEventListener("open", resolve));
  });
  await page.waitForTimeout(10 * interval);
  assert.deepEqual(await runInPage(page, () => events), ["open"], "pings keep it");
  server.pause();
  // After two intervals and ten seconds of grace: protocol/tests/ has the time.
  await until("the end", () => runInPage(page, () => events.length === 3));
  assert.deepEqual(await runInPage(page, () => events), ["open", "error", 1006]);
  server.resume();
  await page.close();
  await server.stop();
});

test("a page that leaves takes its channels with it", async () => {
  await until("the end of others' channels", async () => (await world.server.stats()).virtual === 0);
  const page = await world.openPage();
  await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer");
    const sockets = Array.from({ length: 20 }, () => new M.WebSocket("/demo/echo"));
    await Promise.all(sockets.map((socket) => new Promise((resolve) => (socket.onopen = resolve))));
  });
  assert.equal((await world.server.stats()).virtual, 20);
  await page.close();
  await until("their end", async () => (await world.server.stats()).virtual === 0);
});

test("on SIGTERM the server closes every socket with 1001", async () => {
  const server = await startServer(world.site, {});
  const page = await world.browser.newPage();
  await page.goto(server.origin);
  await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer");
    const sockets = Array.from({ length: 5 }, () => new M.WebSocket("/demo/echo"));
    globalThis.allClosed = Promise.all(
      sockets.map((socket) => new Promise((resolve) => (socket.onclose = ({ code, wasClean }) => resolve(`${code} ${wasClean}`)))),
    );
    await Promise.all(sockets.map((socket) => new Promise((resolve) => (socket.onopen = resolve))));
  });
  assert.equal(await server.stop(), 0);
  assert.deepEqual(await runInPage(page, () => allClosed), Array(5).fill("1001 true"));
  await page.close();
});

test("a close reason of more than 123 bytes is a breach of the protocol, however few characters it has", async (t) => {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  t.after(() => server.close());
  server.on("connection", (socket) => {
    // HELLO, ACCEPT and CLOSE of channel 1 (docs/protocol.md §5), with 62 characters, 124 bytes, of text.
    const headers = [0x0b, 0, 0x17, 0, 0x19, 0xe8, 0x07, 62];
    socket.send(Buffer.concat([Buffer.from([headers.length, 124, ...headers]), Buffer.from("é".repeat(62))]));
  });
  const page = await world.openPage();
  const printed = [];
  page.on("console", (message) => printed.push(message.text()));
  const [opened, { code, reason }] = await runInPage(page, async (port) => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket(`ws://127.0.0.1:${port}/multiplexer`);
    const socket = new M.WebSocket(`ws://127.0.0.1:${port}/x`);
    let opened = false;
    socket.onopen = () => (opened = true);
    const { code, reason } = await new Promise((resolve) => (socket.onclose = resolve));
    return [opened, { code, reason }];
  }, server.address().port);
  assert.deepEqual([opened, code, reason], [true, 1006, ""]);
  assert.ok(printed.some((line) => line.includes("rule 24")), printed.join("\n"));
  await page.close();
});

test("the multiplexer's query is sent as the page wrote it, with the first batch behind it", async () => {
  const page = await world.openPage();
  const dialled = page.waitForEvent("websocket");
  await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer?token=a~b/c%20d&flag");
    new M.WebSocket("/demo/echo");
  });
  assert.match((await dialled).url(), /\/multiplexer\?token=a~b\/c%20d&flag&manysocket-nonce=[\de.-]+&manysocket=[\w-]+$/);
  await page.close();
});

for (const [what, options, provide] of [
  ["a dial", {}, null],
  ["the code of a shared link", { shared: true }, null],
  ["headers", {}, () => new Promise(() => {})],
]) {
  test(`sockets that wait for ${what}: close() of either ends them, and the next one opens`, async (t) => {
    const page = await world.openPage();
    t.after(() => page.close());
    const log = await page.evaluate(`(async (options, provide) => {
      const { MultiWebSocket } = await import("/pkg/index.js");
      const M = new MultiWebSocket("/multiplexer", options);
      M.headers(provide);
      const log = [];
      const open = (name, { WebSocket } = M) => {
        const socket = new WebSocket("/demo/echo");
        for (const type of ["open", "error", "close"]) socket.addEventListener(type, ({ code }) => log.push([name, type, code].filter(Boolean).join(" ")));
        return new Promise((resolve) => {
          socket.onopen = socket.onclose = () => resolve();
          if (name === "closed") socket.close();
        });
      };
      const [closed, left] = [open("closed"), open("left")];
      M.close();
      await Promise.all([closed, left]);
      M.headers(null);
      await open("next");
      return log;
    })(${JSON.stringify(options)}, ${provide})`);
    assert.deepEqual(log.toSorted(), ["closed close 1006", "closed error", "left close 1006", "left error", "next open"]);
  });
}

test("sockets that wait for the link's URL: close() of either ends them, and the next one opens", async (t) => {
  const page = await world.openPage();
  t.after(() => page.close());
  const log = await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const asked = [];
    const M = new MultiWebSocket(() => new Promise((resolve) => asked.push(resolve)));
    const log = [];
    const open = () => new Promise((resolve) => {
      const socket = new M.WebSocket(new URL("/demo/echo", location.href));
      socket.onopen = () => resolve("open");
      socket.onclose = ({ code }) => resolve(code);
      if (log.length === 0) socket.close();
    });
    log.push(await open());
    const left = open();
    M.close();
    log.push(await left);
    asked.forEach((resolve) => resolve("/multiplexer"));
    const next = open();
    setTimeout(() => asked.forEach((resolve) => resolve("/multiplexer")));
    log.push(await next);
    return log;
  });
  assert.deepEqual(log, [1006, 1006, "open"]);
});

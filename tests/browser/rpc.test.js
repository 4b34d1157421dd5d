// Calls from a page: with a bare socket, with the client over native and virtual sockets, and the tank of the demo.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { makeSite, runInPage, startServer, startWorld, until } from "../harness/index.js";

const world = await startWorld({ site: await makeSite({ folders: ["www"] }) });
after(() => world.close());

/** Runs code in a fresh page, where `server` has the functions under /demo/rpc/. */
async function inPage(kind, code, argument) {
  const page = await world.openPage();
  await runInPage(page, async (kind) => {
    const { rpc, RpcError } = await import("/pkg/rpc.js");
    let Socket = WebSocket;
    if (kind === "virtual") {
      const { MultiWebSocket } = await import("/pkg/index.js");
      globalThis.M = new MultiWebSocket("/multiplexer");
      Socket = M.WebSocket;
    }
    /** The sockets that the client has made. */
    const sockets = [];
    const Counted = class extends Socket {
      constructor(...args) {
        super(...args);
        sockets.push(this);
      }
    };
    const failure = (promise) => promise.then((result) => ({ result }), ({ name, code, message, data }) => ({ name, code, message, data }));
    Object.assign(globalThis, { rpc, RpcError, sockets, Counted, failure, server: rpc("/demo/rpc/", { WebSocket: Counted }) });
  }, kind);
  const result = await runInPage(page, code, argument);
  assert.deepEqual(page.uncaught, []);
  await page.close();
  return result;
}

test("a bare WebSocket does it in ten lines, and no wasm is loaded for the client alone", async () => {
  const page = await world.openPage();
  const requests = [];
  page.on("request", (request) => requests.push(new URL(request.url()).pathname));
  const results = await runInPage(page, async () => {
    const ws = new WebSocket("/demo/rpc/add");
    const waiting = [];
    ws.onmessage = ({ data }) => waiting.shift()(JSON.parse(data));
    const add = (...args) => {
      ws.send(JSON.stringify(args));
      return new Promise((resolve) => waiting.push(resolve));
    };
    await new Promise((resolve) => (ws.onopen = resolve));
    const bare = await Promise.all([add(1, 2), add(0.5, -1), add(1)]);
    const { rpc } = await import("/pkg/rpc.js");
    return [...bare, await rpc("demo/rpc/add")(20, 22)];
  });
  assert.deepEqual(results.slice(0, 2), [{ result: 3 }, { result: -0.5 }]);
  assert.equal(results[2].error.message, "argument 2 (right) is missing: the function takes 2 arguments, and 1 came");
  assert.equal(results[3], 42);
  assert.deepEqual(requests.filter((path) => /index|wasm/.test(path)), []);
  await page.close();
});

for (const kind of ["native", "virtual"]) {
  test(`${kind}: functions and objects, one socket for each method`, async () => {
    const seen = await inPage(kind, async () => {
      // Made before any socket is open.
      const sums = await Promise.all([1, 2, 3].map((n) => server.add(n, 1)));
      const tank = await server.tank65;
      const { heading } = await tank.look();
      const turned = await tank.turn(47.9);
      return {
        sums,
        same: server.tank65 === tank,
        turned: Math.abs(turned.heading - ((heading + 47.9) % 360)) < 1e-9,
        urls: sockets.map(({ url }) => new URL(url).pathname),
        text: typeof `${Object(server.add)}`,
        direct: await rpc("/demo/rpc/add", { WebSocket: Counted })(1, 1),
      };
    });
    assert.deepEqual(seen, {
      sums: [2, 3, 4],
      same: true,
      turned: true,
      urls: ["/demo/rpc/add", "/demo/rpc/tank65/look", "/demo/rpc/tank65/turn"],
      text: "string",
      direct: 2,
    });
  });

  test(`${kind}: errors have the function's code, message and data; the server's own have an id that the log has`, async () => {
    const [own, wrong, panic, alive] = await inPage(kind, async () => [
      await failure(server.fail("no luck")),
      await failure(server.add("x", 2)),
      await failure(server.panic()),
      await server.add(1, 1),
    ]);
    assert.deepEqual(own, { name: "RpcError", code: "failed", message: "no luck", data: "as it was asked to" });
    assert.equal(wrong.code, "argument");
    assert.match(wrong.message, /^argument 1 \(left\): invalid type: string "x"/);
    assert.equal(panic.code, "internal");
    assert.doesNotMatch(JSON.stringify(panic), /as it was asked/);
    // The answer and the log line take different ways to this process.
    await until("the id in the log", () => world.server.output().includes(panic.data.id));
    assert.equal(alive, 2);
  });

  test(`${kind}: timeouts and signals reject one call; the answers of the others stay theirs`, async () => {
    const seen = await inPage(kind, async () => {
      const controller = new AbortController();
      const hasty = rpc(server, { timeout: 20 });
      const stoppable = rpc(server, { signal: controller.signal });
      const calls = [hasty.slow(1000), stoppable.slow(1), server.slow(3)].map(failure);
      controller.abort(new Error("enough"));
      const results = await Promise.all(calls);
      results.push(await failure(stoppable.slow(4)), await server.slow(5), sockets.length);
      return results;
    });
    assert.equal(seen[0].code, "timeout");
    assert.match(seen[0].message, /\/demo\/rpc\/slow did not answer within 20 ms$/);
    assert.equal(seen[1].message, "enough");
    assert.deepEqual(seen[2], { result: 3 });
    assert.equal(seen[3].message, "enough");
    assert.deepEqual(seen.slice(4), [5, 1]);
  });

  test(`${kind}: the server drops a call that is aborted or late, and the next one of its socket begins`, async () => {
    const seen = await inPage(kind, async () => {
      const controller = new AbortController();
      const calls = [rpc(server, { signal: controller.signal }).slow(10_000), rpc(server, { timeout: 20 }).slow(9_000)].map(failure);
      await server.add(1, 1);
      controller.abort(new Error("enough"));
      const first = Promise.race([server.slow(1), rpc("/demo/rpc/slow", { WebSocket: Counted, separate: true })(8_000)]);
      return { first: await first, failures: await Promise.all(calls) };
    });
    assert.equal(seen.first, 1);
    assert.equal(seen.failures[0].message, "enough");
    assert.equal(seen.failures[1].code, "timeout");
  });

  test(`${kind}: an idle socket is closed, and the next call opens another`, async () => {
    const seen = await inPage(kind, async () => {
      const add = rpc("/demo/rpc/add", { WebSocket: Counted, idleTimeout: 1 });
      const first = await add(1, 1);
      await new Promise((resolve) => sockets[0].addEventListener("close", resolve));
      return [first, await add(2, 2), sockets.length];
    });
    assert.deepEqual(seen, [2, 4, 2]);
  });

  test(`${kind}: a value that is no function rejects, and so does an unknown URL`, async () => {
    const [echo, nowhere] = await inPage(kind, async () => [
      await failure(rpc("/demo/echo", { WebSocket: Counted })(1)),
      await failure(server.nowhere()),
    ]);
    assert.equal(echo.code, "protocol");
    assert.equal(nowhere.code, "unreachable");
    assert.match(nowhere.message, /^cannot connect to ws:.*\/demo\/rpc\/nowhere.*The call was not sent$/);
  });
}

test("who asks for a URL twice gets one socket; the default is set once for all entries, and native sockets are told of once", async () => {
  const page = await world.openPage();
  const lines = [];
  page.on("console", (message) => lines.push(message.text()));
  const seen = await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const { rpc, setDefault } = await import("/pkg/rpc.js");
    const { state } = await import("/pkg/state.js");
    const M = new MultiWebSocket("/multiplexer");
    const Native = globalThis.WebSocket;
    const made = [];
    globalThis.WebSocket = class extends Native {
      constructor(url) {
        super(url);
        made.push(new URL(url).pathname);
      }
    };
    const sums = [await rpc("/demo/rpc/add")(1, 2), await rpc("/demo/rpc/add")(3, 4)];
    await rpc("/demo/rpc").tank65.look();
    await rpc(new URL("/demo/rpc/tank65/look#hash", location.href))();
    const shared = made.splice(0);
    await Promise.all([rpc("/demo/rpc/add", { separate: true })(1, 2), rpc("/demo/rpc/add", { separate: true })(1, 2)]);
    const separate = made.splice(0);
    (await state("/demo/state/default-native")).close();
    setDefault(M);
    sums.push(await rpc("/demo/rpc/add")(5, 6));
    sums.push((await rpc("/demo/rpc/tank65/").turn(0)) !== undefined);
    const sheet = await state("/demo/state/default");
    const virtual = M.size;
    setDefault(null);
    const explicit = await rpc("/demo/rpc/add", { WebSocket: Native })(7, 8);
    sheet.close();
    return { sums, shared, separate, virtual, explicit, native: made };
  });
  assert.deepEqual(seen.sums, [3, 7, 11, true]);
  assert.deepEqual(seen.shared, ["/demo/rpc/add", "/demo/rpc/tank65/look"]);
  assert.deepEqual(seen.separate, ["/demo/rpc/add", "/demo/rpc/add"]);
  // The first function still has its native socket from before the default was set.
  assert.equal(seen.virtual, 2);
  assert.deepEqual([seen.explicit, seen.native], [15, ["/demo/state/default-native"]]);
  assert.equal(lines.filter((line) => line.includes("setDefault(M)")).length, 1);
  await page.close();
});

test("a lost connection rejects what was in flight, sends nothing again, and the next call connects anew", async () => {
  const { port } = new URL(world.server.origin);
  for (const kind of ["native", "virtual"]) {
    const page = await world.openPage();
    await runInPage(page, async (kind) => {
      const { rpc } = await import("/pkg/rpc.js");
      const { MultiWebSocket } = await import("/pkg/index.js");
      const M = new MultiWebSocket("/multiplexer");
      const server = rpc("/demo/rpc/", { WebSocket: kind === "native" ? WebSocket : M.WebSocket });
      globalThis.server = server;
      await server.slow(0);
      globalThis.lost = Promise.all([server.slow(9000), server.slow(1)].map((call) => call.catch(({ code, message }) => ({ code, message }))));
    }, kind);
    await world.server.kill();
    world.server = await startServer(world.site, { listen: `127.0.0.1:${port}` });
    for (const { code, message } of await runInPage(page, () => globalThis.lost)) {
      assert.equal(code, "lost", kind);
      assert.match(message, /was lost before the answer came.*may have been done, or not$/);
    }
    assert.equal(await runInPage(page, () => server.slow(2)), 2, kind);
    await page.close();
  }
});

test("the tank: two windows see it move", async () => {
  const [driver, watcher] = [await world.openPage("/tank.html"), await world.openPage("/tank.html")];
  await watcher.waitForSelector("#readout[data-moves]");
  await driver.waitForSelector("#readout[data-moves]");
  const heading = async (page) => Number(/(\d+)°/.exec(await page.textContent("#readout"))[1]);
  const before = await heading(watcher);
  await driver.click("button[data-call=right]");
  await watcher.waitForFunction((before) => !document.querySelector("#readout").textContent.includes(`${before}°`), before);
  assert.equal((await heading(watcher) - before + 360) % 360, 15);
  await driver.click("button[data-call=far]");
  await driver.waitForFunction(() => document.querySelector("#log").textContent.includes("too-far"));
  for (const page of [driver, watcher]) {
    assert.deepEqual(page.uncaught, []);
    await page.close();
  }
});

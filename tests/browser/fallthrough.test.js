// Sockets that the multiplexer does not carry become native ones behind the same class. parity.test.js checks the class;
// these tests check which sockets are carried.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { runInPage, startServer, startWorld } from "../harness/index.js";

const world = await startWorld();
after(() => world.close());

/** Opens sockets of `url` after `url`, with a page's class, and returns how many of each kind the server then has. */
async function carried(t, server, multiplexer, options, urls) {
  const page = await world.browser.newPage();
  t.after(() => page.close());
  await page.goto(server.origin);
  const echoes = await runInPage(page, async ([multiplexer, options, urls]) => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.M = new MultiWebSocket(multiplexer, options);
    globalThis.Mine = class extends M.WebSocket {
      ask(question) {
        this.send(question);
        return new Promise((resolve) => (this.onmessage = ({ data }) => resolve(data)));
      }
    };
    globalThis.sockets = [];
    const ask = async (url) => {
      const socket = new Mine(url);
      sockets.push(socket);
      await new Promise((resolve, reject) => {
        socket.onopen = resolve;
        socket.onclose = () => reject(new Error(`${url} was closed`));
      });
      const kind = socket instanceof Mine && socket instanceof M.WebSocket && Object.getPrototypeOf(socket) === Mine.prototype;
      return `${kind} ${await socket.ask(url)}`;
    };
    return Promise.all(urls.map(ask));
  }, [multiplexer, options, urls]);
  assert.deepEqual(echoes, urls.map((url) => `true ${url}`));
  return server.stats();
}

async function shipped(t, ...more) {
  const server = await startServer(world.site, { more });
  t.after(() => server.stop());
  return server;
}

test("by default a multiplexer carries the URLs of its folder", async (t) => {
  const server = await shipped(t, "--multiplexer", "/demo/multiplexer");
  const stats = await carried(t, server, "/demo/multiplexer", {}, ["/demo/echo", "/demo/echo?a", "demo/echo"]);
  assert.deepEqual(stats, { physical: 1, native: 0, virtual: 3 });
});

test("a URL outside is native, and dials no multiplexer", async (t) => {
  const server = await shipped(t, "--multiplexer", "/dem/multiplexer");
  const stats = await carried(t, server, "/dem/multiplexer", {}, ["/demo/echo", "/demo/echo?b"]);
  assert.deepEqual(stats, { physical: 0, native: 2, virtual: 0 });
});

test("the option `jail` says that the server's jail is another", async (t) => {
  const server = await shipped(t, "--multiplexer", "/dem/multiplexer", "--jail", "/demo");
  for (const jail of ["/demo", "/demo/", "../demo"]) {
    const page = carried(t, server, "/dem/multiplexer", { jail }, ["/demo/echo"]);
    assert.deepEqual(await page, { physical: 1, native: 0, virtual: 1 });
    await world.browser.contexts().at(-1).close();
    while ((await server.stats()).physical > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  }
});

test("userinfo, which the protocol cannot carry, makes a socket native", async (t) => {
  const server = await shipped(t);
  const { host } = new URL(server.origin);
  const stats = await carried(t, server, "/multiplexer", {}, [`ws://ada:secret@${host}/demo/echo`, "/demo/echo"]);
  assert.deepEqual(stats, { physical: 1, native: 1, virtual: 1 });
});

test("an encoded separator, which the server refuses to see through, makes a socket native", async (t) => {
  const server = await shipped(t);
  const page = await world.browser.newPage();
  t.after(() => page.close());
  await page.goto(server.origin);
  const state = await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer");
    await new Promise((resolve) => (new M.WebSocket("/demo%2Fecho").onclose = resolve));
    return M.readyState;
  });
  assert.equal(state, 3, "no link was dialled");
});

test("with `fallback`, sockets become native where there is no multiplexer, those that wait and later ones", async (t) => {
  const server = await shipped(t);
  const stats = await carried(t, server, "/none", { fallback: true }, ["/demo/echo", "/demo/echo?c"]);
  assert.deepEqual(stats, { physical: 0, native: 2, virtual: 0 });
});

test("a server that is not there at all is asked for a multiplexer again", async (t) => {
  const first = await startServer(world.site);
  const { host } = new URL(first.origin);
  await first.kill();
  const page = await world.openPage();
  t.after(() => page.close());
  const open = (again) => runInPage(page, async ([host, again]) => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.M ??= new MultiWebSocket(`ws://${host}/multiplexer`, { fallback: true });
    const events = [];
    globalThis.socket = new M.WebSocket(`ws://${host}/demo/echo`);
    await new Promise((resolve) => {
      socket.onopen = () => resolve(events.push("open"));
      socket.onerror = () => events.push("error");
      socket.onclose = ({ code }) => resolve(events.push(code));
    });
    return events;
  }, [host, again]);
  assert.deepEqual(await open(), ["error", 1006]);
  const second = await startServer(world.site, { listen: host, more: ["--allow-origin", world.server.origin] });
  t.after(() => second.stop());
  assert.deepEqual(await open(), ["open"]);
  assert.deepEqual(await second.stats(), { physical: 1, native: 0, virtual: 1 });
});

test("neither a link that is closed while it is dialled nor one that breaks falls back", async (t) => {
  const server = await startServer(world.site);
  const page = await world.browser.newPage();
  t.after(() => page.close());
  await page.goto(server.origin);
  const early = await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.M = new MultiWebSocket("/multiplexer", { fallback: true, resume: false });
    const socket = new M.WebSocket("/demo/echo");
    M.close();
    const events = [];
    socket.onerror = () => events.push("error");
    await new Promise((resolve) => (socket.onclose = ({ code }) => resolve(events.push(code))));
    globalThis.second = new M.WebSocket("/demo/echo");
    await new Promise((resolve) => (second.onopen = resolve));
    globalThis.ended = new Promise((resolve) => (second.onclose = ({ code }) => resolve(code)));
    return events;
  });
  assert.deepEqual(early, ["error", 1006]);
  assert.deepEqual(await server.stats(), { physical: 1, native: 0, virtual: 1 });
  await server.kill();
  assert.equal(await runInPage(page, () => ended), 1006);
});

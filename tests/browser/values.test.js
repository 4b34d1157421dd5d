// Unusual arguments: extreme numbers, values that are no URLs, functions that return URLs, proxies that count their reads.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { runInPage, startFront, startWorld } from "../harness/index.js";

const world = await startWorld();
after(() => world.close());

async function pageAt(t, origin = world.server.origin) {
  const page = await world.browser.newPage();
  t.after(() => page.close());
  await page.goto(origin);
  await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const event = (target, type) => new Promise((resolve) => target.addEventListener(type, resolve, { once: true }));
    Object.assign(globalThis, { MultiWebSocket, event });
  });
  return page;
}

for (const shared of [false, true]) {
  test(`idleTimeout at its ends, ${shared ? "shared" : "alone"}`, async (t) => {
    const page = await pageAt(t);
    for (const [given, stays] of [["Infinity", true], ["2 ** 31", true], ["2 ** 53", true], ["2 ** 31 - 1", true], ["NaN", false], ["-1", false], ["-Infinity", false], ["0", false]]) {
      const state = await runInPage(page, async ([given, shared, stays]) => {
        const M = new MultiWebSocket("/multiplexer", { idleTimeout: (0, eval)(given), shared: shared && given });
        const socket = new M.WebSocket("/demo/echo");
        await event(socket, "open");
        const ended = event(M, "close");
        socket.close();
        await event(socket, "close");
        if (!stays) return (await ended).reason;
        // A timer of no milliseconds would have fired by then.
        for (let n = 0; n < 3; n++) await new Promise((resolve) => setTimeout(resolve, 20));
        const { readyState } = M;
        M.close();
        return readyState;
      }, [given, shared, stays]);
      assert.equal(state, stays ? 1 : "idle", given);
    }
  });
}

test("times of calls at their ends", async (t) => {
  const page = await pageAt(t);
  const outcomes = await runInPage(page, async () => {
    const { rpc } = await import("/pkg/rpc.js");
    const outcomes = {};
    for (const timeout of [3e9, Infinity, 2 ** 31, 2 ** 31 - 1, undefined, NaN, -5]) {
      outcomes[timeout] = await rpc("/demo/rpc/slow", { timeout })(50).catch(({ code }) => code);
    }
    let opens = 0;
    class Counted extends WebSocket {
      constructor(...args) {
        super(...args);
        opens++;
      }
    }
    for (const idleTimeout of [Infinity, 2 ** 40]) {
      const add = rpc(`/demo/rpc/add?${idleTimeout}`, { WebSocket: Counted, idleTimeout });
      for (let n = 0; n < 3; n++) {
        await add(1, 2);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
    return { outcomes, opens };
  });
  assert.deepEqual(outcomes, { outcomes: { 3e9: 50, Infinity: 50, [2 ** 31]: 50, [2 ** 31 - 1]: 50, undefined: 50, NaN: "timeout", "-5": "timeout" }, opens: 2 });
});

test("a value that is no URL is refused, and so is a missing one", async (t) => {
  const page = await pageAt(t);
  const names = await runInPage(page, () => {
    const attempt = (make) => {
      try {
        return make().url;
      } catch (error) {
        return `${error.name}: ${error.message}`;
      }
    };
    const wrong = [Promise.resolve("/multiplexer"), {}, null, undefined, 5, true, Symbol.iterator, new Map()];
    return {
      none: [() => new WebSocket(), () => new MultiWebSocket(), () => MultiWebSocket()].map(attempt),
      wrong: wrong.map((url) => attempt(() => new MultiWebSocket(url)).split(":")[0]),
      right: ["/m", new URL("/m", location), { toString: () => "/m" }, Object.assign(document.createElement("a"), { href: "/m" })].map((url) => attempt(() => new MultiWebSocket(url)).replace(/.*\//, "/")),
    };
  });
  assert.deepEqual(names.none.map((text) => text.replace("'MultiWebSocket'", "'WebSocket'")), Array(3).fill(names.none[0]));
  assert.deepEqual(names.wrong, names.wrong.map(() => "TypeError"));
  assert.deepEqual(names.right, ["/m", "/m", "/m", "/m"]);
});

test("a function is asked for the URL of each link", async (t) => {
  const front = await startFront(world.server.origin);
  t.after(() => front.stop());
  const page = await pageAt(t, front.origin);
  for (const [kind, shared] of [["sync", false], ["async", false], ["async", true]]) {
    const seen = await runInPage(page, async ([kind, shared]) => {
      let asked = 0;
      const next = () => `/multiplexer?token=${kind}-${shared}~${++asked}`;
      const M = new MultiWebSocket(kind === "sync" ? next : async () => next(), { shared });
      const before = [asked, M.url, M.readyState];
      const sockets = () => Array.from({ length: 3 }, () => new M.WebSocket("/demo/echo"));
      const echoes = async () => Promise.all(sockets().map(async (socket) => {
        await event(socket, "open");
        socket.send("x");
        return (await event(socket, "message")).data;
      }));
      const seen = [...(await echoes()), ...(await echoes()), asked];
      const closed = event(M, "close");
      M.close();
      await closed;
      return [before, [...seen, ...(await echoes()), asked, M.url.replace(/.*\?/, "")], M.close()];
    }, [kind, shared]);
    assert.deepEqual(seen, [[0, "", 3], [..."xxxxxx", 1, ..."xxx", 2, `token=${kind}-${shared}~2`], null].map((value) => value ?? undefined));
    const tokens = front.targets.filter((target) => target.includes(`${kind}-${shared}`)).map((target) => target.match(/~(\d)/)[1]);
    assert.equal(new Set(tokens).size, 2);
  }
  const failures = await runInPage(page, async () => {
    const failures = [];
    for (const give of [() => { throw new Error("no token"); }, async () => { throw new Error("no token"); }, () => null, async () => ({})]) {
      let asked = 0;
      const M = new MultiWebSocket(() => (asked++, give()));
      const sockets = [new M.WebSocket("/demo/echo"), new M.WebSocket("/demo/echo")];
      const codes = await Promise.all(sockets.map(async (socket) => (await event(socket, "close")).code));
      failures.push([...codes, asked]);
      // The next one asks again.
      await event(new M.WebSocket("/demo/echo"), "close");
      failures.at(-1).push(asked);
    }
    return failures;
  });
  assert.deepEqual(failures, Array(4).fill([1006, 1006, 1, 2]));
});

test("what frameworks ask of an object, a call's proxy answers as a function does", async (t) => {
  const page = await pageAt(t);
  const seen = await runInPage(page, async () => {
    const { rpc } = await import("/pkg/rpc.js");
    let opens = 0;
    class Counted extends WebSocket {
      constructor(...args) {
        super(...args);
        opens++;
      }
    }
    const api = rpc("/demo/rpc", { WebSocket: Counted });
    const plain = () => {};
    const names = ["then", "toJSON", "$$typeof", "__v_isRef", "__v_raw", "__v_skip", "_isMockFunction", "@@__IMMUTABLE_ITERABLE__@@", "$fastRefresh", "asymmetricMatch", "nodeType", "tagName", "prototype", "constructor", "length", "bind"];
    const odd = names.filter((name) => typeof api[name] !== typeof plain[name] && typeof api[name] === "function");
    // As Vue's markRaw, React's refresh and MobX do.
    Object.defineProperty(api, "__v_skip", { value: true });
    api[Symbol("mark")] = 1;
    api._debug = 1;
    const texts = [JSON.stringify({ api }), `${api}`.startsWith("function"), Object.keys(api).filter((name) => name !== "_debug").length, api instanceof Function, structuredCloneFails(api), (await Promise.resolve(api)) === api];
    function structuredCloneFails(value) {
      try {
        structuredClone(value);
        return false;
      } catch ({ name }) {
        return name;
      }
    }
    const outer = new Proxy(api, {});
    return { odd, texts, skip: api.__v_skip, opens, sum: await outer.add(1, 2), bound: await api.add.bind(null, 1)(2), called: await api.add.call(null, 2, 2), again: opens };
  });
  assert.deepEqual(seen, { odd: [], texts: ["{}", true, 0, true, "DataCloneError", true], skip: true, opens: 0, sum: 3, bound: 3, called: 4, again: 1 });
});

test("M.size in a listener of `close` is the same whoever closes, over own links and shared ones", async (t) => {
  const page = await pageAt(t);
  for (const shared of [false, true]) {
    const sizes = await runInPage(page, async (shared) => {
      const M = new MultiWebSocket("/multiplexer", { shared });
      const open = async (path) => {
        const socket = new M.WebSocket(path);
        await event(socket, "open");
        return socket;
      };
      const sizes = [];
      await open("/demo/echo");
      const mine = await open("/demo/echo");
      sizes.push(M.size);
      mine.close(1000);
      await event(mine, "close");
      sizes.push(M.size);
      // The server closes one whose message is too large for it.
      const theirs = await open("/demo/topics/size");
      theirs.send(new Uint8Array(2 ** 21));
      const { code } = await event(theirs, "close");
      sizes.push(M.size, code >= 1000);
      M.close();
      return sizes;
    }, shared);
    assert.deepEqual(sizes, [2, 1, 1, true], `shared: ${shared}`);
  }
});

test("for…in lists what a native socket's does, in its order", async (t) => {
  const page = await pageAt(t);
  const [native, virtual] = await runInPage(page, () => {
    const M = new MultiWebSocket("/multiplexer");
    return [WebSocket, M.WebSocket].map((Class) => {
      const socket = new Class("/demo/echo");
      const names = [];
      for (const name in socket) names.push(name);
      socket.close();
      return names;
    });
  });
  assert.deepEqual(virtual, native);
});

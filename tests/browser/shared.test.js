// `{ shared: true }`: the pages of an origin have one connection, in a shared worker, and go without where there can be none.
// parity.test.js runs its suite over it.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { makeSite, runInPage, startServer, startWorld, until } from "../harness/index.js";

const world = await startWorld({
  kind: "test",
  site: await makeSite({ files: {
    "no-workers.html": '<!doctype html><html lang=en><meta http-equiv="Content-Security-Policy" content="worker-src \'none\'"><title>page</title>',
  } }),
});
after(() => world.close());

const counts = async () => {
  const { physical, virtual } = await world.server.stats();
  return [physical, virtual];
};

/** A profile of a browser, whose pages share; `prepare` is given each page before it loads, and may name another file. */
async function profile(t, prepare = () => {}) {
  const context = await world.browser.newContext();
  t.after(async () => {
    await context.close();
    await until("the server is left alone", async () => (await counts()).join() === "0,0");
  });
  return async (options = {}) => {
    const page = await context.newPage();
    page.uncaught = [];
    page.on("pageerror", (error) => page.uncaught.push(error.message));
    await page.goto(`${world.server.origin}/${(await prepare(page)) ?? ""}`);
    await runInPage(page, async (options) => {
      const { MultiWebSocket } = await import("/pkg/index.js");
      globalThis.M = new MultiWebSocket("/multiplexer", { shared: true, ...options });
      globalThis.happened = [];
      for (const type of ["open", "close"]) M.addEventListener(type, ({ code }) => happened.push(code ? `${type} ${code}` : type));
      globalThis.open = async (path) => {
        const socket = new M.WebSocket(path);
        socket.events = [];
        socket.onerror = () => socket.events.push("error");
        socket.onmessage = ({ data }) => socket.events.push(data);
        socket.onclose = ({ code, wasClean }) => socket.events.push(`close ${code} ${wasClean}`);
        await new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onerror: () => { socket.events.push("error"); reject(new Error("no")); } }));
        return socket;
      };
      globalThis.echo = async (path, text) => {
        const socket = await open(path);
        socket.send(text);
        return new Promise((resolve) => (socket.onmessage = ({ data }) => resolve(data)));
      };
    }, options);
    return page;
  };
}

const echo = (page, text, path = "/test/echo") => runInPage(page, ([path, text]) => echo(path, text), [path, text]);
const states = (page) => runInPage(page, () => [M.readyState, M.size]);

test("two tabs have one connection, and the second goes on when the first is closed", async (t) => {
  const openPage = await profile(t);
  const [first, second] = [await openPage(), await openPage()];
  assert.deepEqual(await Promise.all([echo(first, "one"), echo(second, "two")]), ["one", "two"]);
  assert.deepEqual(await counts(), [1, 2]);
  assert.deepEqual(await Promise.all([states(first), states(second)]), [[1, 1], [1, 1]]);
  assert.deepEqual(await runInPage(second, () => happened), ["open"]);

  await first.close();
  await until("the first tab's socket is closed at the server", async () => (await counts())[1] === 1);
  assert.equal(await echo(second, "three"), "three");
  assert.deepEqual(await counts(), [1, 2]);
  assert.deepEqual(second.uncaught, []);
});

test("what a tab leaves behind is closed with 1001, as a browser does, also if it crashes", async (t) => {
  const openPage = await profile(t);
  const [closed, crashed, other] = [await openPage(), await openPage(), await openPage()];
  for (const page of [closed, crashed, other]) assert.equal(await echo(page, "hello", "/test/watched"), "hello");
  assert.deepEqual(await counts(), [1, 3]);
  const ends = async () => (await fetch(`${world.server.origin}/test/ends`)).json();
  await closed.close();
  await until("the first end", async () => (await ends()).length === 1);
  const session = await crashed.context().newCDPSession(crashed);
  session.send("Page.crash").catch(() => {});
  await until("the second end", async () => (await ends()).length >= 2);
  // Chromium may have put the tabs into one process, and then the third has crashed with the second.
  assert.deepEqual([...new Set(await ends())], [1001]);
});

test("sockets of one tab wait for credit, and nobody else does", async (t) => {
  const openPage = await profile(t);
  const [slow, other] = [await openPage(), await openPage()];
  await runInPage(slow, async () => {
    const socket = await open("/test/push");
    globalThis.got = 0;
    socket.onmessage = () => got++;
    // The first message blocks the tab; later ones wait at the server.
    socket.addEventListener("message", () => {
      const end = performance.now() + 1500;
      while (performance.now() < end);
    }, { once: true });
    socket.send("2000 10000");
  });
  assert.equal(await echo(other, "meanwhile"), "meanwhile");
  await until("all has come", () => runInPage(slow, () => got === 2000));
});

test("what a page does not take stays at the server: the worker keeps no more than a window", async (t) => {
  const page = await (await profile(t))();
  const seen = await runInPage(page, async (server) => {
    // Simulates a sleeping page: it takes no message unless it says so (js/messages.js).
    const [HELLO, OPEN, SEND, CONSUMED] = [4, 5, 6, 9];
    const lock = "a page that sleeps";
    await new Promise((held) => navigator.locks.request(lock, () => {
      held();
      return new Promise(() => {});
    }));
    const { port } = new SharedWorker("/pkg/shared-worker.js", { type: "module", name: "played" });
    let waiting;
    let fail;
    const failed = new Promise((_, reject) => (fail = reject));
    const got = { messages: 0, units: 0 };
    port.onmessage = ({ data }) => {
      for (let at = 0; at < data.length; at += 3) {
        const [kind, channel, value] = data.slice(at, at + 3);
        if (kind === 0 && channel === 1) {
          got.messages++;
          got.units += value.length;
        }
        if (kind <= 1) waiting?.(channel);
        // An event of an end, of a channel or of the link.
        if (kind === 2 || kind === 3 || kind === 8) fail(new Error(`kind ${kind}, channel ${channel}: ${JSON.stringify(value)}`));
      }
    };
    const next = (wanted) => Promise.race([failed, new Promise((resolve) => (waiting = (channel) => channel === wanted && resolve()))]);
    port.postMessage([HELLO, 0, { url: `${server}/multiplexer`, idleTimeout: 10_000, carriers: ["websocket"], lock }, OPEN, 1, [`${server}/test/push`, [], ""], OPEN, 2, [`${server}/test/echo`, [], ""]]);
    await next(2);
    port.postMessage([SEND, 1, "100 10000"]);
    const settle = async () => {
      for (let n = 0; n < 30; n++) {
        const answer = next(2);
        port.postMessage([SEND, 2, "meanwhile", CONSUMED, 2, [1, 9]]);
        await answer;
      }
      return got.units + 64 * got.messages;
    };
    const held = await settle();
    let told = 0;
    while (got.messages < 100) {
      const [messages, units] = [got.messages - told, (got.messages - told) * 10_000];
      told = got.messages;
      const more = next(1);
      port.postMessage([CONSUMED, 1, [messages, units]]);
      await more;
    }
    return { held, units: got.units };
  }, world.server.origin.replace("http", "ws"));
  assert.ok(seen.held > 131_072 && seen.held <= 262_144, `${seen.held}`);
  assert.equal(seen.units, 1_000_000);
});

test("bufferedAmount falls by what the physical socket has sent", async (t) => {
  const page = await (await profile(t))();
  const seen = await runInPage(page, async () => {
    const socket = await open("/test/sink");
    const seen = [];
    for (const data of ["é€", new Uint8Array(10), new Uint8Array(100_000), new Blob(["12345"])]) {
      socket.send(data);
      seen.push(socket.bufferedAmount);
    }
    while (socket.bufferedAmount > 0) await new Promise((resolve) => setTimeout(resolve));
    return seen;
  });
  assert.deepEqual(seen, [5, 15, 100_015, 100_020]);
});

test("the end of the connection is that of all tabs' sockets, and the next socket dials again", async (t) => {
  const openPage = await profile(t);
  const pages = [await openPage(), await openPage()];
  for (const page of pages) await runInPage(page, async () => (globalThis.socket = await open("/test/echo")));
  await world.server.kill();
  world.server = await startServer(world.site, { kind: "test", listen: new URL(world.server.origin).host });
  for (const page of pages) {
    await until("the close", () => runInPage(page, () => socket.events.length > 0));
    assert.deepEqual(await runInPage(page, () => [socket.events, happened, M.readyState]), [["close 1006 false"], ["open", "close 1006"], 3]);
  }
  for (const page of pages) assert.equal(await echo(page, "again"), "again");
  assert.deepEqual(await counts(), [1, 2]);
});

test("close() ends this page's sockets, and not the other's", async (t) => {
  const openPage = await profile(t);
  const [first, second] = [await openPage(), await openPage()];
  for (const page of [first, second]) await runInPage(page, async () => (globalThis.socket = await open("/test/echo")));
  const events = await runInPage(first, async () => {
    const closed = new Promise((resolve) => M.addEventListener("close", ({ code }) => resolve(code)));
    M.close();
    const code = await closed;
    while (socket.readyState !== 3) await new Promise((resolve) => setTimeout(resolve));
    return [code, ...socket.events];
  });
  assert.deepEqual(events, [1000, "close 1006 false"]);
  await until("one is left", async () => (await counts())[1] === 1);
  assert.equal(await echo(second, "still"), "still");
  assert.equal(await echo(first, "again"), "again");
  assert.equal((await counts())[0], 1);
});

test("without sockets the page leaves after the idle time, and the connection is closed", async (t) => {
  const page = await (await profile(t))({ idleTimeout: 100 });
  await runInPage(page, async () => (await open("/test/echo")).close());
  await until("the link is idle", () => runInPage(page, () => M.readyState === 3));
  assert.deepEqual(await runInPage(page, () => happened), ["open", "close 1000"]);
  await until("it is closed", async () => (await counts())[0] === 0);
  assert.equal(await echo(page, "again"), "again");
});

test("a socket that is closed before it has been opened fires what a native one does", async (t) => {
  const page = await (await profile(t))();
  const events = await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer", { shared: true });
    const seen = (socket) => new Promise((resolve) => {
      const events = [];
      socket.onopen = socket.onerror = ({ type }) => events.push(type);
      socket.onclose = ({ code }) => resolve([...events, code]);
    });
    // While the code is loaded; before the worker has heard of it; before the server has answered.
    const sockets = [new M.WebSocket("/test/echo")];
    sockets[0].close();
    const all = [seen(sockets[0])];
    await all[0];
    for (const wait of [() => {}, () => new Promise((resolve) => setTimeout(resolve))]) {
      const socket = new M.WebSocket("/test/late?milliseconds=1000");
      all.push(seen(socket));
      await wait();
      socket.close();
    }
    return Promise.all(all);
  });
  assert.deepEqual(events, [["error", 1006], ["error", 1006], ["error", 1006]]);
});

test("a name of one's own keeps apart, as does another server", async (t) => {
  const openPage = await profile(t);
  const pages = [await openPage({ shared: "ada" }), await openPage({ shared: "ada" }), await openPage({ shared: "grace" })];
  for (const page of pages) assert.equal(await echo(page, "hello"), "hello");
  assert.deepEqual(await counts(), [2, 3]);
});

test("when the worker dies, sockets get 1006, and the next ones a new worker", async (t) => {
  const page = await (await profile(t))();
  await runInPage(page, async () => (globalThis.socket = await open("/test/echo")));
  const session = await world.browser.newBrowserCDPSession();
  const { targetInfos } = await session.send("Target.getTargets", { filter: [{}] });
  const workers = targetInfos.filter(({ type }) => type === "shared_worker");
  assert.equal(workers.length, 1);
  await session.send("Target.closeTarget", { targetId: workers[0].targetId });
  await until("the close", () => runInPage(page, () => socket.events.length > 0));
  assert.deepEqual(await runInPage(page, () => [socket.events, happened]), [["close 1006 false"], ["open", "close 1006"]]);
  assert.equal(await echo(page, "again"), "again");
});

test("a server without a multiplexer: sockets fail, or with the fallback become native", async (t) => {
  const openPage = await profile(t);
  const none = async (options) => {
    const page = await openPage();
    return runInPage(page, async (options) => {
      const { MultiWebSocket } = await import("/pkg/index.js");
      const M = new MultiWebSocket("/nothing/here", { shared: true, jail: "/", ...options });
      const socket = new M.WebSocket("/test/echo");
      return new Promise((resolve) => {
        const events = [];
        socket.onopen = socket.onerror = ({ type }) => {
          events.push(type);
          if (type === "open") resolve(events);
        };
        socket.onclose = ({ code }) => resolve([...events, code]);
      });
    }, options);
  };
  assert.deepEqual(await none({}), ["error", 1006]);
  assert.deepEqual(await none({ fallback: true }), ["open"]);
});

/** Answers requests for a file in another way, if `text` is in it. */
async function answer(page, file, fields, text = "") {
  await page.context().route(`**/${file}`, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, ...((await response.text()).includes(text) && fields) });
  });
}

// Each is a reason for a link of the page's own.
const WITHOUT = {
  "without SharedWorker": async (page) => {
    await page.addInitScript(() => delete globalThis.SharedWorker);
  },
  "without Web Locks, as in a page that is not secure": async (page) => {
    await page.addInitScript(() => Object.defineProperty(Navigator.prototype, "locks", { value: undefined }));
  },
  "where a Content Security Policy forbids the worker": () => "no-workers.html",
  "where its script is missing": (page) => answer(page, "shared-worker.js", { status: 404 }),
  "where its script is a page": (page) =>
    answer(page, "shared-worker.js", { contentType: "text/html", body: "<!doctype html>" }),
  "where its script never comes": async (page) => {
    await page.context().route("**/shared-worker.js", () => {});
  },
  "where its script is another version's": (page) =>
    answer(page, "shared-worker.js", {
      contentType: "text/javascript",
      body: 'onconnect = ({ ports: [port] }) => port.postMessage([4, 0, { version: "0.0.0-other", lock: "x" }]);',
    }),
  "where the worker may not run WebAssembly": (page) =>
    answer(page, "shared-worker.js", { headers: { "content-type": "text/javascript", "content-security-policy": "script-src 'self'" } }),
  "where the package's further code is missing": (page) => answer(page, "shared-*.js", { status: 404 }, "SharedWorker("),
};

for (const [reason, prepare] of Object.entries(WITHOUT)) {
  test(`${reason}, each page has a separate link`, async (t) => {
    const openPage = await profile(t, prepare);
    const pages = [await openPage(), await openPage()];
    assert.deepEqual(await Promise.all(pages.map((page) => echo(page, "hello"))), ["hello", "hello"]);
    assert.deepEqual(await counts(), [2, 2]);
    for (const page of pages) assert.deepEqual([await states(page), page.uncaught], [[1, 1], []]);
  });
}

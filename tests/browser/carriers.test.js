// Networks in which WebSockets do not get through: the link goes over HTTP, and back to a WebSocket once one opens.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, test } from "node:test";
import { firefox, startFirefox } from "../harness/firefox.js";
import { runInPage, startFront, startServer, startWorld, until } from "../harness/index.js";

const world = await startWorld();
after(() => world.close());
const { site, server, browser } = world;

/** In the page: makes `M`, and functions of the test. */
const prepareM = async (options) => {
  const { MultiWebSocket } = await import("/pkg/index.js");
  globalThis.M = new MultiWebSocket("/multiplexer", options);
  globalThis.events = [];
  globalThis.open = (url = "/demo/echo", protocols = []) => {
    const socket = new M.WebSocket(url, protocols);
    socket.binaryType = "arraybuffer";
    for (const type of ["open", "error", "close"]) socket.addEventListener(type, ({ code }) => events.push(code === undefined ? type : `${type} ${code}`));
    return socket;
  };
  globalThis.next = (socket, type = "message") => new Promise((resolve) => socket.addEventListener(type, resolve, { once: true }));
};

/** Opens a page behind a network, with `M` and functions of the test. */
async function openPage(t, network, options = {}, { origin } = server) {
  const front = await startFront(origin, network);
  t.after(() => front.stop());
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const prepare = async () => {
    await page.goto(front.origin);
    await runInPage(page, prepareM, options);
  };
  await prepare();
  return { page, front, prepare };
}

/** Opens a socket, and has text and binaries of many sizes come back. Returns the carrier, and milliseconds to the first message. */
const useIt = async () => {
  const since = performance.now();
  const socket = open();
  await next(socket, "open");
  socket.send("first");
  const first = (await next(socket)).data;
  const took = Math.round(performance.now() - since);
  const wrong = [first === "first" ? null : first];
  for (const size of [0, 1, 125, 126, 4096, 65_535, 65_536, 300_000, 2_000_000]) {
    const [text, binary] = ["é".repeat(size / 2), new Uint8Array(size).fill(size)];
    socket.send(text);
    socket.send(binary);
    if ((await next(socket)).data !== text) wrong.push(`text of ${size}`);
    const { data } = await next(socket);
    if (data.byteLength !== size || !new Uint8Array(data).every((byte) => byte === size % 256)) wrong.push(`binary of ${size}`);
  }
  socket.close(3001, "done");
  const { code, reason, wasClean } = await next(socket, "close");
  return { carrier: M.carrier, took, wrong: wrong.filter(Boolean), close: `${code} ${reason} ${wasClean}`, events };
};
const used = { wrong: [], close: "3001 done true", events: ["open", "close 3001"] };

for (const [what, network, carrier] of [
  ["lets WebSockets pass", {}, "websocket"],
  ["removes their headers", { websockets: "strip" }, "http-stream"],
  ["answers them with 400", { websockets: 400 }, "http-stream"],
  ["answers them with 502", { websockets: 502 }, "http-stream"],
  ["never answers them", { websockets: "swallow" }, "http-stream"],
  ["removes their headers, and keeps answers until they end", { websockets: "strip", buffers: true }, "http-poll"],
]) {
  test(`a network that ${what}`, async (t) => {
    const { page } = await openPage(t, network);
    const { took, ...seen } = await runInPage(page, useIt);
    t.diagnostic(`the first message after ${took} ms`);
    assert.deepEqual(seen, { carrier, ...used });
  });
}

for (const [what, network, carrier] of [
  ["and answers no POST", { posts: "swallow" }, "websocket"],
  ["and HTTP is faster", {}, "http-stream"],
]) {
  test(`a network in which WebSockets open late, ${what}`, async (t) => {
    const { page } = await openPage(t, { delay: 3000, ...network });
    const { took, ...seen } = await runInPage(page, useIt);
    t.diagnostic(`the first message after ${took} ms`);
    assert.deepEqual(seen, { carrier, ...used });
  });
}

test("a network that loses the answers to WebSockets: HTTP goes on with what the first handshake has opened", async (t) => {
  const watching = await startServer(site, { kind: "test" });
  t.after(() => watching.stop());
  const { page } = await openPage(t, { websockets: "mute" }, {}, watching);
  const carrier = await runInPage(page, async () => {
    const sockets = [open("/test/watched"), open("/test/watched")];
    await Promise.all(sockets.map((socket) => next(socket, "open")));
    for (const socket of sockets) socket.close(4001);
    await Promise.all(sockets.map((socket) => next(socket, "close")));
    return M.carrier;
  });
  assert.equal(carrier, "http-stream");
  const ends = async () => JSON.parse(await (await fetch(`${watching.origin}/test/ends`)).text());
  await until("two ends", async () => (await ends()).length >= 2);
  assert.deepEqual(await ends(), [4001, 4001]);
});

test("a server that answers every request is no multiplexer", async (t) => {
  const answering = createServer((request, response) => {
    response.setHeader("Access-Control-Allow-Origin", server.origin).setHeader("Access-Control-Allow-Credentials", "true");
    response.setHeader("Access-Control-Allow-Headers", "Manysocket-Carrier").setHeader("Content-Type", "application/octet-stream");
    response.end("<!doctype html><title>of 32 characters or more</title>");
  });
  answering.listen(0, "127.0.0.1");
  await once(answering, "listening");
  t.after(() => answering.close().closeAllConnections());
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(server.origin);
  const seen = await page.evaluate(`(async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("http://127.0.0.1:${answering.address().port}/multiplexer", { carriers: ["http"] });
    const events = [];
    M.addEventListener("open", () => events.push("M open"));
    const socket = new M.WebSocket("ws://127.0.0.1:${answering.address().port}/echo");
    for (const type of ["open", "error", "close"]) socket.addEventListener(type, () => events.push(type));
    await new Promise((resolve) => socket.addEventListener("close", resolve));
    return { events, remembered: sessionStorage.length };
  })()`);
  assert.deepEqual(seen, { events: ["error", "close"], remembered: 0 });
});

test("the code for HTTP cannot be loaded: sockets fail without an error of the page, and a WebSocket is dialled later", async (t) => {
  const { page, front } = await openPage(t, { websockets: 502 });
  const uncaught = [];
  page.on("pageerror", (error) => uncaught.push(error.message));
  await page.route("**/shared-*.js", (route) => route.abort());
  const failed = await runInPage(page, async () => {
    const socket = open();
    await next(socket, "close");
    return events.splice(0);
  });
  assert.deepEqual(failed, ["error", "close 1006"]);
  front.network.websockets = "pass";
  assert.equal((await runInPage(page, useIt)).carrier, "websocket");
  // A page that remembers HTTP finds that it has none.
  await runInPage(page, () => {
    M.close();
    sessionStorage.setItem(`manysocket ${M.url}`, "http");
  });
  assert.equal((await runInPage(page, useIt)).carrier, "websocket");
  assert.deepEqual(uncaught, []);
});

test("shared links, too", async (t) => {
  const { page } = await openPage(t, { websockets: "strip" }, { shared: true });
  const { took, ...seen } = await runInPage(page, useIt);
  assert.deepEqual(seen, { carrier: "http-stream", ...used });
});

test("refusals, subprotocols and closes by the server are those of a WebSocket", async (t) => {
  const { page } = await openPage(t, { websockets: "strip" });
  const seen = await runInPage(page, async () => {
    const refused = open("/nothing/here");
    await next(refused, "close");
    const topic = open("/demo/topics/a");
    await next(topic, "open");
    return { events, carrier: M.carrier, size: M.size };
  });
  assert.deepEqual(seen, { events: ["error", "close 1006", "open"], carrier: "http-stream", size: 1 });
});

test("the link returns to a WebSocket once one opens, and its sockets see nothing of it", async (t) => {
  const { page, front } = await openPage(t, { websockets: "strip" });
  await runInPage(page, async () => {
    globalThis.happened = [];
    for (const type of ["interrupted", "resumed", "close"]) M.addEventListener(type, () => happened.push(type));
    const socket = open();
    await next(socket, "open");
    [globalThis.sent, globalThis.received] = [0, []];
    socket.onmessage = ({ data }) => received.push(Number(data));
    globalThis.sending = setInterval(() => socket.send(`${sent++}`), 5);
  });
  await until("messages over HTTP", () => runInPage(page, () => M.carrier === "http-stream" && received.length > 10));
  front.network.websockets = "pass";
  await until("a WebSocket", () => runInPage(page, () => M.carrier === "websocket"));
  const count = await runInPage(page, () => received.length);
  await until("messages over it", () => page.evaluate(`received.length > ${count} + 10`));
  await runInPage(page, () => clearInterval(sending));
  await until("the last ones", () => runInPage(page, () => received.length === sent));
  const seen = await runInPage(page, () => ({ inOrder: received.every((number, n) => number === n), events, happened }));
  assert.deepEqual(seen, { inOrder: true, events: ["open"], happened: ["interrupted", "resumed"] });
});

/** In the page: timers of 5 s and more run when the test says so. */
const holdTimers = () => {
  const { setTimeout } = globalThis;
  globalThis.held = [];
  globalThis.setTimeout = (act, delay, ...rest) => (delay >= 5000 ? (held.push({ act, delay }), 0) : setTimeout(act, delay, ...rest));
  /** Runs the newest timer of a delay. */
  globalThis.fire = (delay) => held.splice(held.findLastIndex((timer) => timer.delay === delay), 1)[0].act();
  globalThis.delays = () => held.map((timer) => timer.delay);
};

test("a WebSocket that opens and dies soon is sought less often, and one that lasts is trusted", async (t) => {
  const { page, front } = await openPage(t, { websockets: "strip" });
  await runInPage(page, holdTimers);
  await runInPage(page, async () => {
    globalThis.socket = open();
    await next(socket, "open");
  });
  const echo = () => runInPage(page, async () => {
    socket.send("on");
    await next(socket);
    return M.carrier;
  });
  assert.equal(await echo(), "http-stream");
  front.network.websockets = "pass";
  for (const [delay, following] of [[5000, 10_000], [10_000, 20_000]]) {
    assert.ok((await runInPage(page, () => delays())).includes(delay));
    await page.evaluate(`fire(${delay})`);
    await until("a WebSocket", () => runInPage(page, () => M.carrier === "websocket"));
    assert.equal(await echo(), "websocket");
    front.cut();
    await until("HTTP at once", () => runInPage(page, () => M.carrier === "http-stream"));
    assert.equal(await echo(), "http-stream");
    assert.ok((await runInPage(page, () => delays())).includes(following));
  }
  await runInPage(page, () => fire(20_000));
  await until("a WebSocket", () => runInPage(page, () => M.carrier === "websocket"));
  assert.equal(await echo(), "websocket");
  // It has lasted for a minute.
  await runInPage(page, () => fire(60_000));
  front.cut();
  assert.equal(await echo(), "websocket");
  assert.deepEqual(await runInPage(page, () => events), ["open"]);
});

test("a link whose URL is a function asks for it before it tries a WebSocket", async (t) => {
  const { page, front } = await openPage(t, { websockets: "strip" });
  await runInPage(page, holdTimers);
  await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    let token = 0;
    globalThis.M = new MultiWebSocket(async () => `/multiplexer?token=${++token}`);
    await next(open(), "open");
    globalThis.dialled = token;
  });
  const dialled = await runInPage(page, () => dialled);
  front.network.websockets = "pass";
  front.targets.length = 0;
  await runInPage(page, () => fire(5000));
  await until("a WebSocket", () => runInPage(page, () => M.carrier === "websocket"));
  const tokens = front.targets.filter((target) => target.includes("manysocket-resume=")).map((target) => Number(/token=(\d+)/.exec(target)[1]));
  assert.deepEqual(tokens, [dialled + 1, dialled + 2]);
});

test("a link goes over HTTP when its WebSocket is lost and no other one opens", async (t) => {
  const { page, front } = await openPage(t, {});
  await runInPage(page, async () => {
    globalThis.socket = open();
    await next(socket, "open");
    // By now the server knows that the page can resume the link.
    socket.send("before");
    await next(socket);
  });
  front.network.websockets = 502;
  front.cut();
  const seen = await runInPage(page, async () => {
    socket.send("after the cut");
    const { data } = await next(socket);
    return { data, carrier: M.carrier, events };
  });
  assert.deepEqual(seen, { data: "after the cut", carrier: "http-stream", events: ["open"] });
});

test("a later page of the session dials over HTTP at once, and tries a WebSocket later", async (t) => {
  const { page, front, prepare } = await openPage(t, { websockets: "swallow" });
  await runInPage(page, useIt);
  await prepare();
  front.targets.length = 0;
  const { took, ...seen } = await runInPage(page, useIt);
  t.diagnostic(`the first message after ${took} ms`);
  assert.deepEqual(seen, { carrier: "http-stream", ...used });
  assert.ok(front.targets.every((target) => !target.includes("manysocket=")), "no WebSocket is dialled");
});

test("a request that is lost, and one whose answer is, are repeated: the link sees nothing of it", async (t) => {
  const { page } = await openPage(t, { websockets: "strip", buffers: true });
  await runInPage(page, async () => {
    globalThis.interruptions = 0;
    M.addEventListener("interrupted", () => interruptions++);
    globalThis.socket = open();
    await next(socket, "open");
  });
  const lost = [];
  await page.route("**/multiplexer*", async (route) => {
    const [what] = (route.request().headers()["manysocket-carrier"] ?? "").split(" ");
    if (lost.includes(what)) return route.continue();
    lost.push(what);
    // The server has the bytes of `receive`, and the page does not.
    if (what === "receive") await route.fetch();
    return route.abort();
  });
  const seen = await runInPage(page, async () => {
    const got = [];
    socket.onmessage = ({ data }) => got.push(data);
    for (let n = 0; n < 5; n++) {
      socket.send(`${n}`);
      await next(socket);
    }
    return { got, interruptions, carrier: M.carrier };
  });
  assert.deepEqual(lost.toSorted(), ["receive", "send"]);
  assert.deepEqual(seen, { got: ["0", "1", "2", "3", "4"], interruptions: 0, carrier: "http-poll" });
});

test("`carriers` chooses", async (t) => {
  const { page } = await openPage(t, {}, { carriers: ["http"] });
  const { took, ...seen } = await runInPage(page, useIt);
  assert.deepEqual(seen, { carrier: "http-stream", ...used });
  const { page: other } = await openPage(t, { websockets: 502 }, { carriers: ["websocket"] });
  const failed = await runInPage(other, async () => {
    const socket = open();
    await next(socket, "close");
    return { events, carrier: M.carrier };
  });
  assert.deepEqual(failed, { events: ["error", "close 1006"], carrier: null });
});

test("where there is neither, sockets fail, and `fallback` makes them native", async (t) => {
  const nothing = { refuses: (target) => target.startsWith("/multiplexer") };
  const { page } = await openPage(t, nothing);
  const failed = await runInPage(page, async () => {
    const socket = open();
    await next(socket, "close");
    return { events, carrier: M.carrier };
  });
  assert.deepEqual(failed, { events: ["error", "close 1006"], carrier: null });
  const { page: other } = await openPage(t, nothing, { fallback: true });
  assert.deepEqual((await runInPage(other, useIt)).events, used.events);
});

test("a page that leaves closes its sockets with 1001", async (t) => {
  const watching = await startServer(site, { kind: "test" });
  t.after(() => watching.stop());
  for (const url of ["about:blank", watching.origin]) {
    const { page } = await openPage(t, { websockets: "strip" }, {}, watching);
    await runInPage(page, async () => {
      for (let n = 0; n < 2; n++) await next(open("/test/watched"), "open");
    });
    await page.goto(url);
  }
  const ends = async () => JSON.parse(await (await fetch(`${watching.origin}/test/ends`)).text());
  await until("four ends", async () => (await ends()).length === 4);
  assert.deepEqual(await ends(), [1001, 1001, 1001, 1001]);
});

test("the last words of a page arrive", async (t) => {
  const { page } = await openPage(t, { websockets: "strip" });
  await runInPage(page, async () => {
    const topic = open("/demo/topics/leaving");
    await next(topic, "open");
    addEventListener("pagehide", () => topic.send("last words"));
  });
  const listener = await browser.newPage();
  t.after(() => listener.close());
  await listener.goto(server.origin);
  await runInPage(listener, async () => {
    globalThis.heard = [];
    const topic = new WebSocket("/demo/topics/leaving");
    topic.onmessage = ({ data }) => heard.push(data);
    await new Promise((resolve) => (topic.onopen = resolve));
  });
  await page.goto("about:blank");
  await until("the last words", () => runInPage(listener, () => heard.length > 0));
  assert.deepEqual(await runInPage(listener, () => heard), ["last words"]);
});

test("Firefox, too", { skip: firefox === null && "Firefox is not installed" }, async (t) => {
  const engine = await startFirefox();
  t.after(() => engine.close());
  for (const [network, carrier] of [[{ websockets: "strip" }, "http-stream"], [{ websockets: "swallow", buffers: true }, "http-poll"]]) {
    const front = await startFront(server.origin, network);
    t.after(() => front.stop());
    const page = await engine.openPage(`${front.origin}/`);
    await runInPage(page, prepareM, {});
    const { took, ...seen } = await runInPage(page, useIt);
    t.diagnostic(`${carrier}: the first message after ${took} ms`);
    assert.deepEqual(seen, { carrier, ...used });
  }
});

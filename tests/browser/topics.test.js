// Topics from a page: over native and virtual sockets, and the chat of the demo.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { makeSite, runInPage, startWorld } from "../harness/index.js";

const world = await startWorld({ site: await makeSite({ folders: ["www"] }) });
after(() => world.close());

test("two bare WebSockets do it in ten lines", async () => {
  const page = await world.openPage();
  const heard = await runInPage(page, async () => {
    const heard = [];
    const ada = new WebSocket("/demo/topics/bare");
    const bob = new WebSocket("/demo/topics/bare");
    ada.onmessage = ({ data }) => heard.push(`ada: ${data}`);
    ada.onopen = bob.onopen = () => ada.readyState + bob.readyState === 2 && bob.send("hello");
    await new Promise((resolve) => {
      bob.onmessage = ({ data }) => resolve(heard.push(`bob: ${data}`));
    });
    while (heard.length < 2) await new Promise((resolve) => ada.addEventListener("message", resolve, { once: true }));
    return heard;
  });
  assert.deepEqual(heard.sort(), ["ada: hello", "bob: hello"]);
  await page.close();
});

test("native and virtual sockets share topics: text, binary, history", async () => {
  const page = await world.openPage();
  const { early, late } = await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer");
    const open = async (Socket) => {
      const socket = new Socket("/demo/topics/shared");
      socket.binaryType = "arraybuffer";
      socket.heard = [];
      socket.addEventListener("message", ({ data }) => socket.heard.push(typeof data === "string" ? data : [...new Uint8Array(data)]));
      await new Promise((resolve) => (socket.onopen = resolve));
      return socket;
    };
    const has = async (socket, count) => {
      while (socket.heard.length < count) await new Promise((resolve) => socket.addEventListener("message", resolve, { once: true }));
      return socket.heard;
    };
    const early = [await open(WebSocket), await open(M.WebSocket), await open(M.WebSocket)];
    // Each is on the topic once it has heard from itself.
    for (const [n, socket] of early.entries()) {
      socket.send(`${n}`);
      await has(socket, n + 1);
    }
    early[1].send(new Uint8Array([1, 2, 255]));
    early[1].send("grüezi");
    for (const socket of early) await has(socket, 5);
    const late = [await open(WebSocket), await open(M.WebSocket)];
    for (const socket of late) await has(socket, 5);
    return { early: early.map(({ heard }) => heard), late: late.map(({ heard }) => heard) };
  });
  for (const heard of [...early, ...late]) assert.deepEqual(heard, ["0", "1", "2", [1, 2, 255], "grüezi"]);
  await page.close();
});

test("an EventSource reads along", async () => {
  const page = await world.openPage();
  const heard = await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer");
    const socket = new M.WebSocket("/demo/topics/events");
    await new Promise((resolve) => (socket.onopen = resolve));
    const heard = [];
    const index = new M.WebSocket("/demo/topics/");
    await new Promise((resolve) => (index.onmessage = ({ data }) => resolve(heard.push(JSON.parse(data).includes("events")))));
    index.close();
    socket.send("before");
    const source = new EventSource("/demo/topics/events");
    const next = (type) => new Promise((resolve) => source.addEventListener(type, ({ data }) => resolve(heard.push(data)), { once: true }));
    await next("message");
    for (const message of ["a\nb", new Uint8Array([1, 2])]) {
      socket.send(message);
      await next(typeof message === "string" ? "message" : "binary");
    }
    source.close();
    return heard;
  });
  assert.deepEqual(heard, [true, "before", "a\nb", "AQI="]);
  await page.close();
});

test("a message that is too large closes its sender with 1009", async () => {
  const page = await world.openPage();
  const codes = await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const codes = [];
    for (const Socket of [WebSocket, new MultiWebSocket("/multiplexer").WebSocket]) {
      const socket = new Socket("/demo/topics/large");
      socket.onopen = () => socket.send("x".repeat(65537));
      codes.push(await new Promise((resolve) => (socket.onclose = ({ code }) => resolve(code))));
    }
    return codes;
  });
  assert.deepEqual(codes, [1009, 1009]);
  await page.close();
});

test("the chat: two windows, a shared room and a private one", async () => {
  const [ada, bob, eve] = [await world.openPage("/chat.html"), await world.openPage("/chat.html"), await world.openPage("/chat.html?room=rust")];
  const say = async (page, name, text) => {
    await page.fill("#name", name);
    await page.fill("#text", text);
    await page.click("button:not(:disabled)");
  };
  await bob.waitForSelector("button:not(:disabled)");
  await say(ada, "Ada", "hello <b>bob</b>");
  await bob.waitForSelector("li.theirs");
  await ada.waitForSelector("li.mine:not(.pending)");
  assert.match(await bob.textContent("li.theirs"), /^Ada \d+:\d\d.*hello <b>bob<\/b>$/);
  assert.match(await ada.textContent("li.mine"), /^Ada \d+:\d\d.*hello <b>bob<\/b>$/);
  await runInPage(bob, () => void (new WebSocket("/demo/topics/chat-tea").onopen = ({ target }) => target.send("no JSON")));
  await ada.waitForSelector("li.theirs");
  assert.equal(await ada.textContent("li.theirs"), "somebodyno JSON");
  await say(eve, "Eve", "alone");
  await eve.waitForSelector("li.mine:not(.pending)");
  assert.equal(await eve.locator("#lines li").count(), 1);
  for (const page of [ada, bob, eve]) {
    assert.deepEqual(page.uncaught, []);
    await page.close();
  }
});

// Indexes in a browser: walked by WebSockets, read by EventSource, shown by the demo page.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { makeSite, runInPage, startWorld } from "../harness/index.js";

const world = await startWorld({ site: await makeSite({ folders: ["www"] }), kind: "test" });
after(() => world.close());

for (const kind of ["native", "virtual"]) {
  test(`a site is walked over ${kind} sockets, each link resolved from its own index`, async () => {
    const page = await world.openPage("/");
    const found = await runInPage(
      page,
      async (kind) => {
        const { MultiWebSocket } = await import("/pkg/index.js");
        const Socket = kind === "native" ? WebSocket : new MultiWebSocket("/multiplexer").WebSocket;
        const first = (socket) => new Promise((resolve, reject) => Object.assign(socket, { onmessage: ({ data }) => resolve(data), onerror: reject }));
        const room = new Socket(new URL(`/test/site/rooms/${encodeURIComponent("grün & 50%")}`, location).href.replace("http", "ws"));
        await first(room);
        const found = [];
        const walk = async (url) => {
          const socket = new Socket(url);
          for (const name of JSON.parse(await first(socket))) {
            const child = new URL(name, url);
            found.push(child.pathname);
            if (name.endsWith("/")) await walk(child);
          }
          socket.close();
        };
        const start = new URL("/test/site/", location);
        start.protocol = "ws:";
        await walk(start);
        room.close();
        return found;
      },
      kind,
    );
    const base = "/test/site/";
    assert.deepEqual(found, [
      `${base}geo/`,
      `${base}geo/raster`,
      `${base}numbers`,
      `${base}rooms/`,
      `${base}rooms/gr%C3%BCn%20%26%2050%25`,
    ]);
    assert.deepEqual(page.uncaught, []);
    await page.close();
  });
}

test("an EventSource reads a live index", async () => {
  const page = await world.openPage("/");
  const told = await runInPage(page, async () => {
    const source = new EventSource("/test/site/rooms/");
    const told = [];
    const waiting = [];
    source.onmessage = ({ data }) => {
      told.push(JSON.parse(data));
      waiting.shift()?.();
    };
    const next = () => new Promise((resolve) => waiting.push(resolve));
    await next();
    const room = new WebSocket(new URL("/test/site/rooms/blue", location).href.replace("http", "ws"));
    await next();
    room.close();
    await next();
    source.close();
    return told;
  });
  assert.deepEqual(told, [[], { added: ["blue"], removed: [] }, { added: [], removed: ["blue"] }]);
  await page.close();
});

test("an EventSource gets texts, binary as base64, and resumes where it was", async () => {
  const page = await world.openPage("/");
  const told = await runInPage(page, async () => {
    const source = new EventSource("/test/site/numbers");
    const told = [];
    await new Promise((resolve) => {
      // The stream ends after two events; the browser reconnects with the id of the last.
      source.onmessage = ({ data, lastEventId }) => told.push(`${data}, now ${lastEventId}`) === 3 && resolve();
      source.addEventListener("binary", ({ data }) => told.push(data));
    });
    source.close();
    return told;
  });
  assert.deepEqual(told, ["after 0, now 1", "AP8=", "after 1, now 2"]);
  await page.close();
});

test("the page that walks shows rooms come and go, and what lives at each", async () => {
  const page = await world.openPage("/walk.html?from=/test/site");
  await page.click("text=numbers");
  await page.waitForSelector("#about dt");
  assert.match(await page.textContent("#about"), /Numbers.*new EventSource\("\/test\/site\/numbers"\)/);
  await runInPage(page, () => {
    globalThis.room = new WebSocket(new URL("/test/site/rooms/a%20%3Cb%3E", location).href.replace("http", "ws"));
  });
  await page.click("#tree button:has-text('a <b>')");
  await page.waitForSelector("#about dt");
  assert.match(await page.textContent("#about"), /A room/);
  await runInPage(page, () => room.close());
  await page.waitForSelector("#tree button:has-text('a <b>')", { state: "detached" });
  assert.match(await page.textContent("#status"), /^3 indexes, live, over one connection/);
  assert.deepEqual(page.uncaught, []);
  await page.close();
});

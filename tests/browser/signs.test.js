// A link that has silently gone: new sockets open all the same, and hints have it found out.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { runInPage, startFront, startWorld } from "../harness/index.js";

const world = await startWorld();
after(() => world.close());

async function pageBehindFront(t, shared) {
  const front = await startFront(world.server.origin);
  t.after(() => front.stop());
  const page = await world.browser.newPage();
  t.after(() => page.close());
  await page.goto(front.origin);
  await runInPage(page, async (shared) => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.M = new MultiWebSocket("/multiplexer", { shared });
    globalThis.event = (target, type) => new Promise((resolve) => target.addEventListener(type, resolve, { once: true }));
    globalThis.first = new M.WebSocket("/demo/echo");
    await event(first, "open");
  }, shared);
  return { front, page };
}

for (const shared of [false, true]) {
  test(`sockets open over a new link where the old one is silent, ${shared ? "shared" : "alone"}`, async (t) => {
    const { front, page } = await pageBehindFront(t, shared);
    front.silence();
    const seen = await runInPage(page, async () => {
      const sockets = Array.from({ length: 3 }, () => new M.WebSocket("/demo/echo"));
      const states = await Promise.all(sockets.map(async (socket) => {
        await Promise.race([event(socket, "open"), event(socket, "close")]);
        return socket.readyState;
      }));
      sockets[0].send("x");
      return [states, (await event(sockets[0], "message")).data];
    });
    assert.deepEqual(seen, [[1, 1, 1], "x"]);
  });
}

test("a slow answer over a link that lives is waited for, and no other link is dialled", async (t) => {
  const { front, page } = await pageBehindFront(t, false);
  const before = front.targets.length;
  const answered = await runInPage(page, async () => {
    // Traffic of another socket is a sign of life.
    const pulse = setInterval(() => first.send("pulse"), 200);
    const socket = new M.WebSocket("/demo/echo");
    await event(socket, "open");
    clearInterval(pulse);
    return socket.readyState;
  });
  assert.deepEqual([answered, front.targets.length], [1, before]);
});

// A virtual open is a request to the application like a native one: one handler, one set of layers.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { runInPage, startWorld } from "../harness/index.js";

const world = await startWorld({ kind: "test" });
after(() => world.close());

/** Returns the page's view of an open: the events, the protocol, and the first message if there is one. */
async function see(page, kind, path, protocols) {
  return runInPage(page, async ([kind, path, protocols]) => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.M ??= new MultiWebSocket("/multiplexer");
    const Socket = kind === "native" ? WebSocket : M.WebSocket;
    const socket = new Socket(path, protocols);
    const events = [];
    let message = null;
    await new Promise((resolve) => {
      socket.onopen = () => {
        events.push("open");
        socket.send("?");
      };
      socket.onmessage = ({ data }) => {
        events.push("message");
        message = data;
        resolve();
      };
      socket.onerror = () => events.push(`error in state ${socket.readyState}`);
      socket.onclose = ({ code, reason, wasClean }) => {
        events.push(`close ${code} ${JSON.stringify(reason)} ${wasClean}`);
        resolve();
      };
    });
    const { protocol } = socket;
    socket.close();
    return { events, protocol, message };
  }, [kind, path, protocols]);
}

async function seeBoth(page, path, protocols = []) {
  const native = await see(page, "native", path, protocols);
  const virtual = await see(page, "virtual", path, protocols);
  assert.deepEqual(virtual, native);
  return virtual;
}

const FAILED = ["error in state 3", 'close 1006 "" false'];

test("path parameters, query, headers and subprotocol are the same", async () => {
  const page = await world.openPage();
  await page.context().addCookies([{ name: "user", value: "ada", url: world.server.origin }]);
  const { message, protocol } = await seeBoth(page, "/test/rooms/blue%20room?a=1&b=%C3%A9", ["v1", "v2"]);
  const host = new URL(world.server.origin).host;
  assert.deepEqual(message.split("\n"), [
    "room blue room",
    "uri /test/rooms/blue%20room?a=1&b=%C3%A9",
    "cookie user=ada",
    "authorization -",
    `origin http://${host}`,
    `host ${host}`,
    "upgrade websocket",
    "protocols v1, v2",
  ]);
  assert.equal(protocol, "v2", "the server's order of preference");
  await page.close();
});

test("an authentication layer lets in and keeps out alike", async () => {
  const page = await world.openPage();
  const out = await seeBoth(page, "/test/secret/echo");
  assert.deepEqual(out.events, FAILED);
  await page.context().addCookies([{ name: "session", value: "good", url: world.server.origin }]);
  // The link carries the cookies of its handshake: a new page, as after logging in.
  await page.reload();
  const inside = await seeBoth(page, "/test/secret/echo");
  assert.deepEqual(inside.events, ["open", "message"]);
  await page.close();
});

for (const status of [401, 403, 404, 500, 200]) {
  test(`a refusal with ${status} reaches the page as error and close 1006`, async () => {
    const page = await world.openPage();
    const path = status === 404 ? "/nothing/here" : `/test/refuse?status=${status}`;
    assert.deepEqual((await seeBoth(page, path)).events, FAILED);
    await page.close();
  });
}

test("a refused open tells its status in the console", async () => {
  const page = await world.openPage();
  const logged = page.waitForEvent("console", (message) => message.text().includes("/test/refuse"));
  await see(page, "virtual", "/test/refuse?status=403");
  assert.match((await logged).text(), /WebSocket connection to 'ws:.*' failed: 403 Forbidden/);
  await page.close();
});

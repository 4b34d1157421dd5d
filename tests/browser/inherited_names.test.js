// Names that JavaScript's objects have by inheritance are names like any other: of headers, topics and documents. (tests/parity has
// texts, subprotocols, reasons and types of events; state.test.js has members of documents.)
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { runInPage, startWorld } from "../harness/index.js";

const world = await startWorld({ kind: "test" });
after(() => world.close());

const NAMES = ["__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "__defineGetter__"];

async function pageOf(t, virtual) {
  const page = await world.openPage();
  t.after(() => page.close());
  await runInPage(page, async (virtual) => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.M = new MultiWebSocket("/multiplexer");
    globalThis.Class = virtual ? M.WebSocket : WebSocket;
    globalThis.next = (socket, type = "message") => new Promise((resolve, reject) => {
      socket.addEventListener(type, resolve, { once: true });
      socket.addEventListener("close", ({ code }) => reject(new Error(`closed with ${code}`)));
    });
  }, virtual);
  return page;
}

test("headers", async (t) => {
  const page = await pageOf(t, true);
  const seen = await runInPage(page, async (names) => {
    const socket = new M.WebSocket("/report/headers", { headers: names.map((name) => [name, `value of ${name}`]) });
    return JSON.parse((await next(socket)).data);
  }, NAMES);
  const expected = NAMES.map((name) => [name.toLowerCase(), `value of ${name}`]);
  assert.deepEqual(seen.filter(([name]) => expected.some(([other]) => other === name)).sort(), expected.sort());
});

for (const virtual of [false, true]) {
  const kind = virtual ? "virtual" : "native";

  test(`${kind}: topics`, async (t) => {
    const page = await pageOf(t, virtual);
    const seen = await runInPage(page, async (names) => {
      const seen = [];
      for (const name of names) {
        const sockets = [new Class(`/report/chat/${name}`), new Class(`/report/chat/${name}`), new Class(`/report/chat/${name}2`)];
        await Promise.all(sockets.map((socket) => next(socket, "open")));
        const got = sockets.slice(0, 2).map((socket) => next(socket));
        sockets[0].send(name);
        // The third is on another topic.
        sockets[2].onmessage = ({ data }) => seen.push(`strayed: ${data}`);
        seen.push(...(await Promise.all(got)).map(({ data }) => data));
        const listed = await (await fetch("/report/topics")).text();
        seen.push(listed.split("\n").some((line) => line.endsWith(name)));
      }
      return seen;
    }, NAMES);
    assert.deepEqual(seen, NAMES.flatMap((name) => [name, name, true]));
  });

  test(`${kind}: documents, and what their pages commit`, async (t) => {
    const page = await pageOf(t, virtual);
    const seen = await runInPage(page, async ([names, virtual]) => {
      const { state } = await import("/pkg/state.js");
      const seen = [];
      for (const name of names) {
        const [ada, bob] = await Promise.all([0, 1].map(() => state(`/report/doc/${virtual}-${name}`, { WebSocket: Class })));
        Object.defineProperty(ada.data, name, { value: name, enumerable: true, configurable: true, writable: true });
        const changed = new Promise((resolve) => bob.watch("", resolve));
        await ada.commit();
        await changed;
        seen.push(Object.entries(bob.data).filter(([key]) => key !== "p"), Object.getPrototypeOf(bob.data) === Object.prototype);
      }
      return seen;
    }, [NAMES, virtual]);
    assert.deepEqual(seen, NAMES.flatMap((name) => [[[name, name]], true]));
  });
}

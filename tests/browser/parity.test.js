// A page cannot tell a virtual socket from a native one: every case of tests/parity runs over both, in a window, a frame and
// workers, and its records must be the same line by line.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { makeSite, repository, startFront, startServer, startWorld } from "../harness/index.js";
import { cp } from "node:fs/promises";
import { join } from "node:path";

const site = await makeSite();
await cp(join(repository, "tests/parity"), join(site, "parity"), { recursive: true });
const world = await startWorld({ site, kind: "test" });
after(() => world.close());

/** Runs the suite by `run` in a page of a server, and compares. `wish` is for tests/parity/main.js. */
async function suite(t, server, wish, run) {
  const page = await world.browser.newPage();
  await page.goto(`${server.origin}/#${new URLSearchParams(wish)}`);
  const results = await page.evaluate(run);
  assert.ok(results.length >= (wish.class?.endsWith("JsonWebSocket") ? 150 : 200), `${results.length} cases`);
  for (const [name, native, virtual] of results) {
    await t.test(name, () => {
      assert.equal(native.at(-1), "finished", "the case itself is sound");
      assert.deepEqual(virtual, native);
    });
  }
  await page.close();
}

const inWindow = async () => (await import("/parity/main.js")).default;

test("in a window", (t) => suite(t, world.server, {}, inWindow));

test("in a worker", (t) =>
  suite(t, world.server, {}, () =>
    new Promise((resolve, reject) => {
      const worker = new Worker("/parity/main.js", { type: "module" });
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = ({ message }) => reject(new Error(message));
    }),
  ));

test("in a shared worker", (t) =>
  suite(t, world.server, {}, () =>
    new Promise((resolve, reject) => {
      const worker = new SharedWorker("/parity/main.js", { type: "module" });
      worker.port.onmessage = ({ data }) => resolve(data);
      worker.onerror = ({ message }) => reject(new Error(message));
    }),
  ));

test("in a frame", (t) =>
  suite(t, world.server, {}, async () => {
    const frame = Object.assign(document.createElement("iframe"), { src: "/" });
    await new Promise((resolve) => {
      frame.onload = resolve;
      document.body.append(frame);
    });
    return (await frame.contentWindow.eval('import("/parity/main.js")')).default;
  }));

test("over the link of a shared worker", (t) => suite(t, world.server, { shared: true }, inWindow));

test("over HTTP: a streamed answer", (t) => suite(t, world.server, { http: true }, inWindow));

test("over HTTP: short answers, where a proxy keeps those that stream", async (t) => {
  const front = await startFront(world.server.origin, { buffers: true });
  t.after(() => front.stop());
  const { host } = new URL(world.server.origin);
  await suite(t, front, { http: true, native: host }, inWindow);
});

test("through the gateway, against native sockets that go straight to its upstream", async (t) => {
  const upstream = new URL(world.server.origin).host;
  const gateway = await startServer(site, { more: ["--upstream", `/test=ws://${upstream}/test`] });
  t.after(() => gateway.stop());
  await suite(t, gateway, { native: upstream }, inWindow);
});

test("to another origin, which falls through", async (t) => {
  const other = await startServer(site, { kind: "test" });
  t.after(() => other.stop());
  const { host } = new URL(other.origin);
  await suite(t, world.server, { native: host, virtual: host }, inWindow);
});

for (const name of ["RelativeWebSocket", "M.RelativeWebSocket", "JsonWebSocket", "M.JsonWebSocket"]) {
  test(`${name}, for all that it does not change`, (t) => suite(t, world.server, { class: name }, inWindow));
}

// Messages leave during a long task, and handlers let other tasks run, as with native sockets.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { makeSite, runInPage, startWorld } from "../harness/index.js";

// A worker that sends and then blocks until another one, which has a native socket to the same topic, has received it all.
const BLOCKS = `
import { MultiWebSocket } from "/pkg/index.js";
onmessage = ({ data: { kind, url, count, memory } }) => {
  // Over HTTP, which a slow start would choose, messages leave at the end of the task (docs/carriers.md).
  const Class = kind === "native" ? WebSocket : new MultiWebSocket("/multiplexer", { carriers: ["websocket"] }).WebSocket;
  const socket = new Class(url);
  socket.onopen = () => {
    for (let n = 0; n < count; n++) socket.send(String(n));
    postMessage(Atomics.wait(new Int32Array(memory), 0, 0, 20_000));
  };
};
postMessage("ready");
`;
const WAKES = `
onmessage = ({ data: { url, count, memory } }) => {
  const socket = new WebSocket(url);
  let received = 0;
  socket.onopen = () => postMessage("ready");
  socket.onmessage = () => {
    if (++received < count) return;
    Atomics.store(new Int32Array(memory), 0, 1);
    Atomics.notify(new Int32Array(memory), 0);
  };
};
`;

const site = await makeSite({ files: { "blocks.js": BLOCKS, "wakes.js": WAKES } });
const world = await startWorld({ site, kind: "test", more: ["--isolated"] });
after(() => world.close());

/** A page with `Class` and `opened` of a kind. */
async function pageOf(t, kind) {
  const page = await world.openPage();
  t.after(() => page.close());
  await runInPage(page, async (kind) => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.Class = kind === "native" ? WebSocket : new MultiWebSocket("/multiplexer", { shared: kind === "shared" }).WebSocket;
    globalThis.opened = (socket) => new Promise((resolve) => (socket.onopen = () => resolve(socket)));
  }, kind);
  return page;
}

for (const kind of ["native", "virtual", "shared"]) {
  test(`${kind}: messages of a long task arrive before it ends`, async (t) => {
    const page = await pageOf(t, kind);
    const heard = await runInPage(page, async () => {
      const socket = await opened(new Class("/test/echo"));
      // Another thread looks, while this one is busy: a synchronous request asks the server how many messages its echo has received.
      const sent = [];
      const { send } = WebSocket.prototype;
      const { postMessage } = MessagePort.prototype;
      WebSocket.prototype.send = function (data) {
        sent.push(data);
        return send.call(this, data);
      };
      MessagePort.prototype.postMessage = function (...args) {
        if (Array.isArray(args[0]) && args[0].length > 0) sent.push(args[0]);
        return postMessage.apply(this, args);
      };
      const busy = (milliseconds) => {
        const end = performance.now() + milliseconds;
        while (performance.now() < end);
      };
      const text = () => JSON.stringify(sent.map((data) => (typeof data === "string" || Array.isArray(data) ? data : new TextDecoder().decode(data))));
      const left = [];
      // In one task, and in one that follows soon.
      for (let task = 0; task < 2; task++) {
        await new Promise((resolve) => setTimeout(resolve));
        for (let n = 0; n < 5; n++) {
          socket.send(`progress ${task} ${n}`);
          left.push(text().includes(`progress ${task} ${n}`));
          busy(20);
        }
      }
      // And a close.
      socket.close(3000, "in a long task");
      left.push(text().includes("in a long task"));
      WebSocket.prototype.send = send;
      MessagePort.prototype.postMessage = postMessage;
      return left;
    });
    // Natively the test has replaced `send`, and `close` is not `send`.
    assert.deepEqual(heard, Array.from(heard, (_, n) => kind !== "native" || n < heard.length - 1));
  });
}

for (const kind of ["native", "virtual"]) {
  for (const count of [1, 2, 5]) {
    test(`${kind}: a worker that blocks after ${count} messages has sent them`, async (t) => {
      const page = await pageOf(t, kind);
      const outcome = await runInPage(page, async ([kind, count]) => {
        const memory = new SharedArrayBuffer(4);
        const url = `ws://${location.host}/report/chat/wakes-${kind}-${count}`;
        const told = (worker) => new Promise((resolve) => (worker.onmessage = ({ data }) => resolve(data)));
        const wakes = new Worker("/wakes.js");
        wakes.postMessage({ url, count, memory });
        await told(wakes);
        const blocks = new Worker("/blocks.js", { type: "module" });
        await told(blocks);
        blocks.postMessage({ kind, url, count, memory });
        return told(blocks);
      }, [kind, count]);
      assert.notEqual(outcome, "timed-out");
    });
  }
}

test("a click waits for few handlers, however slow they are", async (t) => {
  const page = await pageOf(t, "virtual");
  await runInPage(page, async () => {
    document.body.innerHTML = "<button style='position:fixed;inset:0'>click</button>";
    globalThis.handled = [];
    globalThis.clicked = new Promise((resolve) => {
      document.querySelector("button").onclick = (event) => resolve(handled.filter((at) => at > event.timeStamp).length);
    });
    const sockets = await Promise.all(Array.from({ length: 10 }, () => opened(new Class("/test/echo"))));
    globalThis.started = new Promise((resolve) => {
      for (const socket of sockets) {
        socket.onmessage = () => {
          const end = performance.now() + 15;
          while (performance.now() < end);
          handled.push(performance.now());
          if (handled.length === 3) resolve();
        };
      }
    });
    for (const socket of sockets) for (let n = 0; n < 30; n++) socket.send("x");
    await started;
  });
  await page.mouse.click(50, 50);
  const between = await runInPage(page, () => clicked);
  // The handler under way, and those of tasks that the browser puts before the click.
  assert.ok(between <= 8, `${between} handlers ran between the click and its event`);
});

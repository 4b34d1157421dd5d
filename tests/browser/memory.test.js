// The memory of the page's WebAssembly, which never shrinks: messages that wait take none of it.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { makeSite, removeSite, startBrowser, startRelay, startServer, until } from "../harness/index.js";
import { firefox, startFirefox } from "../harness/firefox.js";

const MIB = 1024 * 1024;
const TOTAL = 50_000_000;

const site = await makeSite();
const server = await startServer(site, { kind: "test", more: ["--resume", "60"] });
after(async () => {
  assert.equal(await server.stop(), 0, server.output());
  await removeSite(site);
});

/** Gives a page sockets that check the order of their echoes, and the size of the memory. */
async function prepare(options) {
  const { Instance } = WebAssembly;
  let memory;
  WebAssembly.Instance = function (...given) {
    const instance = new Instance(...given);
    memory = instance.exports.memory;
    return instance;
  };
  const { MultiWebSocket } = await import("/pkg/index.js");
  globalThis.M = new MultiWebSocket("/multiplexer", options);
  globalThis.memorySize = () => memory.buffer.byteLength;
  globalThis.open = async (path) => {
    const socket = new M.WebSocket(path);
    Object.assign(socket, { binaryType: "arraybuffer", sent: 0, bytes: 0, received: 0, wrong: 0 });
    socket.onmessage = ({ data }) => {
      const number = socket.received++;
      const isRight = typeof data === "string" ? data === `text ${number}` : data.byteLength === sizeOf(number) && new Uint32Array(data, 0, 1)[0] === number;
      if (!isRight) socket.wrong++;
      if (socket.received === socket.sent) socket.done?.();
    };
    socket.closed = new Promise((resolve) => (socket.onclose = ({ code, wasClean }) => resolve([code, wasClean])));
    await new Promise((resolve) => (socket.onopen = resolve));
    return socket;
  };
  // 100 bytes to 4 KiB; each hundredth message is a text, another a Blob if `blobs` is set.
  const sizeOf = (number) => 100 + 4 * ((number * 37) % 1000);
  const bytes = new Uint8Array(4096);
  globalThis.fill = (socket, total, blobs = false) => {
    for (const end = socket.bytes + total; socket.bytes < end; socket.sent++) {
      const number = socket.sent;
      let data = `text ${number}`;
      let size = data.length;
      if (number % 100 !== 99) {
        size = sizeOf(number);
        // The next message changes these bytes.
        data = bytes.subarray(0, size);
        new Uint32Array(bytes.buffer, 0, 1)[0] = number;
        if (blobs && number % 500 === 250) data = new Blob([data]);
      }
      socket.send(data);
      socket.bytes += size;
    }
  };
  globalThis.echoed = (socket) => new Promise((resolve) => {
    socket.done = resolve;
    if (socket.received === socket.sent) resolve();
  });
}

const engines = { Chromium: startPlaywright, ...(firefox !== null && { Firefox: startFirefox }) };

/** Chromium, with the same interface as Firefox. */
async function startPlaywright() {
  const browser = await startBrowser();
  return {
    async openPage(url) {
      const page = await browser.newPage();
      await page.goto(url);
      return page;
    },
    close: () => browser.close(),
  };
}

for (const [name, start] of Object.entries(engines)) {
  test(name, async (t) => {
    const browser = await start();
    t.after(() => browser.close());

    /** Runs code in a page and checks by how much the memory has grown since the page's first message. */
    const measured = async (t, code, { argument, origin = server.origin, options = {}, most = 2 * MIB } = {}) => {
      const page = await browser.openPage(`${origin}/`);
      t.after(() => page.close());
      await page.evaluate(prepare, options);
      await page.evaluate(async () => {
        globalThis.socket = await open("/test/echo");
        fill(socket, 1);
        await echoed(socket);
        globalThis.before = memorySize();
      });
      const result = await page.evaluate(code, argument);
      const grown = await page.evaluate(() => memorySize() - before);
      t.diagnostic(`${(grown / MIB).toFixed(2)} MiB`);
      assert.ok(grown <= most, `${grown} bytes`);
      return { page, result };
    };

    for (const options of [{}, { resume: false }]) {
      await t.test(`50 MB that are sent in one task, ${JSON.stringify(options)}`, async (t) => {
        const { result } = await measured(t, async (total) => {
          fill(socket, total);
          const amount = socket.bufferedAmount;
          await echoed(socket);
          return { missing: socket.bytes - amount, after: socket.bufferedAmount, wrong: socket.wrong };
        }, { argument: TOTAL, options });
        // The window's worth may have left.
        assert.ok(result.missing >= 0 && result.missing < MIB, `${result.missing} bytes`);
        assert.deepEqual([result.after, result.wrong], [0, 0]);
      });
    }

    await t.test("tiny messages, with Blobs among others that wait", async (t) => {
      const { result } = await measured(t, async () => {
        const other = await open("/test/echo");
        fill(other, 10_000_000, true);
        let received = 0;
        let isInOrder = true;
        const last = new Promise((resolve) => {
          socket.onmessage = ({ data }) => {
            isInOrder &&= data === String(received);
            if (++received === 200_000) resolve();
          };
        });
        for (let n = 0; n < 200_000; n++) socket.send(String(n));
        const amount = socket.bufferedAmount;
        await Promise.all([last, echoed(other)]);
        return [amount > 0, isInOrder, other.wrong, socket.bufferedAmount, other.bufferedAmount];
      });
      assert.deepEqual(result, [true, true, 0, 0, 0]);
    });

    await t.test("50 MB of an interrupted link, and those that no ACK has named", async (t) => {
      const relay = await startRelay(server.origin, { delay: 100 });
      t.after(() => relay.close());
      const { page } = await measured(t, () => {
        globalThis.interrupted = 0;
        M.addEventListener("interrupted", () => interrupted++);
      }, { origin: relay.origin });
      relay.accepts = false;
      relay.cut();
      await until("the interruption", () => page.evaluate(() => interrupted > 0));
      const amount = await page.evaluate((total) => {
        fill(socket, total);
        return socket.bytes - socket.bufferedAmount;
      }, TOTAL);
      assert.ok(amount >= 0 && amount < 1000, "all waits, but the first message");
      relay.accept();
      await until("some echoes", () => page.evaluate(() => socket.received > 1000));
      relay.cut();
      const result = await page.evaluate(async () => {
        await echoed(socket);
        return [socket.wrong, socket.bufferedAmount, memorySize() - before];
      });
      assert.deepEqual(result.slice(0, 2), [0, 0]);
      t.diagnostic(`${(result[2] / MIB).toFixed(2)} MiB`);
      assert.ok(result[2] <= 2 * MIB, `${result[2]} bytes`);
    });

    await t.test("no socket waits for the credit of another", async (t) => {
      const { result } = await measured(t, async (total) => {
        const deaf = [];
        for (let n = 0; n < 10; n++) deaf.push(await open("/test/deaf?milliseconds=600000"));
        for (const socket of deaf) fill(socket, total / 10);
        fill(socket, 5_000_000);
        await echoed(socket);
        const waiting = deaf.every((socket) => socket.bufferedAmount > 1_000_000 && socket.received === 0);
        const [amount] = deaf.map((socket) => socket.bufferedAmount);
        M.close();
        const [end] = await Promise.all(deaf.map((socket) => socket.closed));
        return { waiting, wrong: socket.wrong, end, lost: amount - deaf[0].bufferedAmount };
      }, { argument: TOTAL });
      assert.deepEqual(result, { waiting: true, wrong: 0, end: [1006, false], lost: 0 });
    });

    await t.test("a socket closes behind the messages that wait", async (t) => {
      const { result } = await measured(t, async () => {
        const sink = await open("/test/watched");
        fill(sink, 10_000_000);
        sink.close(4000, "done");
        const waits = sink.bufferedAmount > 5_000_000;
        sink.send("dropped");
        return [waits, await sink.closed, sink.bufferedAmount];
      });
      assert.deepEqual(result, [true, [4000, true], 7]);
    });

    await t.test("50 MB that arrive at a busy page", async (t) => {
      const { result } = await measured(t, async () => {
        const source = new M.WebSocket("/test/push");
        await new Promise((resolve) => (source.onopen = resolve));
        let received = 0;
        const end = new Promise((resolve) => {
          source.onmessage = () => {
            if (++received === 250_000) resolve();
            if (received % 10_000 !== 0) return;
            for (const since = performance.now(); performance.now() - since < 50;);
          };
        });
        source.send("250000 200 binary");
        await end;
        return received;
      });
      assert.equal(result, 250_000);
    });
  });
}

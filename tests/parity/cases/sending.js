// send(): its conversions, its errors, the received data, and bufferedAmount.
import { fired, later, outcome, record, show } from "../log.js";

async function opened(WebSocket, url, path = "/echo") {
  const socket = new WebSocket(url(path));
  socket.binaryType = "arraybuffer";
  await fired(socket, "open");
  return socket;
}

/** Sends a value, and records the echo. */
async function roundTrip(socket, log, value) {
  const result = outcome(() => socket.send(value));
  log(result);
  if (result.startsWith("returns")) log(show((await fired(socket, "message")).data));
}

const STRINGS = {
  empty: "", ascii: "hello", latin: "grüße", wide: "日本語", astral: "😀𝒳", nul: "a\u0000b", bom: "\ufeffbom",
  "lone high": "a\ud800b", "lone low": "a\udc00b", "reversed pair": "\udc00\ud800", "ends in high": "x\ud83d", noncharacter: "\uffff\ufffe",
  newline: "a\r\nb", long: "x".repeat(70_000), "long wide": "é€😀".repeat(30_000),
};

const VALUES = {
  number: () => 42.5, "minus zero": () => -0, true: () => true, null: () => null, undefined: () => undefined, object: () => ({}),
  "object with toString": () => ({ toString: () => "own" }), array: () => [1, [2, 3]], date: () => new Date(0), function: () => function f() {},
  "object like a buffer": () => ({ byteLength: 3, size: 3 }), "Proxy of a view": () => new Proxy(new Uint8Array(2), {}), "Proxy of a Blob": () => new Proxy(new Blob(["x"]), {}),
  "heir of a buffer's prototype": () => Object.create(ArrayBuffer.prototype), "object without a prototype": () => Object.create(null),
  symbol: () => Symbol("s"), bigint: () => 10n, "String object": () => new String("boxed"), "throwing toString": () => ({ toString() { throw new RangeError("mine"); } }),
};

const BUFFERS = {
  ArrayBuffer: () => Uint8Array.of(1, 2, 3).buffer,
  "empty ArrayBuffer": () => new ArrayBuffer(0),
  Uint8Array: () => Uint8Array.of(0, 255),
  "part of a buffer": () => new Uint8Array(Uint8Array.of(0, 1, 2, 3, 4, 5).buffer, 2, 3),
  Uint16Array: () => Uint16Array.of(1, 65535),
  Int32Array: () => Int32Array.of(-1),
  Float64Array: () => Float64Array.of(1.5),
  BigInt64Array: () => BigInt64Array.of(-1n),
  Uint8ClampedArray: () => Uint8ClampedArray.of(300),
  DataView: () => new DataView(Uint8Array.of(9, 8, 7).buffer, 1),
  "large ArrayBuffer": () => new Uint8Array(100_000).map((_, i) => i).buffer,
  "large view": () => new Uint8Array(200_000).map((_, i) => i * 3).subarray(7, 150_007),
  resizable: () => { const buffer = new ArrayBuffer(4, { maxByteLength: 8 }); new Uint8Array(buffer).set([1, 2, 3, 4]); return buffer; },
  "view of a resizable buffer": () => { const buffer = new ArrayBuffer(4, { maxByteLength: 8 }); const view = new Uint8Array(buffer); view.set([1, 2, 3, 4]); buffer.resize(6); return view; },
  "view out of bounds": () => { const buffer = new ArrayBuffer(8, { maxByteLength: 8 }); const view = new Uint8Array(buffer, 4, 4); buffer.resize(2); return view; },
  detached: () => { const buffer = new ArrayBuffer(8); structuredClone(buffer, { transfer: [buffer] }); return buffer; },
  "view of a detached buffer": () => { const view = new Uint8Array(8); structuredClone(view.buffer, { transfer: [view.buffer] }); return view; },
  "shared memory": () => new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer,
  "view of shared memory": () => new Uint8Array(new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer, 0, 3),
  "wasm memory": () => new Uint8Array(new WebAssembly.Memory({ initial: 1 }).buffer, 10, 5),
};

const BLOBS = {
  "Blob of text": () => new Blob(["blöb"]), "empty Blob": () => new Blob([]), "Blob of parts": () => new Blob([Uint8Array.of(1), "a", new Blob(["b"])]),
  File: () => new File(["file"], "name.txt", { type: "text/plain" }), "slice of a Blob": () => new Blob(["0123456789"]).slice(2, 5), "large Blob": () => new Blob([new Uint8Array(150_000).fill(5)]),
};

export const cases = {
  // Longer than one piece, and cut at odd places by a careless client.
  "surrogate pairs of a long string stay whole": async ({ WebSocket, log, url }) => {
    const socket = new WebSocket(url("/echo"));
    await fired(socket, "open");
    for (const text of ["😀".repeat(600_000), `x${"😀".repeat(600_000)}`]) {
      socket.send(text);
      log(`whole: ${(await fired(socket, "message")).data === text}`);
    }
    socket.close();
  },
  ...Object.fromEntries(
    [...Object.entries(STRINGS).map(([name, text]) => [`string, ${name}`, () => text]), ...Object.entries(VALUES), ...Object.entries(BUFFERS), ...Object.entries(BLOBS)].map(
      ([name, make]) => [
        `send ${name}`,
        async ({ WebSocket, url, log }) => {
          const socket = await opened(WebSocket, url);
          await roundTrip(socket, log, make());
          await roundTrip(socket, log, "after");
          socket.close();
        },
      ],
    ),
  ),
  "send without an argument": async ({ WebSocket, url, log }) => {
    const connecting = new WebSocket(url("/echo"));
    log(outcome(() => connecting.send()));
    await fired(connecting, "open");
    log(outcome(() => connecting.send()));
    connecting.close();
  },
  "send with more arguments": async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    log(outcome(() => socket.send("x", { binary: true }, () => log("called"))));
    log(show((await fired(socket, "message")).data));
    socket.close();
  },
  "send while CONNECTING": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    log(outcome(() => socket.send("too early")));
    log(outcome(() => socket.send({ toString() { log("converted first"); return "x"; } })));
    log(outcome(() => socket.send(Symbol("s"))));
    log(show(socket.bufferedAmount));
    socket.close();
  },
  "bufferedAmount rises by UTF-8 bytes at once": async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    for (const value of ["abc", "é", "€", "😀", "\ud800", "", new Uint8Array(10), new Uint16Array(5), new ArrayBuffer(3), new Blob(["12345"]), new ArrayBuffer(0)]) {
      socket.send(value);
      log(show(socket.bufferedAmount));
    }
    await null;
    log(show(socket.bufferedAmount));
    for (let n = 0; n < 11; n++) await fired(socket, "message");
    while (socket.bufferedAmount > 0) await later();
    log(show(socket.bufferedAmount));
    socket.close();
  },
  "bufferedAmount rises by large messages at once": async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    socket.send(new ArrayBuffer(100_000));
    log(show(socket.bufferedAmount));
    socket.send("é".repeat(50_000));
    log(show(socket.bufferedAmount));
    await null;
    log(show(socket.bufferedAmount));
    await fired(socket, "message");
    await fired(socket, "message");
    while (socket.bufferedAmount > 0) await later();
    log(show(socket.bufferedAmount));
    socket.close();
  },
  "bufferedAmount keeps growing after close": async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    socket.close();
    log(outcome(() => socket.send("12345")));
    log(show(socket.bufferedAmount));
    socket.send(new ArrayBuffer(10));
    socket.send(new Blob(["123"]));
    log(show(socket.bufferedAmount));
    await fired(socket, "close");
    log(show(socket.bufferedAmount));
    log(outcome(() => socket.send("é")));
    log(show(socket.bufferedAmount));
    await later(20);
    log(show(socket.bufferedAmount));
  },
  "a send copies the data": async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    for (const size of [4, 5000, 300_000]) {
      const bytes = new Uint8Array(size).fill(1);
      socket.send(bytes);
      bytes.fill(2);
      socket.send(bytes.buffer);
      bytes.fill(3);
      for (let n = 0; n < 2; n++) {
        const got = new Uint8Array((await fired(socket, "message")).data);
        log(show([got.length, got[0], got[size - 1], got.every((byte) => byte === got[0])]));
      }
    }
    socket.close();
  },
  // All the sizes at which a link changes how it sends; the last socket's do not fit into a window.
  "one buffer for the messages of several sockets": async ({ WebSocket, url, log }) => {
    const sockets = await Promise.all([0, 1, 2].map(() => opened(WebSocket, url)));
    const sizes = [0, 3, 5000, 16_383, 16_384, 40_000, 140_000, 1, 300_000];
    const got = sockets.map(() => []);
    const all = sockets.map((socket, at) => new Promise((resolve) => {
      socket.onmessage = ({ data }) => {
        const bytes = new Uint8Array(data);
        got[at].push([bytes.length, bytes[0], bytes.every((byte) => byte === bytes[0])]);
        if (got[at].length === 3 * sizes.length) resolve();
      };
    }));
    const buffer = new Uint8Array(300_000);
    for (let round = 0; round < 3; round++) {
      for (const size of sizes) {
        for (const [at, socket] of sockets.entries()) socket.send(buffer.subarray(0, size).fill(16 * round + at));
      }
      if (round === 0) await later(5);
    }
    await Promise.all(all);
    for (const each of got) log(show(each));
    for (const socket of sockets) socket.close();
  },
  "a buffer that is transferred after send": async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    for (const size of [4, 400_000]) {
      const bytes = new Uint8Array(size).fill(6);
      socket.send(bytes);
      structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
      const got = new Uint8Array((await fired(socket, "message")).data);
      log(show([got.length, got[size - 1]]));
    }
    socket.close();
  },
  "order of strings, buffers and Blobs": async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    socket.send("1");
    socket.send(new Blob(["2"]));
    socket.send("3");
    socket.send(Uint8Array.of(4));
    socket.send(new Blob([new Uint8Array(100_000)]));
    socket.send(new Blob(["6"]));
    socket.send("7");
    for (let n = 0; n < 7; n++) log(show((await fired(socket, "message")).data));
    socket.close();
  },
  "close waits for Blobs": async ({ WebSocket, url, log }) => {
    const socket = record(await opened(WebSocket, url, "/sink"), log);
    socket.send(new Blob(["12345"]));
    socket.send("67");
    socket.send("?");
    await fired(socket, "message");
    socket.send(new Blob(["8"]));
    socket.close(3001, "after");
    await fired(socket, "close");
  },
  "all that was sent before close arrives": async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url, "/close-on-message?code=3002&reason=got");
    for (let n = 0; n < 100; n++) socket.send(`message ${n}`);
    socket.onmessage = ({ data }) => log(show(data));
    // Not `wasClean`: a server that goes with messages unread may reset the connection.
    const { code, reason } = await fired(socket, "close");
    log(show([code, reason]));
  },
  "many messages keep their order": async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    for (let n = 0; n < 500; n++) socket.send(n % 3 === 0 ? Uint8Array.of(n, n >> 8) : n % 50 === 1 ? `${n}`.padEnd(9000) : `${n}`);
    const got = [];
    while (got.length < 500) {
      const { data } = await fired(socket, "message");
      got.push(typeof data === "string" ? Number(data) : new DataView(data).getUint16(0, true));
    }
    log(show(got.every((value, n) => value === n)));
    socket.close();
  },
};

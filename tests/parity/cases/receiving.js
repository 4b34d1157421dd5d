// Messages: their events, their types, their order among everything else.
import { event, fired, later, record, show } from "../log.js";

const next = (socket) => fired(socket, "message").then((e) => e.data);

export const cases = {
  "text and binary events": async ({ WebSocket, url, log }) => {
    const socket = record(new WebSocket(url("/echo")), log);
    await fired(socket, "open");
    for (const value of ["text", "", Uint8Array.of(1, 2)]) {
      socket.send(value);
      await fired(socket, "message");
    }
    socket.close();
    await fired(socket, "close");
  },
  "blob is the default": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    await fired(socket, "open");
    socket.send(Uint8Array.of(1, 2, 3));
    const data = await next(socket);
    log(show([data instanceof Blob, data.size, data.type, [...new Uint8Array(await data.arrayBuffer())]]));
    socket.close();
  },
  "what for…in finds in events": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    const names = (fired) => {
      const found = [];
      for (const name in fired) found.push(name);
      return found.sort();
    };
    log(show(names(await fired(socket, "open"))));
    socket.send("x");
    const message = await fired(socket, "message");
    log(show(names(message)));
    const copy = {};
    for (const name in message) copy[name] = message[name];
    log(show([copy.data, copy.lastEventId, copy.target === socket]));
    socket.close();
    log(show(names(await fired(socket, "close"))));
  },
  "data is the same object each time": async ({ WebSocket, url, log }) => {
    for (const binaryType of ["blob", "arraybuffer"]) {
      const socket = new WebSocket(url("/echo"));
      socket.binaryType = binaryType;
      await fired(socket, "open");
      socket.send(new Uint8Array(10));
      const message = await fired(socket, "message");
      log(show(message.data === message.data));
      socket.close();
    }
  },
  "a received buffer is the page's own": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    socket.binaryType = "arraybuffer";
    await fired(socket, "open");
    for (const size of [8, 10_000]) {
      const kept = [];
      for (let n = 0; n < 3; n++) socket.send(new Uint8Array(size).fill(n));
      for (let n = 0; n < 3; n++) kept.push(await next(socket));
      new Uint8Array(kept[0]).fill(9);
      structuredClone(kept[1], { transfer: [kept[1]] });
      log(show([kept.map((buffer) => buffer.byteLength), new Uint8Array(kept[2])[0], kept[0].constructor === ArrayBuffer, kept[0].resizable]));
    }
    socket.close();
  },
  "binaryType switched between two messages": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/burst?count=9&size=20"));
    const types = [];
    await new Promise((resolve) => {
      socket.onmessage = ({ data }) => {
        types.push(Object.prototype.toString.call(data));
        socket.binaryType = types.length % 2 ? "arraybuffer" : "blob";
        if (types.length === 9) resolve();
      };
    });
    log(show(types));
    socket.close();
  },
  "binaryType while CONNECTING": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/burst?count=3&size=5"));
    socket.binaryType = "arraybuffer";
    for (let n = 0; n < 3; n++) log(show(await next(socket)));
    socket.close();
  },
  "messages right after open": async ({ WebSocket, url, log }) => {
    const socket = record(new WebSocket(url("/burst?count=5")), log);
    for (let n = 0; n < 5; n++) await fired(socket, "message");
    socket.close();
  },
  "a consumer that awaits loses nothing": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/burst?count=500"));
    const got = [];
    while (got.length < 500) got.push(await next(socket));
    log(show(got.every((value, n) => value === String(n))));
    socket.close();
  },
  "microtasks run between events, tasks may": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/burst?count=4"));
    const order = [];
    await new Promise((resolve) => {
      socket.onmessage = ({ data }) => {
        order.push(data);
        queueMicrotask(() => order.push(`micro ${data}`));
        Promise.resolve().then(() => Promise.resolve()).then(() => order.push(`chain ${data}`));
        if (data === "3") setTimeout(resolve, 10);
      };
    });
    log(show(order));
    socket.close();
  },
  "messages that arrive after close() are dropped": async ({ WebSocket, url, log }) => {
    const socket = record(new WebSocket(url("/burst?count=50&size=3")), log);
    await fired(socket, "message");
    socket.close(3000);
    await fired(socket, "close");
  },
  "close() inside a message handler": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/burst?count=10"));
    socket.onmessage = ({ data }) => {
      log(data);
      if (data === "3") socket.close();
    };
    log(event(await fired(socket, "close")));
  },
  "an exception in a handler stops nothing": async ({ WebSocket, url, log, scope }) => {
    const reported = [];
    const report = (e) => { reported.push(e.message); e.preventDefault(); };
    scope.addEventListener("error", report);
    const socket = new WebSocket(url("/burst?count=3"));
    socket.addEventListener("message", ({ data }) => { log(`first ${data}`); throw new TypeError(`from ${data}`); });
    socket.addEventListener("message", ({ data }) => log(`second ${data}`));
    for (let n = 0; n < 3; n++) await fired(socket, "message");
    await later(10);
    scope.removeEventListener("error", report);
    log(show(reported));
    socket.close();
  },
  "large messages": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    socket.binaryType = "arraybuffer";
    await fired(socket, "open");
    for (const size of [4095, 4096, 4097, 65_535, 65_536, 262_144, 1_000_000, 3_000_000]) {
      const bytes = new Uint8Array(size).map((_, i) => i * 31 + (i >> 8));
      socket.send(bytes);
      const got = new Uint8Array(await next(socket));
      log(show([size, got.length, got.every((byte, i) => byte === bytes[i])]));
      const text = "aé€😀".repeat(size / 5);
      socket.send(text);
      log(show((await next(socket)) === text));
    }
    socket.close();
  },
  "a socket without listeners and references still works": async ({ WebSocket, url, log }) => {
    new WebSocket(url("/burst?count=3"));
    const kept = new WebSocket(url("/burst?count=1"));
    log(show(await next(kept)));
    kept.close();
  },
  "an open socket's events come after those of the task that made it": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/burst?count=1"));
    while (socket.readyState === 0) await later(10);
    // Its message is right behind the answer, and so before another socket's.
    const second = new WebSocket(url("/burst?count=1"));
    await next(second);
    second.close();
    log(show(socket.readyState));
    socket.onmessage = () => log("not reached: it came before");
    socket.onopen = () => log("not reached either");
    await later(50);
    socket.close();
  },
};

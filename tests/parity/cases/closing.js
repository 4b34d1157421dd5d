// close(), the peer's close, and every other way to end.
import { about, event, fired, later, outcome, record, show } from "../log.js";

async function opened(WebSocket, url, path = "/echo") {
  const socket = new WebSocket(url(path));
  await fired(socket, "open");
  return socket;
}

const CODES = [undefined, 1000, 3000, 3999, 4000, 4999, 0, 1, 999, 1001, 1005, 1006, 1015, 2999, 5000, 65535, 65536, -1, NaN, Infinity, -Infinity, "3000", "x", null, true, {}, [4000], 2999.4, 3000.4, 4999.4, 1000.4, 1e100, { valueOf: () => 3001 }, 3000n, Symbol("s")];

const REASONS = [undefined, "", "plain", "grüße 😀", "x".repeat(123), "x".repeat(124), "é".repeat(61), "é".repeat(62), "😀".repeat(30), "😀".repeat(31), "lone \ud800", null, 5, { toString: () => "own" }, Symbol("s")];

export const cases = {
  ...Object.fromEntries(
    CODES.map((code, n) => [
      `close(${typeof code === "object" || typeof code === "string" || typeof code === "bigint" ? `value ${n}` : String(code)})`,
      async ({ WebSocket, url, log }) => {
        const socket = await opened(WebSocket, url);
        log(outcome(() => socket.close(code)));
        log(show(socket.readyState));
        if (socket.readyState === 1) socket.close();
        log(event(await fired(socket, "close")));
      },
    ]),
  ),
  ...Object.fromEntries(
    REASONS.map((reason, n) => [
      `close(3000, reason ${n})`,
      async ({ WebSocket, url, log }) => {
        const socket = await opened(WebSocket, url);
        log(outcome(() => socket.close(3000, reason)));
        log(show(socket.readyState));
        if (socket.readyState === 1) socket.close();
        log(event(await fired(socket, "close")));
      },
    ]),
  ),
  "arguments are checked in every state": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    const attempts = () => {
      for (const all of [[1], [1000, "x".repeat(124)], [2999, "x".repeat(124)]]) log(outcome(() => socket.close(...all)));
      log(show(socket.readyState));
    };
    attempts();
    await fired(socket, "open");
    attempts();
    socket.close();
    attempts();
    await fired(socket, "close");
    attempts();
    log(outcome(() => socket.close()));
  },
  "close while CONNECTING": async ({ WebSocket, url, log }) => {
    const socket = record(new WebSocket(url("/late?milliseconds=100")), log);
    log(outcome(() => socket.close(3000, "early")));
    log(show(socket.readyState));
    await null;
    log(show(socket.readyState));
    await fired(socket, "close");
    await later(200);
    log(show([socket.readyState, socket.protocol]));
  },
  "close while CONNECTING, later": async ({ WebSocket, url, log }) => {
    const socket = record(new WebSocket(url("/late?milliseconds=3000")), log);
    await later(20);
    socket.close();
    log(show(socket.readyState));
    await fired(socket, "close");
  },
  "close twice": async ({ WebSocket, url, log }) => {
    const socket = record(await opened(WebSocket, url), log);
    socket.close(3001, "first");
    socket.close(3002, "second");
    await fired(socket, "close");
    socket.close(3003);
    await later(50);
    log(show(socket.readyState));
  },
  "close in the open handler": async ({ WebSocket, url, log }) => {
    const socket = record(new WebSocket(url("/burst?count=5")), log);
    socket.onopen = () => socket.close();
    await fired(socket, "close");
  },
  "close in the close handler": async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    socket.onclose = () => log(outcome(() => socket.close()));
    socket.close();
    await fired(socket, "close");
  },
  "a new socket in the close handler": async ({ WebSocket, url, log }) => {
    const socket = await opened(WebSocket, url);
    const again = new Promise((resolve) => { socket.onclose = () => resolve(new WebSocket(url("/echo"))); });
    socket.close();
    const second = await again;
    await fired(second, "open");
    log(show(second.readyState));
    second.close();
  },
  ...Object.fromEntries(
    ["", "?code=1000", "?code=1000&reason=bye", "?code=1001&reason=going", "?code=1003", "?code=1008&reason=policy", "?code=1011", "?code=3000", "?code=4999&reason=gr%C3%BC%C3%9Fe"].map((query) => [
      `the server closes ${query}`,
      async ({ WebSocket, url, log }) => {
        const socket = record(new WebSocket(url(`/close${query}`)), log);
        await fired(socket, "close");
        await later(20);
      },
    ]),
  ),
  "messages before the server's close come first": about("receiving", async ({ WebSocket, url, log }) => {
    const socket = record(new WebSocket(url("/close?count=20&code=3003&reason=done")), log);
    await fired(socket, "close");
  }),
  "messages before the server's close, awaited": about("receiving", async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/close?count=20&code=3003"));
    const ended = fired(socket, "close").then((e) => log(`close ${e.code}`));
    for (let n = 0; n < 20; n++) log((await fired(socket, "message")).data);
    await ended;
  }),
  "the server answers a message with a close": about("receiving", async ({ WebSocket, url, log }) => {
    const socket = record(await opened(WebSocket, url, "/close-on-message?code=4001&reason=enough"), log);
    socket.send("x");
    await fired(socket, "close");
    log(outcome(() => socket.send("late")));
    log(show(socket.bufferedAmount));
  }),
  "the server drops the connection": async ({ WebSocket, url, log }) => {
    const socket = record(await opened(WebSocket, url, "/drop-on-message"), log);
    socket.send("x");
    const { code, wasClean, reason } = await fired(socket, "close");
    log(show([code, wasClean, reason]));
  },
  "the server drops the connection at once": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/drop"));
    const { code, wasClean, reason } = await fired(socket, "close");
    log(show([code, wasClean, reason, socket.readyState]));
  },
  "the server fails the connection": about("receiving", async ({ WebSocket, url, log }) => {
    const socket = record(await opened(WebSocket, url, "/fail"), log);
    socket.send("x");
    const { code, wasClean, reason } = await fired(socket, "close");
    log(show([code, wasClean, reason]));
  }),
  "no close event before the server has answered": async ({ WebSocket, url, log }) => {
    const socket = record(await opened(WebSocket, url, "/deaf?milliseconds=800"), log);
    socket.close(3004);
    const began = performance.now();
    await fired(socket, "close");
    log(show(performance.now() - began > 100));
  },
  "many sockets close at once": async ({ WebSocket, url, log }) => {
    const sockets = await Promise.all(Array.from({ length: 10 }, () => opened(WebSocket, url)));
    sockets.forEach((socket, n) => socket.close(3000 + n));
    const closes = await Promise.all(sockets.map((socket) => fired(socket, "close")));
    log(show(closes.map(({ code, wasClean }) => [code, wasClean])));
  },
};

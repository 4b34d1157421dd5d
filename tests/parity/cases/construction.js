// The constructor: its conversions, its errors, and the resulting URL.
import { about, fired, later, outcome, record, show } from "../log.js";

/** Constructs, records the result, and closes. */
function attempt(WebSocket, log, ...all) {
  log(
    outcome(() => {
      const socket = new WebSocket(...all);
      socket.onopen = socket.onerror = null;
      const { url, readyState } = socket;
      socket.close();
      return { url, readyState };
    }),
  );
}

const BAD_URLS = ["ws://", "ws://a b/", "ws://host:99999/", "http//x:y:z:1", "ftp://example.com/", "mailto:a@b", "javascript:1", "about:blank", "data:,x", "blob:x", "file:///x", "ws://host/#", "ws://host/#f", "wss://host/a?b#c", "ws://[::1", "ws://%", "ws:///"];
const BAD_PROTOCOLS = ["", " ", "a b", "a,b", "a/b", "é", "\u0000", "\u007f", "(", ")", "<", ">", "@", ";", ":", "\\", '"', "[", "]", "?", "=", "{", "}", "\t"];

// Those that open come first: Chromium delays connections by seconds after many that were closed while CONNECTING.
export const cases = {
  "two opens of one URL are two sockets": async ({ WebSocket, url, log }) => {
    const sockets = [new WebSocket(url("/echo")), new WebSocket(url("/echo"))];
    sockets.forEach((socket, i) => { socket.onmessage = (e) => log(`${i}: ${e.data}`); });
    await Promise.all(sockets.map((socket) => fired(socket, "open")));
    sockets[0].send("zero");
    await fired(sockets[0], "message");
    sockets[1].send("one");
    await fired(sockets[1], "message");
    sockets.forEach((socket) => socket.close());
  },
  "open: events and states": async ({ WebSocket, url, log }) => {
    const socket = record(new WebSocket(url("/echo")), log);
    log(show(socket.readyState));
    await Promise.resolve();
    log(show(socket.readyState));
    await fired(socket, "open");
    log(show([socket.readyState, socket.protocol, socket.extensions === "" || typeof socket.extensions === "string"]));
    socket.close();
    await fired(socket, "close");
  },
  "subprotocol: the server chooses": async ({ WebSocket, url, log }) => {
    for (const [offer, choose] of [[["a", "b"], "b"], [["a", "b"], "a"], ["solo", "solo"], [["a"], ""], [[], ""]]) {
      const socket = record(new WebSocket(url(`/protocol?choose=${choose}`), offer), log);
      const closed = fired(socket, "close");
      await Promise.race([fired(socket, "open"), closed]);
      log(show(socket.protocol));
      socket.close();
      await closed;
    }
  },
  "userinfo": about("receiving", async ({ WebSocket, url, log }) => {
    for (const userinfo of ["ada:lovelace", "ada", ":secret", "gr%C3%BC:%40"]) {
      const socket = new WebSocket(url("/rooms/x").replace("//", `//${userinfo}@`));
      log(show(socket.url));
      log((await fired(socket, "message")).data.match(/authorization .*/)[0]);
      socket.close();
    }
  }),
  "blocked ports": about("ports", async ({ WebSocket, log }) => {
    for (const port of [1, 22, 25, 6000, 6667, 10080]) {
      const socket = record(new WebSocket(`ws://localhost:${port}/`), log);
      log(show([socket.url, socket.readyState]));
      await fired(socket, "close");
    }
  }),
  "another host": async ({ WebSocket, url, log }) => {
    const socket = record(new WebSocket(`${new URL(url("/")).protocol}//nowhere.invalid/x?y`), log);
    log(show([socket.url, socket instanceof WebSocket, Object.getPrototypeOf(socket) === WebSocket.prototype]));
    log(outcome(() => socket.send(5)));
    log(outcome(() => socket.close(1)));
    await fired(socket, "close");
    log(outcome(() => socket.send(5)));
    log(show(socket.bufferedAmount));
  },
  "refusals": async ({ WebSocket, url, log }) => {
    for (const status of [400, 401, 403, 404, 500, 503, 200, 302]) {
      const socket = record(new WebSocket(url(`/refuse?status=${status}`)), log);
      await fired(socket, "close");
      log(show([socket.readyState, socket.protocol]));
    }
  },
  "no arguments": async ({ WebSocket, log }) => log(outcome(() => new WebSocket())),
  ...Object.fromEntries(BAD_URLS.map((bad) => [`bad URL ${bad}`, async ({ WebSocket, log }) => attempt(WebSocket, log, bad)])),
  ...Object.fromEntries(
    BAD_PROTOCOLS.map((bad) => [
      `bad protocol ${JSON.stringify(bad)}`,
      async ({ WebSocket, url, log }) => {
        attempt(WebSocket, log, url("/echo"), bad);
        attempt(WebSocket, log, url("/echo"), ["good", bad]);
      },
    ]),
  ),
  "repeated protocols": async ({ WebSocket, url, log }) => {
    for (const list of [["a", "a"], ["a", "b", "a"], ["a", "A"], ["a", "b"]]) attempt(WebSocket, log, url("/echo"), list);
  },
  "protocols of every type": async ({ WebSocket, url, log }) => {
    for (const value of [undefined, null, "chat", ["chat"], [], new Set(["x", "y"]), new String("boxed"), 5, true, {}, { toString: () => "own" }, function f() {}, new Map(), (function* () { yield "g"; })(), [1, 2], [null], Symbol("s"), [Symbol("s")], { [Symbol.iterator]: 5 }, { [Symbol.iterator]: null, toString: () => "nulliter" }]) {
      attempt(WebSocket, log, url("/echo"), value);
    }
  },
  "protocols from an iterator, step by step": async ({ WebSocket, url, log }) => {
    const noisy = (results) => {
      const iterator = { get next() { log("next is read"); return () => { log("next"); return results.shift(); }; }, get return() { log("return is read"); return () => ({}); } };
      return { get [Symbol.iterator]() { log("Symbol.iterator is read"); return function (...all) { log(show([all.length, this === protocols])); return iterator; }; } };
    };
    // Engines differ in whether they ask for `done` first.
    const value = (name) => ({ done: false, get value() { log(`value of ${name}`); return { toString() { log(`${name} converted`); return name; } }; } });
    let protocols;
    for (const results of [[value("a"), value("b"), { done: true }], [{ done: 1 }], [{ value: "c" }, {}, { done: true }], [value("bad name"), { done: true }], [5], [null], [undefined], [{ value: Symbol("s") }], [() => {}, { done: true }], [{ get done() { throw new RangeError("mine"); } }]]) {
      protocols = noisy(results);
      attempt(WebSocket, log, url("/echo"), protocols);
    }
    for (const iterator of [() => 5, () => null, () => ({}), () => ({ next: 5 }), () => { throw new RangeError("mine"); }]) {
      attempt(WebSocket, log, url("/echo"), { [Symbol.iterator]: iterator });
    }
    const thrower = { *[Symbol.iterator]() { try { yield Symbol("s"); } finally { log("closed"); } } };
    attempt(WebSocket, log, url("/echo"), thrower);
  },
  "url of every type": async ({ WebSocket, url, log }) => {
    for (const value of [new URL(url("/echo")), { toString: () => url("/echo") }, [url("/echo")], undefined, null, 5, Symbol("s"), {}]) {
      attempt(WebSocket, log, value);
    }
  },
  "conversions happen in order": async ({ WebSocket, url, log }) => {
    const noisy = (name, value) => ({ toString: () => { log(`${name} converted`); return value; } });
    attempt(WebSocket, log, noisy("url", "not:good"), noisy("protocol", "bad protocol"));
    attempt(WebSocket, log, noisy("url", url("/echo")), [noisy("one", "a"), noisy("two", "b")]);
    log(outcome(() => new WebSocket({ toString() { throw new RangeError("mine"); } })));
    log(outcome(() => new WebSocket(url("/echo"), { toString() { throw new RangeError("mine"); } })));
  },
  "normalised URLs": async ({ WebSocket, url, log }) => {
    for (const path of ["", "/", "/a/../echo", "/./echo", "/e%63ho", "/echo?", "/echo?a=b&c", "/echo?q=ä", "/ä", "/a b", "//echo", "/echo;x", "/a|b", "/echo?'\"<>"]) {
      attempt(WebSocket, log, url(path));
    }
  },
  "host and scheme are normalised": async ({ WebSocket, url, log }) => {
    const parsed = new URL(url("/echo"));
    attempt(WebSocket, log, `WS://${parsed.host}/echo`);
    attempt(WebSocket, log, `  ws://${parsed.host}/echo\n`);
    attempt(WebSocket, log, `ws:/${parsed.host}/echo`);
    attempt(WebSocket, log, `ws:\\\\${parsed.host}\\echo`);
  },
  "http becomes ws": async ({ WebSocket, url, log }) => attempt(WebSocket, log, url("/echo").replace("ws:", "http:")),
  "relative URLs": async ({ WebSocket, log }) => {
    for (const relative of ["echo", "/echo", "./echo", "../echo", "?q", "//localhost/echo", ""]) attempt(WebSocket, log, relative);
  },
  "extra arguments are ignored": async ({ WebSocket, url, log }) => attempt(WebSocket, log, url("/echo"), [], { headers: {} }, 5),
};

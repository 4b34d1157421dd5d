// JsonWebSocket: its values and errors, over a native socket, over a virtual one, and around a socket that exists. That all
// else is as with a native socket is the business of parity.test.js.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { makeSite, runInPage, startWorld } from "../harness/index.js";

const world = await startWorld({ site: await makeSite(), kind: "test" });
after(() => world.close());
const page = await world.openPage();

await runInPage(page, async () => {
  const { JsonWebSocket, MultiWebSocket } = await import("/pkg/index.js");
  const M = new MultiWebSocket("/multiplexer");
  const forms = {
    native: (path, ...rest) => new JsonWebSocket(path, ...rest),
    virtual: (path, ...rest) => new M.JsonWebSocket(path, ...rest),
    "around a native socket": (path, ...rest) => new JsonWebSocket(new WebSocket(path), ...rest),
    "around a virtual socket": (path, ...rest) => new JsonWebSocket(new M.WebSocket(path), ...rest),
  };
  const fired = (socket, type) => new Promise((resolve) => socket.addEventListener(type, resolve, { once: true }));
  const opened = async (socket) => {
    await fired(socket, "open");
    return socket;
  };
  /** Returns the exception of an action, as one line. */
  const thrown = (action) => {
    try {
      return `returned ${action()}`;
    } catch (error) {
      return `${error.name}: ${error.message}`;
    }
  };
  Object.assign(globalThis, { JsonWebSocket, M, forms, fired, opened, thrown });
});

/** Runs `code` in the page for each form, and expects the same of each. */
function inEachForm(name, expected, code) {
  test(name, async () => {
    for (const form of ["native", "virtual", "around a native socket", "around a virtual socket"]) {
      const got = await runInPage(page, `(${code})(forms[${JSON.stringify(form)}])`);
      assert.deepEqual(got, expected, form);
    }
    assert.deepEqual(page.uncaught.splice(0), []);
  });
}

inEachForm("values go and come as JSON has them", [
  'null', 'true', '0', '-1.5', '1e+21', '"text"', '""', '"grüße 😀"', '"\\ud800"', '[]', '{}', '{"a":[1,{"b":null}]}', '{"__proto__":{"x":1}}',
  'null', '[null]', '{}', '"1970-01-01T00:00:00.000Z"', '"own"', '{"0":1,"1":2}',
], async (make) => {
  const socket = await opened(make("/test/echo"));
  const values = [null, true, 0, -1.5, 1e21, "text", "", "grüße 😀", "\ud800", [], {}, { a: [1, { b: null }] }, JSON.parse('{"__proto__":{"x":1}}')];
  const changed = [NaN, [undefined], { a: undefined }, new Date(0), { toJSON: () => "own" }, Uint8Array.of(1, 2)];
  const got = [];
  for (const value of [...values, ...changed]) {
    socket.send(value);
    const { data } = await fired(socket, "message");
    got.push(JSON.stringify(data));
    if (Object.prototype.x !== undefined || data?.x !== undefined) throw new Error("a key reached a prototype");
  }
  socket.close();
  return got;
});

inEachForm("a message is a MessageEvent of the socket", [true, true, true, true, "MessageEvent", true, "", null, 0], async (make) => {
  const socket = await opened(make("/test/echo"));
  socket.send({ a: 1 });
  const event = await fired(socket, "message");
  socket.close();
  return [
    event instanceof MessageEvent, event.constructor === MessageEvent, event.target === socket, event.data === event.data,
    Object.prototype.toString.call(event).slice(8, -1), event.origin === `ws://${location.host}`, event.lastEventId, event.source, event.ports.length,
  ];
});

inEachForm("a value without a JSON form throws, and nothing is sent", {
  errors: [
    "TypeError: Failed to execute 'send' on 'WebSocket': 1 argument required, but only 0 present.",
    "TypeError: Failed to execute 'send' on 'WebSocket': The value, of type 'undefined', has no form in JSON.",
    "TypeError: Failed to execute 'send' on 'WebSocket': The value, of type 'function', has no form in JSON.",
    "TypeError: Failed to execute 'send' on 'WebSocket': The value, of type 'symbol', has no form in JSON.",
    "TypeError: Failed to execute 'send' on 'WebSocket': The value, of type 'object', has no form in JSON.",
    "TypeError: Do not know how to serialize a BigInt",
    "TypeError: Converting circular structure to JSON",
    "RangeError: mine",
  ],
  bufferedAmount: 0,
  next: "after",
  connecting: ["InvalidStateError", "TypeError"],
}, async (make) => {
  const socket = make("/test/echo");
  const connecting = [thrown(() => socket.send("x")), thrown(() => socket.send(1n))].map((line) => line.split(":")[0]);
  await fired(socket, "open");
  const cycle = {};
  cycle.self = cycle;
  const errors = [
    thrown(() => socket.send()),
    ...[undefined, () => {}, Symbol("s"), { toJSON() {} }, 1n, cycle, { toJSON() { throw new RangeError("mine"); } }].map((value) =>
      thrown(() => socket.send(value)).split("\n")[0],
    ),
  ];
  const { bufferedAmount } = socket;
  socket.send("after");
  const { data: next } = await fired(socket, "message");
  socket.close();
  return { errors, bufferedAmount, next, connecting };
});

inEachForm("bufferedAmount counts the bytes of the JSON", [5, 17, 0], async (make) => {
  const socket = await opened(make("/test/echo"));
  const amounts = [];
  for (const value of ["abc", { ü: "€" }]) {
    socket.send(value);
    amounts.push(socket.bufferedAmount);
  }
  await fired(socket, "message");
  await fired(socket, "message");
  await new Promise((resolve) => setTimeout(resolve));
  amounts.push(socket.bufferedAmount);
  socket.close();
  return amounts;
});

test("a message that is not JSON, or is binary, is an error event in its place; the socket goes on", async () => {
  for (const M of [false, true]) {
    for (const binaryType of ["blob", "arraybuffer"]) {
      const got = await runInPage(page, async ([isVirtual, binaryType]) => {
        const inner = new (isVirtual ? M.WebSocket : WebSocket)("/test/echo");
        const socket = await opened(new JsonWebSocket(inner));
        socket.binaryType = binaryType;
        const seen = [];
        socket.onmessage = ({ data }) => seen.push(data);
        socket.onerror = (event) => {
          const data = typeof event.data === "string" ? event.data : Object.prototype.toString.call(event.data);
          seen.push([event instanceof ErrorEvent, event.error.name, event.message, data, socket.readyState]);
        };
        for (const raw of ["1", "{not json", "", "[2]", Uint8Array.of(1, 2), '{"last":3}']) inner.send(raw);
        while (seen.at(-1)?.last !== 3) await fired(socket, "message");
        socket.close(3001);
        const { code, wasClean } = await fired(socket, "close");
        return [...seen, code, wasClean];
      }, [M, binaryType]);
      const about = "A message cannot be read as JSON: ";
      assert.deepEqual(got, [
        1,
        [true, "SyntaxError", `${about}Expected property name or '}' in JSON at position 1 (line 1 column 2)`, "{not json", 1],
        [true, "SyntaxError", `${about}Unexpected end of JSON input`, "", 1],
        [2],
        [true, "TypeError", `${about}it is binary`, binaryType === "blob" ? "[object Blob]" : "[object ArrayBuffer]", 1],
        { last: 3 },
        3001,
        true,
      ]);
    }
  }
});

inEachForm("messages that are not JSON become error events", ["error room x 1", "message true"], async (make) => {
  const socket = make("/test/rooms/x");
  const error = await fired(socket, "error");
  const first = `error ${error.data.split("\n")[0]} ${socket.readyState}`;
  socket.send(true);
  const { data } = await fired(socket, "message");
  socket.close();
  return [first, `message ${data}`];
});

inEachForm("reviver and replacer are those of JSON", {
  sent: { date: { at: 5 }, list: [1] },
  isDate: true,
  keys: ["date", "__proto__"],
  only: { a: 1 },
  failed: ["A message cannot be read as JSON: mine", "RangeError"],
}, async (make) => {
  const socket = await opened(make("/test/echo", {
    replacer: (key, value) => (key === "date" ? { at: +new Date(value) } : value),
  }));
  socket.send({ date: new Date(5), list: [1] });
  const { data: sent } = await fired(socket, "message");
  socket.close();
  const reviving = await opened(make("/test/echo", [], { reviver: (key, value) => (key === "date" ? new Date(value) : value) }));
  reviving.send(JSON.parse('{"date":5,"__proto__":{"x":1}}'));
  const { data } = await fired(reviving, "message");
  reviving.close();
  const choosing = await opened(make("/test/echo", { replacer: ["a"] }));
  choosing.send({ a: 1, b: 2 });
  const { data: only } = await fired(choosing, "message");
  choosing.close();
  const throwing = await opened(make("/test/echo", { reviver() { throw new RangeError("mine"); } }));
  throwing.send(1);
  const { message, error } = await fired(throwing, "error");
  throwing.close();
  return { sent, isDate: data.date instanceof Date, keys: Object.keys(data), only, failed: [message, error.name] };
});

inEachForm("a consumer that awaits loses nothing", true, async (make) => {
  const socket = make("/test/burst?count=500");
  const got = [];
  while (got.length < 500) got.push((await fired(socket, "message")).data);
  socket.close();
  return got.every((value, n) => value === n);
});

inEachForm("a handler that throws is reported and stops nothing", [["Uncaught RangeError: mine"], [1, 2]], async (make) => {
  const reported = [];
  const report = (event) => {
    reported.push(event.message);
    event.preventDefault();
  };
  addEventListener("error", report);
  const socket = await opened(make("/test/echo"));
  const got = [];
  socket.addEventListener("message", ({ data }) => {
    if (data === 1) throw new RangeError("mine");
  });
  socket.onmessage = ({ data }) => got.push(data);
  socket.send(1);
  socket.send(2);
  while (got.length < 2) await fired(socket, "message");
  removeEventListener("error", report);
  socket.close();
  return [reported, got];
});

inEachForm("a page's own class, and no `new`", [true, true, true, "pong", true, "JsonWebSocket"], async (make) => {
  // The class of this form, as the instances have it.
  const Class = make("/test/echo").constructor;
  class Mine extends Class {
    ask(value) {
      this.send(value);
      return fired(this, "message").then(({ data }) => data);
    }
  }
  const mine = await opened(new Mine("/test/echo"));
  const answer = await mine.ask("pong");
  mine.close();
  const withoutNew = Class("/test/echo");
  return [mine instanceof Mine, mine instanceof Class, mine instanceof EventTarget, answer, withoutNew instanceof Class, Class.name];
});

test("around a socket in each of its states", async () => {
  for (const isVirtual of [false, true]) {
    const got = await runInPage(page, async (isVirtual) => {
      const inner = new (isVirtual ? M.WebSocket : WebSocket)("/test/protocol?choose=b", ["a", "b"]);
      const seen = [];
      const watch = (name, socket) => {
        for (const type of ["open", "message", "close"]) {
          socket.addEventListener(type, ({ data }) => seen.push(`${name}: ${type} ${data ?? ""} in state ${socket.readyState}`));
        }
        return socket;
      };
      watch("before", inner);
      const connecting = watch("connecting", new JsonWebSocket(inner));
      watch("after", inner);
      await fired(inner, "open");
      const open = watch("open", new JsonWebSocket(inner));
      seen.push(`${open.readyState} ${open.protocol} ${open.url === inner.url} ${open.extensions === inner.extensions}`);
      open.send("x");
      await fired(inner, "message");
      open.close(3000, "bye");
      seen.push(`${connecting.readyState} ${inner.readyState}`);
      const { code, reason, wasClean } = await fired(open, "close");
      seen.push(`${code} ${reason} ${wasClean}`);
      const closed = watch("closed", new JsonWebSocket(inner));
      closed.send("lost");
      closed.close();
      await new Promise((resolve) => setTimeout(resolve, 20));
      seen.push(`${closed.readyState} ${closed.bufferedAmount}`);
      return seen;
    }, isVirtual);
    assert.deepEqual(got, [
      "before: open  in state 1", "connecting: open  in state 1", "after: open  in state 1",
      "1 b true true",
      'before: message "x" in state 1', "connecting: message x in state 1", 'after: message "x" in state 1', "open: message x in state 1",
      "2 2",
      "before: close  in state 3", "connecting: close  in state 3",
      "after: close  in state 3", "open: close  in state 3",
      "3000 bye true",
      "3 6",
    ]);
  }
});

test("around any class with the interface: events keep their fields", async () => {
  const got = await runInPage(page, async () => {
    class Other extends EventTarget {
      url = "other:x";
      readyState = 1;
      binaryType = "nodebuffer";
      sent = [];
      send(text) { this.sent.push(text); }
      close(...all) { this.closed = all; }
    }
    const inner = new Other();
    const socket = new JsonWebSocket(inner, { reviver: (_, value) => value });
    const seen = [];
    for (const type of ["open", "message", "error", "close"]) {
      socket.addEventListener(type, ({ type, data, message, error, code, reason, wasClean, isTrusted }) =>
        seen.push({ type, data, message, error: error?.message, code, reason, wasClean }));
    }
    inner.dispatchEvent(new Event("open"));
    inner.dispatchEvent(new MessageEvent("message", { data: "[1]" }));
    inner.dispatchEvent(new ErrorEvent("error", { message: "it failed", error: new Error("cause") }));
    inner.dispatchEvent(new Event("error"));
    inner.dispatchEvent(new CloseEvent("close", { code: 4000, reason: "why", wasClean: true }));
    socket.send({ a: 1 });
    socket.close();
    socket.close(3000);
    return { seen, sent: inner.sent, closed: inner.closed, url: socket.url };
  });
  assert.deepEqual(JSON.parse(JSON.stringify(got)), {
    seen: [
      { type: "open" }, { type: "message", data: [1] }, { type: "error", message: "it failed", error: "cause" }, { type: "error" },
      { type: "close", code: 4000, reason: "why", wasClean: true },
    ],
    sent: ['{"a":1}'],
    closed: [3000, ""],
    url: "other:x",
  });
});

test("without references it delivers for as long as it is open, and then goes", async () => {
  const session = await page.context().newCDPSession(page);
  const collect = () => session.send("HeapProfiler.collectGarbage");
  for (const form of ["native", "virtual", "around a native socket", "around a virtual socket"]) {
    await runInPage(page, async (form) => {
      Object.assign(globalThis, { got: [], ended: false });
      const socket = await opened(forms[form]("/test/echo"));
      globalThis.reference = new WeakRef(socket);
      socket.onmessage = ({ data }) => {
        got.push(data);
        // Between two messages nothing but the socket's own listeners holds it.
        if (data > 1) setTimeout(() => reference.deref()?.send(data - 1), 20);
        else reference.deref()?.close();
      };
      socket.onclose = () => (ended = true);
      socket.send(5);
    }, form);
    while (!(await runInPage(page, () => ended || reference.deref() === undefined))) await collect();
    assert.deepEqual(await runInPage(page, () => got), [5, 4, 3, 2, 1], form);
    // The garbage of a task can outlive it by one or two collections.
    for (let n = 0; n < 5; n++) await collect();
    assert.equal(await runInPage(page, () => reference.deref()), undefined, `${form}: it is still there`);
  }
});

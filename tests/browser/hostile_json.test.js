// JSON of a hostile server, for documents, functions and JSON sockets: anything may come, and nothing of it becomes a property of what
// it does not belong to. In Node.js, over a socket of the test's: the code is the page's, and needs nothing of a browser.
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

globalThis.WebSocket ??= class {};
const { state } = await import("../../pkg/state.js");
const { rpc } = await import("../../pkg/rpc.js");
const { JsonWebSocket } = await import("../../pkg/index.js");

/** A socket whose server is the test. */
class Socket extends EventTarget {
  static made = [];
  readyState = 1;
  sent = [];

  constructor(url) {
    super();
    this.url = url;
    Socket.made.push(this);
    for (const type of ["open", "message", "close"]) this.addEventListener(type, (event) => this[`on${type}`]?.(event));
  }
  send(text) {
    this.sent.push(text);
  }
  close(code) {
    this.readyState = 3;
    this.closedWith = code;
  }
  /** Gives the page a message. */
  says(data) {
    this.dispatchEvent(Object.assign(new Event("message"), { data }));
  }
}

const builtins = [Object, Array, Function, String, Number, Promise, Map, JSON, Math, EventTarget];
const shape = () => builtins.flatMap((builtin) => [builtin, builtin.prototype]).filter(Boolean)
  .map((object) => Reflect.ownKeys(object).map((key) => {
    const { value } = Object.getOwnPropertyDescriptor(object, key);
    return [key, value, ...(typeof value === "function" ? Reflect.ownKeys(value) : [])];
  }));
let before;
beforeEach(() => {
  before = shape();
  mock.method(console, "error", () => {});
});
afterEach(() => {
  assert.deepEqual(shape(), before, "the classes are as they were");
  mock.restoreAll();
});

const FIRST = '{"document":"d","version":1,"data":{"list":[1,[2]],"name":"abc","none":null}}';
const delta = (...operations) => JSON.stringify({ version: 2, delta: operations });
const raw = (operation) => `{"version":2,"delta":[${operation}]}`;

const NO_CHANGES = {
  "no JSON": "{",
  nothing: "",
  "null": "null",
  "a number": "5",
  "no version": '{"document":"d","delta":[]}',
  "a version that is none": '{"version":"2","delta":[]}',
  "a document's name that is none": '{"document":{},"version":2,"data":{}}',
  "a delta that is none": '{"version":2,"delta":{}}',
  "no delta": '{"version":2}',
  "an operation that is none": raw("null"),
  "an operation of no kind": delta({ op: "constructor", path: "/x", value: 1 }),
  "an operation without a path": delta({ op: "add", value: 1 }),
  "a path that is a number": delta({ op: "add", path: 5, value: 1 }),
  "a way through nothing": delta({ op: "add", path: "/none/x", value: 1 }),
  "a way that is not there": delta({ op: "add", path: "/a/b", value: 1 }),
  "a way through a text": delta({ op: "add", path: "/name/x/y", value: 1 }),
  "a member of a text": delta({ op: "replace", path: "/name/length", value: 1 }),
  "a prototype": delta({ op: "add", path: "/list/__proto__/polluted", value: 1 }),
  "the prototype of an array within": delta({ op: "add", path: "/list/1/__proto__/polluted", value: 1 }),
  "a class": delta({ op: "add", path: "/list/constructor/isArray", value: 1 }),
  "a class's prototype": delta({ op: "add", path: "/list/constructor/prototype/polluted", value: 1 }),
  "a method": delta({ op: "add", path: "/list/map/polluted", value: 1 }),
  "an array's length": delta({ op: "replace", path: "/list/length", value: 2 ** 32 - 1 }),
  "an index of four thousand millions": delta({ op: "replace", path: "/list/4294967294", value: 1 }),
  "an index past the end": delta({ op: "add", path: "/list/3", value: 1 }),
  "an index with a zero in front": delta({ op: "add", path: "/list/01", value: 1 }),
  "an index below zero": delta({ op: "add", path: "/list/-1", value: 1 }),
  "a name in an array": delta({ op: "add", path: "/list/name", value: 1 }),
  "removing a missing value": delta({ op: "remove", path: "/nobody" }),
  "moving a missing value": delta({ op: "move", from: "/nobody", path: "/x" }),
  "moving something into itself": delta({ op: "move", from: "/list", path: "/list/1/x" }),
  "copying a missing value": delta({ op: "copy", from: "/list/constructor", path: "/x" }),
  "copies of copies": delta(...Array.from({ length: 60 }, (_, n) => ({ op: "copy", from: "", path: `/${n}` }))),
  "100,000 levels": `{"version":2,"delta":[{"op":"add","path":"/deep","value":${"[".repeat(100_000)}${"]".repeat(100_000)}}]}`,
};

for (const [name, message] of Object.entries(NO_CHANGES)) {
  test(`a document receives ${name}`, async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    Socket.made.length = 0;
    const opening = state("ws://host/d", { WebSocket: Socket });
    const [socket] = Socket.made;
    socket.says(FIRST);
    const document = await opening;
    const closes = [];
    document.addEventListener("close", ({ code }) => closes.push(code));
    document.data.mine = true;
    socket.says(message);
    assert.deepEqual([closes, socket.closedWith], [[4002], 4002]);
    assert.deepEqual(document.data, { list: [1, [2]], name: "abc", none: null, mine: true }, "as it was");
    // It waits as for a server that has been away for long, and continues.
    socket.says(delta({ op: "add", path: "/late", value: 1 }));
    t.mock.timers.tick(10_000);
    assert.equal(Socket.made.length, 2);
    assert.match(Socket.made[1].url, /document=d&since=1/);
    Socket.made[1].says(delta({ op: "add", path: "/list/-", value: 3 }, { op: "move", from: "/name", path: "/__proto__" }));
    const expected = JSON.parse('{"list":[1,[2],3],"none":null,"mine":true,"__proto__":"abc"}');
    assert.equal(JSON.stringify(document.data), JSON.stringify(expected));
    assert.equal(document.readyState, 1);
    document.close();
  });
}

test("a first message that is no document", async () => {
  for (const message of ["{", "null", "[]", '{"data":{}}', '{"document":"d","version":1}']) {
    Socket.made.length = 0;
    const opening = state("ws://host/d", { WebSocket: Socket });
    Socket.made[0].says(message);
    await assert.rejects(opening, { code: "unreachable" }, message);
  }
});

test("an answer to a commit that is none", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  for (const answer of ['"version":"x"', "", '"error":{"toString":1},"message":{"toString":1}', '"error":"conflict","message":"","conflicts":5']) {
    Socket.made.length = 0;
    const opening = state("ws://host/d", { WebSocket: Socket });
    Socket.made[0].says(FIRST);
    const document = await opening;
    document.data.x = 1;
    const committed = document.commit();
    const sent = JSON.parse(Socket.made[0].sent[0]);
    Socket.made[0].says(`{"id":"${sent.id}"${answer && `,${answer}`}}`);
    assert.equal(Socket.made[0].closedWith, 4002, answer);
    t.mock.timers.tick(10_000);
    // Sent again as it was: whether it was made is not known.
    Socket.made[1].says('{"version":1,"delta":[]}');
    assert.deepEqual(JSON.parse(Socket.made[1].sent[0]), sent);
    Socket.made[1].says(JSON.stringify({ id: sent.id, version: 2 }));
    assert.equal(await committed, 2);
    document.close();
  }
});

test("answers to calls that are none", async () => {
  const answers = ["{", "null", "5", "[]", "{}", '{"error":null}', '{"error":5}', '{"error":{"code":1,"message":"x"}}', '{"error":{"code":{"toString":1},"message":"x"}}', '{"error":{"code":"x"}}', "[".repeat(100_000), new ArrayBuffer(5)];
  const f = rpc("ws://host/f", { WebSocket: Socket, idleTimeout: Infinity });
  for (const answer of answers) {
    Socket.made.length = 0;
    const [first, second] = [f(1), f(2)];
    Socket.made[0].says(answer);
    await assert.rejects(first, { code: "protocol" }, String(answer));
    await assert.rejects(second, { code: "protocol" });
  }
  const names = f(1);
  Socket.made.at(-1).says('{"result":{"__proto__":{"polluted":true},"constructor":1}}');
  assert.equal((await names).polluted, undefined);
  const refused = f(1);
  Socket.made.at(-1).says('{"error":{"code":"__proto__","message":"toString","data":{"__proto__":{"code":"x"}}}}');
  await assert.rejects(refused, { name: "RpcError", code: "__proto__", message: "toString" });
});

test("messages of a JSON socket", () => {
  const inner = new Socket("ws://host/");
  const socket = new JsonWebSocket(inner);
  const seen = [];
  socket.onmessage = ({ data }) => seen.push(data);
  socket.onerror = ({ error }) => seen.push(error.name);
  inner.says('{"__proto__":{"polluted":true},"toString":5}');
  inner.says("{");
  inner.says(new ArrayBuffer(3));
  const [names, ...errors] = seen;
  assert.deepEqual([Object.getOwnPropertyNames(names), Object.getPrototypeOf(names) === Object.prototype, names.polluted], [["__proto__", "toString"], true, undefined]);
  assert.deepEqual(errors, ["SyntaxError", "TypeError"]);
});

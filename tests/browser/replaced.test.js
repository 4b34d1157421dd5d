// A page's replacement of the physical socket's `send` may throw, and may use virtual sockets of the same link.
// In Node.js, over a socket of the test's; the code is the page's.
import assert from "node:assert/strict";
import { test } from "node:test";

/** A physical socket that keeps all sent messages. */
class Played extends EventTarget {
  static latest;
  readyState = 0;
  bufferedAmount = 0;
  protocol = "manysocket.v1";
  sent = [];
  /** The page's replacement of `send`. */
  before = () => {};

  constructor(url) {
    super();
    this.url = String(url);
    Played.latest = this;
  }
  send(data) {
    this.before(data);
    this.sent.push(typeof data === "string" ? data : Buffer.from(data).toString("latin1"));
  }
  close() {}
  fire(type, fields) {
    this.dispatchEvent(Object.assign(new Event(type), fields));
  }
}

globalThis.WebSocket = Played;
const reported = [];
globalThis.reportError = (error) => reported.push(error.message);
const { MultiWebSocket } = await import("../../pkg/index.js");

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Two open sockets, and the physical one. */
async function opened() {
  const M = new MultiWebSocket("ws://host/multiplexer");
  const sockets = ["/a", "/b"].map((path) => new M.WebSocket(`ws://host${path}`));
  await turn();
  const physical = Played.latest;
  physical.readyState = 1;
  physical.fire("open");
  // HELLO, ACCEPT 1, ACCEPT 2 (docs/protocol.md §5).
  physical.fire("message", { data: Uint8Array.of(6, 0, 0x0b, 0, 0x17, 0, 0x27, 0).buffer });
  while (sockets.some(({ readyState }) => readyState !== 1)) await turn();
  physical.sent.length = 0;
  return { sockets, physical };
}

/** Ends the link, whose timers would keep the process alive. */
function end(physical) {
  physical.readyState = 3;
  physical.fire("close", { code: 1000, reason: "", wasClean: true });
}

test("`send` that throws is reported, and the link goes on", async () => {
  const { sockets: [a, b], physical } = await opened();
  physical.before = () => {
    physical.before = () => {};
    throw new Error("the page's");
  };
  a.send("lost");
  await turn();
  assert.deepEqual(reported, ["the page's"]);
  a.send("one");
  b.send("two");
  await turn();
  // The first of a task leaves at once.
  assert.deepEqual(physical.sent, ["1:one", "2:two"]);
  assert.deepEqual([a.bufferedAmount, b.bufferedAmount], [0, 0]);
  end(physical);
});

test("`send` that sends on a virtual socket of the same link loses nothing", async () => {
  const { sockets: [a, b], physical } = await opened();
  let times = 0;
  physical.before = () => {
    if (++times > 3) return;
    b.send(`seen ${times}`);
    // Enough to be sent at once, in the middle of the other.
    b.send(new Uint8Array(40_000));
  };
  a.send("one");
  a.send(new Uint8Array(10));
  for (let n = 0; n < 10; n++) await turn();
  const sent = physical.sent.join(" ");
  for (const text of ["one", "seen 1", "seen 2", "seen 3"]) assert.ok(sent.includes(text), text);
  assert.equal(a.readyState, 1);
  assert.equal(b.readyState, 1);
  end(physical);
});

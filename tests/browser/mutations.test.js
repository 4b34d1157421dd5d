// Random faults in an honest server's messages, thousands of times: the client never throws, and each socket ends once.
// It runs the page's code in Node.js, over a simulated socket, in a tenth of a browser's time.
//
// A failing run prints its seed: MANYSOCKET_SEED=n replays it, MANYSOCKET_SEEDS=n runs more.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { WebSocket as Native } from "ws";
import { makeSite, removeSite, startServer } from "../harness/index.js";
import { Decoder } from "../../js/inspect/decode.js";

// About three seconds.
const SEEDS = Number(process.env.MANYSOCKET_SEEDS ?? 2000);

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc");

/** The socket of a link, whose input the test decides. */
class Played extends EventTarget {
  static latest;
  readyState = 0;
  bufferedAmount = 0;
  protocol = "manysocket.v1";

  constructor(url) {
    super();
    this.url = String(url);
    Played.latest = this;
  }
  send() {}
  close() {
    this.readyState = Math.max(this.readyState, 2);
  }
  fire(type, fields) {
    this.dispatchEvent(Object.assign(new Event(type), fields));
  }
}

globalThis.WebSocket = Played;
const { MultiWebSocket } = await import("../../pkg/index.js");

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A page's day: five sockets that send, receive and close. Each one's events are in `events`. */
function page(host, resume) {
  const M = new MultiWebSocket(`ws://${host}/multiplexer`, { resume });
  const sockets = ["/demo/echo", "/demo/echo", "/demo/topics/x", "/nowhere", "/demo/echo"].map((path, n) => {
    const socket = new M.WebSocket(`ws://${host}${path}`);
    socket.binaryType = "arraybuffer";
    socket.events = [];
    socket.onopen = () => {
      for (const data of ["text", new Uint8Array(10), "é😀".repeat(50), new Uint8Array(6_000), "x".repeat(5_000), new Uint8Array(0)]) socket.send(data);
    };
    let messages = 0;
    socket.onmessage = () => {
      if (++messages === 4 && n > 0) socket.close(3000, "enough");
      else if (messages < 40) socket.send(`${messages}`);
    };
    for (const type of ["open", "message", "error", "close"]) socket.addEventListener(type, () => socket.events.push(type));
    return socket;
  });
  return { M, sockets };
}

/** The honest server's messages. */
async function record() {
  const site = await makeSite();
  const server = await startServer(site);
  const { host, origin } = new URL(server.origin);
  const messages = [];
  globalThis.WebSocket = class extends Native {
    constructor(url, protocols) {
      super(url, protocols, { origin });
      this.on("message", (data, isBinary) => messages.push(isBinary ? Uint8Array.from(Buffer.from(data)) : data.toString()));
    }
  };
  const { M, sockets } = page(host, true);
  await Promise.all(sockets.slice(1).map((socket) => new Promise((resolve) => socket.addEventListener("close", resolve))));
  M.close();
  globalThis.WebSocket = Played;
  await server.stop();
  await removeSite(site);
  return messages;
}

/** Numbers from a seed (mulberry32). */
function random(seed) {
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  return (below) => next() % below;
}

/** A fault in one of the messages, or in their order. */
function mutate(messages, pick) {
  const at = pick(messages.length);
  const message = messages[at];
  switch (pick(8)) {
    case 0:
      messages.splice(at, 1);
      break;
    case 1:
      messages.splice(pick(messages.length), 0, message);
      break;
    case 2:
      messages.splice(at, 1, messages[pick(messages.length)]);
      break;
    default:
      messages[at] = typeof message === "string" ? withFault([...message], pick, (code) => String.fromCharCode(code)).join("") : Uint8Array.from(withFault([...message], pick, (code) => code & 255));
  }
}

function withFault(units, pick, unit) {
  // Heads and headers are in front.
  const at = pick(Math.min(units.length + 1, pick(4) > 0 ? 40 : 10_000));
  switch (pick(5)) {
    case 0:
      return units.slice(0, at);
    case 1:
      return [...units.slice(0, at), unit(pick(65_536)), ...units.slice(at)];
    case 2:
      return [...units.slice(0, at), ...units.slice(at + 1 + pick(4))];
    case 3:
      return [...units.slice(0, at), ...units.slice(0, pick(100)), ...units.slice(at)];
    default:
      return [...units.slice(0, at), unit(pick(65_536)), ...units.slice(at + 1)];
  }
}

/** Plays a link to the page, and checks the result. Returns the number of messages until its end. */
async function play(messages, resume) {
  const { M, sockets } = page("host", resume);
  await turn();
  const physical = Played.latest;
  physical.readyState = 1;
  physical.fire("open");
  let count = 0;
  const reader = new Decoder();
  for (const message of messages) {
    if (physical.readyState !== 1) break;
    count++;
    reader.decode(message);
    physical.fire("message", { data: typeof message === "string" ? message : message.slice().buffer });
    await turn();
  }
  const gaveUp = physical.readyState !== 1;
  physical.readyState = 3;
  physical.fire("close", { code: 1006, reason: "", wasClean: false });
  // It may wait for another connection.
  if (M.readyState === 0) {
    Played.latest.readyState = 1;
    Played.latest.fire("open");
    await turn();
    M.close();
  }
  for (let n = 0; n < 10_000 && sockets.some(({ events }) => events.at(-1) !== "close"); n++) await turn();
  for (const { events, readyState } of sockets) {
    const order = events.join(" ").replace(/(message ?)+/, "message ").trim();
    assert.match(order, /^(open )?(message )?(error )?close$/, "what a native socket may show");
    assert.equal(readyState, 3);
  }
  return { count, gaveUp };
}

test(`${SEEDS} links with faults`, async () => {
  // Counts the client's output; a mock of the test runner would keep it in memory.
  console.error = console.warn = () => {};
  const recorded = await record();
  // Fewer or more, as the server puts them together.
  assert.ok(recorded.length > 8, `${recorded.length} messages`);
  const { gaveUp } = await play(recorded, true);
  assert.equal(gaveUp, false, "what was recorded has no faults");

  const memory = () => {
    for (let n = 0; n < 3; n++) collectGarbage();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const only = process.env.MANYSOCKET_SEED;
  const seeds = only === undefined ? Array.from({ length: SEEDS }, (_, n) => n) : [Number(only)];
  let [count, given, before] = [0, 0, 0];
  for (const seed of seeds) {
    if (seed === 100) before = memory();
    const pick = random(seed);
    const messages = [...recorded];
    for (let faults = 1 + pick(4); faults > 0; faults--) mutate(messages, pick);
    try {
      const played = await play(messages, seed % 2 === 0);
      count += played.count;
      given += played.gaveUp;
    } catch (error) {
      throw new Error(`MANYSOCKET_SEED=${seed}`, { cause: error });
    }
  }
  console.log(`${count} messages on ${seeds.length} links with faults, of which the client gave ${given} up`);
  if (before > 0) {
    const grown = memory() - before;
    assert.ok(grown < 2_000_000, `the memory has grown by ${grown} bytes`);
  }
});

// Functions of JavaScript for the wasm (src/page/glue.rs): time, the physical socket, text and buffers. Strings of Rust come as address and
// length in wasm's memory.
import { core, memoryBytes } from "./core.js";
import { decode as decodeBytes, encodeInto, isPair as isPairAt } from "./utf8.js";
import { flushLater as flushObject } from "./delivery.js";
import { after } from "./timers.js";

/** The objects of link.js, by the numbers that wasm has for them. */
export const links = [];

/** A string of Rust. */
const string = (at, length) => (length === 0 ? "" : decodeBytes(memoryBytes().slice(at, at + length)));

// ---- time ----

export const now = () => performance.now();

/** Infinity: none. */
export function setTimer(link, milliseconds) {
  const owner = links[link];
  clearTimeout(owner.timer);
  owner.timer = after(milliseconds, () => {
    spares.length = 0;
    core.handleTimeout(link);
  });
}

export const flushed = (link) => links[link]?.flushed();
export const flushLater = (link) => Number(flushObject(links[link]));

// ---- the physical socket ----

export const dial = (link, url, length) => links[link].dial(string(url, length));
export const bufferedAmount = (link) => links[link].physical.bufferedAmount;
export const broke = (link, rule) => links[link].broke(rule);
export const sentTooMuch = (link, length) => links[link].giveUp(`a physical message of ${length} is longer than any piece`);
export const silent = (link) => links[link].silent();
export const redial = (link, at, length) => links[link].redial(string(at, length));
export const giveUp = (link) => links[link].lostForGood();
export const lengthOf = (array) => array.length;
export const closeIdle = (link) => links[link].end(1000, "idle");

/** Reports an error as one that nobody caught. Node.js has no function for it. */
export const report = globalThis.reportError ?? ((error) => queueMicrotask(() => {
  throw error;
}));

/** The page may have replaced `send`. Its exceptions must not pass through the wasm. */
function send(link, data) {
  const owner = links[link];
  try {
    owner.tap?.("sent", data);
    owner.physical.send(data);
  } catch (error) {
    report(error);
  }
}

export function sendText(link, at, length, text) {
  const { physical } = links[link];
  const before = physical.bufferedAmount;
  send(link, head(at, length) + text);
  return physical.bufferedAmount - before;
}

/** A short string of ASCII. */
function head(at, length) {
  const bytes = memoryBytes();
  // That of the first nine channels, without a loop.
  if (length === 2) return String.fromCharCode(bytes[at], bytes[at + 1]);
  return String.fromCharCode(...bytes.subarray(at, at + length));
}

export const sendMemory = (link, at, length) => send(link, memoryBytes().subarray(at, at + length));
export const sendArray = send;

// ---- sockets ----

export const arrivedText = (link, key, text) => links[link].arrivedText(key, text);
export const arrivedBinary = (link, key, buffer, start, length) => links[link].arrivedBinary(key, buffer, start, length);
export const cookies = (link, key, ticket) => links[link].cookies(key, memoryBytes().slice(ticket, ticket + 16));
export const opened = (link, key, protocol, length) => links[link].opened(key, string(protocol, length));
export const failed = (link, key, kind, status, words, length) => links[link].failed(key, kind, status, string(words, length));
export const closed = (link, key, code, reason, length, wasClean, unsent) =>
  links[link].closed(key, { code, reason: string(reason, length), wasClean: wasClean === 1 }, unsent);

// ---- text ----

export const slice = (text, start, end) => text.slice(start, end);
export const isPair = (text, at) => Number(isPairAt(text, at));
export const charCode = (text, at) => text.charCodeAt(at);

/** Engines put long strings together lazily, and copy them when they are cut. */
export const sliceAlone = (text, start, end) => ` ${text.slice(start, end)}`.slice(1);

let run = "";

export function addText(text) {
  run += text;
}

export function takeRun() {
  const text = run;
  run = "";
  return text;
}

export const encodeRun = (at) => encodeInto(takeRun(), memoryBytes().subarray(at));

let units = 0;

export function decode(buffer, start, end) {
  const text = decodeBytes(new Uint8Array(buffer, start, end - start));
  units = text === null ? -1 : text.length;
  return text ?? "";
}

export const decodedUnits = () => units;

// ---- bytes ----

export const copyOut = (buffer, start, length, target) => memoryBytes().set(new Uint8Array(buffer, start, length), target);
export const part = (array, start, end) => array.subarray(start, end);
export const copyIn = (at, length) => memoryBytes().slice(at, at + length);
export const copyArrayOut = (array, target) => memoryBytes().set(array, target);
/**
 * Memory of large copies that have been sent, for the next: up to four, of up to 1 MiB, the largest piece that a server takes, unless
 * it says otherwise. 1 MiB messages: a fifth less time of the page's thread.
 */
const spares = [];

export const copy = (array) => array.slice();

export function copyLarge(array, start, end) {
  const length = end - start;
  const at = spares.findIndex((spare) => spare.length >= length);
  if (at < 0) return array.slice(start, end);
  const [spare] = spares.splice(at, 1);
  spare.set(array.subarray(start, end));
  return spare;
}

export function recycle(array) {
  // Where there are enough, the oldest goes: others are needed now.
  if (array.length <= 1024 * 1024 && spares.push(array) > 4) spares.shift();
}

export const newArray = (length) => new Uint8Array(length);
export const copyBuffer = (from, start, length, to, at) => to.set(new Uint8Array(from, start, length), at);
export const sliceBuffer = (buffer, start, end) => buffer.slice(start, end);
export const bufferOf = (array) => array.buffer;

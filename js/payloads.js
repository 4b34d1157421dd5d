// The table of what waits to be sent. Wasm knows a payload by its place here.
import { isPair } from "./utf8.js";
import { memoryWords } from "./wasm.js";

/** A payload, and its place in its channel's queue. */
class Row {
  constructor(value, channel) {
    /** @type {string | Uint8Array} */
    this.value = value;
    this.channel = channel;
    /** How much of it has been sent: UTF-16 code units or bytes. */
    this.sent = 0;
    this.next = null;
  }
}

/** Room for copies: what is sent until a flush is due, and a message of 64 KiB on top. */
const STORE = 128 * 1024;

// What has no room there, and is this large, has memory of its own. Of that, the last few that have been sent are kept for the next, up to 1 MiB
// each: the largest piece that a server takes, unless it says otherwise.
const LARGE = 32 * 1024;
const LARGEST = 1024 * 1024;
const SPARES = 4;

export class Payloads {
  /** Binary data that the page may change before it is sent. Memory that is used again: a fresh copy of 16 KiB takes 34 µs, most of it page faults. */
  #store = null;
  #stored = 0;
  #copies = 0;
  /** Of large copies that have been sent. 1 MiB messages: a fifth less time of the page's thread. */
  #spare = [];

  constructor() {
    // Place 0 is the empty payload.
    this.rows = [null];
    this.free = [];
  }

  /** Binary data as it is now, to be added next. @param {Uint8Array} data */
  copy(data) {
    const { length } = data;
    const end = this.#stored + length;
    if (length > 0 && end <= STORE) {
      this.#store ??= new Uint8Array(STORE);
      this.#store.set(data, this.#stored);
      const copy = this.#store.subarray(this.#stored, end);
      this.#stored = end;
      this.#copies++;
      return copy;
    }
    if (length < LARGE || length > LARGEST) return data.slice();
    const at = this.#spare.findIndex((buffer) => buffer.byteLength >= length);
    // Where none fits, the oldest goes: others are needed now.
    const [spare] = this.#spare.splice(Math.max(at, 0), 1);
    const copy = new Uint8Array(at < 0 ? new ArrayBuffer(length) : spare, 0, length);
    copy.set(data);
    copy.isOurs = true;
    return copy;
  }

  /** Gives back the memory that is kept for copies to come. */
  trim() {
    this.#spare = [];
  }

  /** Adds a payload; `channel` is null if it is not a message (a URL, a reason). */
  add(value, channel) {
    if (value.length === 0) return 0;
    const slot = this.free.length > 0 ? this.free.pop() : this.rows.length;
    this.rows[slot] = new Row(value, channel);
    return slot;
  }

  remove(slot) {
    if (slot === 0) return;
    // All copies gone, the store is empty.
    const { value } = this.rows[slot];
    if (this.#copies > 0 && value.buffer === this.#store.buffer && --this.#copies === 0) this.#stored = 0;
    if (value.isOurs && this.#spare.length < SPARES) this.#spare.push(value.buffer);
    this.rows[slot] = null;
    this.free.push(slot);
  }

  /** A payload, or a piece of one, that is going out. @param {number} at where its words are in wasm's memory */
  take(at) {
    const words = memoryWords();
    const slot = words[at];
    const ends = words[at + 3] === 1;
    if (slot === 0) return { value: new Uint8Array(0), row: null, units: 0, ends };
    const row = this.rows[slot];
    let { value } = row;
    const start = row.sent;
    let end = words[at + 1] + words[at + 2];
    if (start > 0 || !ends) {
      if (typeof value === "string") {
        // A pair is not cut (docs/protocol.md §2.2): wasm leaves room for its second half (src/payload.rs).
        if (isPair(value, end)) end++;
        value = value.slice(start, end);
      } else {
        value = value.subarray(start, end);
      }
    }
    row.sent = end;
    if (ends) this.remove(slot);
    return { value, row, units: end - start, ends };
  }
}

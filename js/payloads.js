// The table of what waits to be sent. Wasm knows a payload by its place here.

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

export class Payloads {
  /** Binary data that the page may change before it is sent. Memory that is used again: a fresh copy of 16 KiB takes 34 µs, most of it page faults. */
  #store = null;
  #stored = 0;
  #copies = 0;

  constructor() {
    // Place 0 is the empty payload.
    this.rows = [null];
    this.free = [];
  }

  /** Binary data as it is now, to be added next. @param {Uint8Array} data */
  copy(data) {
    const end = this.#stored + data.length;
    if (data.length === 0 || end > STORE) return data.slice();
    this.#store ??= new Uint8Array(STORE);
    this.#store.set(data, this.#stored);
    const copy = this.#store.subarray(this.#stored, end);
    this.#stored = end;
    this.#copies++;
    return copy;
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
    if (this.#copies > 0 && this.rows[slot].value.buffer === this.#store.buffer && --this.#copies === 0) this.#stored = 0;
    this.rows[slot] = null;
    this.free.push(slot);
  }
}

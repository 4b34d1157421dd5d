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

export class Payloads {
  constructor() {
    // Place 0 is the empty payload.
    this.rows = [null];
    this.free = [];
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
    this.rows[slot] = null;
    this.free.push(slot);
  }
}

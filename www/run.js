// The page code that runs over native and virtual sockets alike: all it is given is a `WebSocket` class.

// Messages that a socket has under way. More would measure queues, fewer the round trip.
const WINDOW = 4;

// The round trips that the median is taken of: the last ones, few enough to sort four times a second.
const LATENCIES = 1000;

/** The n-th message of a socket: a text or, every other time, bytes; never twice the same. */
function message(socket, n) {
  if (n % 2 === 0) return `socket ${socket} message ${n} – grüße`;
  const bytes = new Uint8Array(16 + (n % 48));
  for (let i = 0; i < bytes.length; i++) bytes[i] = socket * 31 + n * 7 + i;
  return bytes;
}

function isSame(sent, received) {
  if (typeof sent === "string") return sent === received;
  if (!(received instanceof ArrayBuffer) || received.byteLength !== sent.length) return false;
  const bytes = new Uint8Array(received);
  return sent.every((byte, i) => byte === bytes[i]);
}

// The states of a socket.
export const CONNECTING = 0;
export const OPEN = 1;
export const FAILED = 2;
const CLOSED = 3;

/** A number of sockets of one class, and their counts. */
export class Run {
  #WebSocket;
  #url;
  /** The sockets, for other loads than this one's. */
  sockets = [];
  #closings = [];
  /** Ends a socket's part in the burst under way. */
  #finish = [];
  #latencies = [];

  constructor(WebSocket, url, count) {
    this.#WebSocket = WebSocket;
    this.#url = url;
    this.count = count;
    this.states = new Uint8Array(count).fill(CONNECTING);
    /** How many messages each socket has got back. */
    this.received = new Uint32Array(count);
    this.opened = 0;
    this.failed = 0;
    this.echoed = 0;
    /** Echoes that were not the next message due: wrong bytes, wrong type or wrong order. */
    this.mismatches = 0;
    /** Until each socket had opened or failed, in milliseconds. */
    this.openMs = null;
    /** Echoes a second over the last whole burst. */
    this.perSecond = null;
    /** Whether it is opening or sending now. */
    this.active = false;
    /** Whether the page has closed it. */
    this.ended = false;
  }

  /** Opens all sockets; resolves once each has opened or failed. */
  async open() {
    this.active = true;
    const began = performance.now();
    await Promise.all(Array.from({ length: this.count }, (_, i) => this.#openOne(i)));
    if (!this.ended) this.openMs = performance.now() - began;
    this.active = false;
  }

  #openOne(i) {
    const socket = new this.#WebSocket(this.#url);
    socket.binaryType = "arraybuffer";
    this.sockets[i] = socket;
    return new Promise((settled) => {
      socket.onopen = () => {
        this.opened++;
        this.states[i] = OPEN;
        settled();
      };
      this.#closings[i] = new Promise((closed) => {
        socket.onclose = () => {
          const hasFailed = this.states[i] === CONNECTING && !this.ended;
          if (hasFailed) this.failed++;
          if (this.states[i] === OPEN) this.opened--;
          this.states[i] = hasFailed ? FAILED : CLOSED;
          this.#finish[i]?.();
          settled();
          closed();
        };
      });
    });
  }

  /** Sends `total` messages over all open sockets, and checks each echo; resolves when all are back. */
  async send(total) {
    const open = [...this.sockets.keys()].filter((i) => this.sockets[i].readyState === 1);
    if (open.length === 0) return;
    const share = (at) => Math.floor((total * (at + 1)) / open.length) - Math.floor((total * at) / open.length);
    this.active = true;
    const [began, before] = [performance.now(), this.echoed];
    await Promise.all(open.map((i, at) => this.#sendOver(i, share(at))));
    this.perSecond = ((this.echoed - before) / (performance.now() - began)) * 1000;
    this.active = false;
  }

  #sendOver(i, total) {
    const socket = this.sockets[i];
    return new Promise((done) => {
      if (total === 0) return done();
      this.#finish[i] = done;
      let sent = 0;
      const waiting = [];
      const sendNext = () => {
        const data = message(i, sent++);
        waiting.push([data, performance.now()]);
        socket.send(data);
      };
      socket.onmessage = ({ data }) => {
        const [expected, at] = waiting.shift();
        if (!isSame(expected, data)) this.mismatches++;
        this.#latencies[this.echoed++ % LATENCIES] = performance.now() - at;
        this.received[i]++;
        if (sent < total) sendNext();
        else if (waiting.length === 0) done();
      };
      while (sent < Math.min(WINDOW, total)) sendNext();
    });
  }

  /** Closes all sockets; resolves once each is closed. */
  async close() {
    this.ended = true;
    for (const socket of this.sockets) socket.close();
    await Promise.all(this.#closings);
  }

  /** The middle of the last round trips, in milliseconds. */
  get median() {
    const sorted = this.#latencies.toSorted((a, b) => a - b);
    return sorted.length > 0 ? sorted[sorted.length >> 1] : null;
  }
}

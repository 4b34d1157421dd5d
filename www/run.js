// The page code that runs over native and virtual sockets alike: all it is given is a `WebSocket` class.

// Messages that a socket has under way. More would measure queues, fewer the round trip.
const WINDOW = 4;

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

// What has become of a socket.
const CLOSED = 0;
export const OPEN = 1;
export const FAILED = 2;

/** A number of sockets of one class, and what has happened to them. */
export class Run {
  constructor(WebSocket, url, count) {
    this.WebSocket = WebSocket;
    this.url = url;
    this.count = count;
    this.sockets = [];
    this.opened = 0;
    this.failed = 0;
    this.openMs = null;
    this.echoed = 0;
    this.mismatches = 0;
    this.latencies = [];
    /** When each socket last got a message. */
    this.lit = new Float64Array(count).fill(-Infinity);
    this.states = new Uint8Array(count);
    this.began = 0;
  }

  /** Opens all sockets; resolves once each has opened or failed. */
  async open() {
    this.began = performance.now();
    await Promise.all(Array.from({ length: this.count }, (_, i) => this.#openOne(i)));
    this.openMs = performance.now() - this.began;
  }

  #openOne(i) {
    return new Promise((settled) => {
      const socket = new this.WebSocket(this.url);
      socket.binaryType = "arraybuffer";
      this.sockets[i] = socket;
      socket.onopen = () => {
        this.opened++;
        this.states[i] = OPEN;
        settled();
      };
      socket.onclose = () => {
        const wasOpen = this.states[i] === OPEN;
        if (wasOpen) this.opened--;
        else this.failed++;
        this.states[i] = wasOpen ? CLOSED : FAILED;
        settled();
      };
    });
  }

  /** Sends `total` messages over all open sockets, and checks each echo; resolves when all are back. */
  async send(total) {
    const open = this.sockets.map((socket, i) => [socket, i]).filter(([socket]) => socket.readyState === 1);
    const share = (at) => Math.floor((total * (at + 1)) / open.length) - Math.floor((total * at) / open.length);
    await Promise.all(open.map(([socket, i], at) => this.#sendOver(socket, i, share(at))));
  }

  #sendOver(socket, i, total) {
    return new Promise((done) => {
      if (total === 0) return done();
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
        const now = performance.now();
        this.latencies[this.echoed++ % 1000] = now - at;
        this.lit[i] = now;
        if (sent < total) sendNext();
        else if (waiting.length === 0) done();
      };
      socket.addEventListener("close", done, { once: true });
      while (sent < Math.min(WINDOW, total)) sendNext();
    });
  }

  close() {
    for (const socket of this.sockets) socket.close();
  }

  /** The middle of the last thousand round trips, in milliseconds. */
  get median() {
    const sorted = this.latencies.toSorted((a, b) => a - b);
    return sorted.length > 0 ? sorted[sorted.length >> 1] : null;
  }
}

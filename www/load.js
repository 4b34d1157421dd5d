// The load of one contestant: messages over its open sockets for a time, each echo checked and timed.
import { Histogram } from "./histogram.js";

// Messages under way at full speed, over all sockets. More would make the queue longer, not faster.
const FULL_SPEED = 1000;

// The same at a given rate: where the sockets do not keep up, messages wait here until they are sent.
const BACKLOG = 10_000;

// Bytes under way in either case, so that large messages fit into memory.
const BYTES = 16 << 20;

// Milliseconds between two portions at a given rate: browsers run no timer more often than every 4 ms.
const TURN = 10;

// By how much a timer may be late without the page being busy, in milliseconds: they count in whole ones.
const TIMER = 2;

// How long echoes may stay out after the end, in milliseconds. Later ones count as lost.
const PATIENCE = 5000;

/** The header of a message: its number, so that no two are the same. */
const HEADER = 8;

/** Makes messages of `size` bytes, at least `HEADER`: texts and bytes by turns; checks whether an echo is the expected one. */
class Messages {
  #size;
  #filler;
  #bytes;

  constructor(size) {
    this.#size = size;
    this.#filler = "manysocket ".repeat(size / 11 + 1).slice(0, size - HEADER);
    this.#bytes = new TextEncoder().encode(this.#text(0));
  }

  #text(n) {
    return String(n % 10 ** HEADER).padStart(HEADER, "0") + this.#filler;
  }

  make(n) {
    if (n % 2 === 0) return this.#text(n);
    new DataView(this.#bytes.buffer).setFloat64(0, n);
    return this.#bytes;
  }

  isSame(n, data) {
    if (n % 2 === 0) return data === this.#text(n);
    if (!(data instanceof ArrayBuffer) || data.byteLength !== this.#size) return false;
    new DataView(this.#bytes.buffer).setFloat64(0, n);
    // By words, or a large message would cost more to compare than to move.
    const [expected, received] = [new Uint32Array(this.#bytes.buffer), new Uint32Array(data)];
    for (let i = 0; i < expected.length; i++) if (expected[i] !== received[i]) return false;
    return true;
  }
}

export class Load {
  #lanes;
  #messages;
  #limit;
  #rate;
  #began = null;
  #ended = null;
  #sent = 0;
  #over = false;
  #finish;
  /** Times of all messages, and of those since the last sample. */
  #all = new Histogram();
  #recent = new Histogram();
  #sampledAt = null;
  #slowest = 0;

  /**
   * @param {WebSocket[]} sockets open ones, to a handler that echoes
   * @param {{ size: number, rate: number }} settings bytes of a message, a multiple of four; messages a second over all
   *   sockets, `Infinity` for as many as come back
   */
  constructor(sockets, { size, rate }) {
    this.#lanes = sockets.map((socket) => this.#lane(socket));
    this.#messages = new Messages(size);
    this.#rate = rate;
    this.#limit = Math.min(rate === Infinity ? FULL_SPEED : BACKLOG, BYTES / size);
    this.echoed = 0;
    /** Echoes that were not the message due on their socket. */
    this.wrong = 0;
    /** Messages whose echoes had not come when it ended. */
    this.lost = 0;
  }

  /** Runs for the given seconds; resolves once the last echo is back, or after a timeout. */
  async run(seconds) {
    this.#began = this.#sampledAt = performance.now();
    const finished = new Promise((finish) => (this.#finish = finish));
    let timer = null;
    if (this.#rate < Infinity) timer = setInterval(() => this.#sendDue(), TURN);
    // Each echo is answered by the next message, so that as many stay under way.
    else while (this.#sent < this.#limit) this.#sendNext(performance.now());
    const end = setTimeout(() => this.stop(), seconds * 1000);
    await finished;
    clearInterval(timer);
    clearTimeout(end);
    this.#ended = performance.now();
    this.lost = this.#sent - this.echoed;
  }

  /** Sends no more. */
  stop() {
    if (this.#over) return;
    this.#over = true;
    if (this.#sent === this.echoed) this.#finish();
    else setTimeout(this.#finish, PATIENCE);
  }

  /** Gives a socket a queue of its due echoes, and a function that sends a message timed from `at`. */
  #lane(socket) {
    const waiting = [];
    socket.onmessage = ({ data }) => {
      const now = performance.now();
      const [n, at] = waiting.shift() ?? [];
      if (n === undefined || !this.#messages.isSame(n, data)) this.wrong++;
      if (n !== undefined) this.#count(now, now - at);
    };
    return (at) => {
      const n = this.#sent++;
      waiting.push([n, at]);
      socket.send(this.#messages.make(n));
    };
  }

  #count(now, ms) {
    this.echoed++;
    this.#all.add(ms);
    this.#recent.add(ms);
    if (ms > this.#slowest) this.#slowest = ms;
    if (!this.#over) {
      if (this.#rate === Infinity) this.#sendNext(now);
    } else if (this.#sent === this.echoed) {
      this.#finish();
    }
  }

  /** Sends over the socket whose turn it is. */
  #sendNext(at) {
    this.#lanes[this.#sent % this.#lanes.length](at);
  }

  /** Sends the due messages. */
  #sendDue() {
    const now = performance.now();
    const due = this.#over ? 0 : Math.floor(((now - this.#began) / 1000) * this.#rate);
    while (this.#sent < due && this.#sent - this.echoed < this.#limit) {
      // A message that could not be sent when it was due has waited since then: its user has waited too.
      const dueAt = this.#began + ((this.#sent + 1) / this.#rate) * 1000;
      this.#sendNext(now - dueAt > TURN + TIMER ? dueAt : now);
    }
  }

  /** Returns the counts since the last sample. */
  sample() {
    const now = performance.now();
    const [perSecond, median, p99] = [
      (this.#recent.total / (now - this.#sampledAt)) * 1000,
      this.#recent.percentile(0.5),
      this.#recent.percentile(0.99),
    ];
    this.#sampledAt = now;
    this.#recent.clear();
    return { perSecond, median, p99 };
  }

  /** Returns the results, until now or in all; times in milliseconds. */
  get result() {
    const seconds = ((this.#ended ?? performance.now()) - this.#began) / 1000;
    const { echoed, wrong, lost } = this;
    const [median, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map((share) => this.#all.percentile(share));
    return { seconds, echoed, wrong, lost, perSecond: echoed / seconds, median, p90, p99, p999, slowest: this.#slowest };
  }
}

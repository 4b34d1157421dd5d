// One contestant's part of a load test: opens sockets, keeps them busy for a while, and counts.

/** Messages that a socket has under way if no rate is set: enough to keep the server busy with few sockets. */
const DEPTH = 8;

/** With a rate, messages are sent in so many portions a second: finer than a screen's frames. */
const PORTIONS = 100;

/** Round trips that percentiles are taken of: the last ones. */
const LATENCIES = 20_000;

export class Load {
  #sockets = [];
  #latencies = [];
  #stopped = false;

  /** @param {typeof WebSocket} WebSocket @param {{ sockets: number, size: number, rate: number, seconds: number }} options */
  constructor(WebSocket, url, options) {
    this.WebSocket = WebSocket;
    this.url = url;
    this.options = options;
    this.opened = 0;
    this.failed = 0;
    this.openMs = null;
    this.sent = 0;
    this.received = 0;
  }

  /** Opens, sends for `seconds`, and closes. */
  async run() {
    const began = performance.now();
    const opening = Array.from({ length: this.options.sockets }, () => this.#open());
    this.#sockets = (await Promise.all(opening)).filter((socket) => socket !== null);
    this.openMs = performance.now() - began;
    if (this.#sockets.length === 0) return;
    const text = "x".repeat(this.options.size);
    this.started = performance.now();
    if (this.options.rate === 0) {
      for (const socket of this.#sockets) for (let i = 0; i < DEPTH; i++) this.#send(socket, text);
    }
    const end = this.started + this.options.seconds * 1000;
    while (performance.now() < end) {
      await new Promise((next) => setTimeout(next, 1000 / PORTIONS));
      if (this.options.rate > 0) this.#sendDue(text);
    }
    this.elapsed = performance.now() - this.started;
    this.perSecond = (this.received / this.elapsed) * 1000;
    this.#stopped = true;
    await Promise.all(this.#sockets.map((socket) => new Promise((closed) => {
      socket.onclose = closed;
      socket.close();
    })));
  }

  #open() {
    return new Promise((settled) => {
      const socket = new this.WebSocket(this.url);
      // When each message was sent: they come back in order.
      socket.waiting = [];
      socket.onopen = () => {
        this.opened++;
        settled(socket);
      };
      socket.onclose = () => {
        this.failed++;
        settled(null);
      };
      socket.onmessage = ({ data }) => {
        this.#latencies[this.received++ % LATENCIES] = performance.now() - socket.waiting.shift();
        if (this.options.rate === 0 && !this.#stopped) this.#send(socket, data);
      };
    });
  }

  #send(socket, text) {
    this.sent++;
    socket.waiting.push(performance.now());
    socket.send(text);
  }

  /** Sends what the rate asks for by now, over the sockets in turn. */
  #sendDue(text) {
    const due = ((performance.now() - this.started) / 1000) * this.options.rate;
    while (this.sent < due) this.#send(this.#sockets[this.sent % this.#sockets.length], text);
  }

  /** Of the last round trips, in milliseconds; null before the first. @param {number} share 0.5 is the median */
  percentile(share) {
    const sorted = Float64Array.from(this.#latencies).sort();
    return sorted.length === 0 ? null : sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  }
}

// Channels that wait for the server, each for the same length of time, with one timer for all of them.

/** The longest that timers take; they fire at once for more. */
export const LONGEST_TIMEOUT = 2 ** 31 - 1;

export class Deadline {
  #milliseconds;
  #expire;
  /** Since when each waits; a Map keeps them in that order. */
  #since = new Map();
  #timer = 0;

  /** @param {(channel: import("./channel.js").Channel) => void} expire called for each that has waited so long; may add it again */
  constructor(milliseconds, expire) {
    this.#milliseconds = milliseconds;
    this.#expire = expire;
  }

  add(channel) {
    this.#since.set(channel, performance.now());
    if (this.#timer === 0) this.#wait(this.#milliseconds);
  }

  delete(channel) {
    this.#since.delete(channel);
  }

  clear() {
    this.#since.clear();
    clearTimeout(this.#timer);
  }

  #wait(milliseconds) {
    this.#timer = setTimeout(() => {
      for (const [channel, since] of this.#since) {
        const left = since + this.#milliseconds - performance.now();
        if (left > 0) return this.#wait(left);
        this.#since.delete(channel);
        this.#expire(channel);
      }
      this.#timer = 0;
    }, milliseconds);
  }
}

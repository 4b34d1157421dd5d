// The items of a streamed result, as an async iterator. docs/rpc.md has the protocol.

// The server stops at 256 items or 1 MiB that are not reported as taken: a quarter of that, and an eighth, so that it never has to.
const REPORTED_ITEMS = 64;
const REPORTED_LENGTH = 1 << 16;

/** Ends the streams that the page has forgotten. */
const forgotten = new FinalizationRegistry((stream) => stream.cancel());

/** A stream, as its connection sees it. */
export class Stream {
  #signal;
  #report;
  #stop;
  #abort = () => this.cancel(this.#signal.reason);
  /** Items that the page has not taken, each with the length of its message. */
  #items = [];
  /** Calls of `next` that wait for an item. */
  #waiting = [];
  /** The end: undefined while it goes on, or how `next` settles once. */
  #end;
  #taken = 0;
  #takenLength = 0;

  /**
   * @param {AbortSignal | undefined} signal ends it with its reason
   * @param {(taken: number) => void} report sends the server the number of items that the page has used since the last time
   * @param {() => void} stop asks the server to drop the stream, and removes it from the connection
   */
  constructor(signal, report, stop) {
    this.#signal = signal;
    this.#report = report;
    this.#stop = stop;
    if (signal?.aborted) this.#abort();
    else signal?.addEventListener("abort", this.#abort);
  }

  /** The page's object. */
  get face() {
    const stream = this;
    const face = {
      next: () => stream.next(),
      return(value) {
        stream.cancel();
        return Promise.resolve({ done: true, value });
      },
      [Symbol.asyncIterator]: () => face,
      [Symbol.toStringTag]: "RpcStream",
    };
    forgotten.register(face, this, this);
    return face;
  }

  receive(item, length) {
    const waiting = this.#waiting.shift();
    if (waiting === undefined) {
      this.#items.push([item, length]);
      return;
    }
    waiting.resolve({ done: false, value: item });
    this.#take(length);
  }

  /** Ends it behind the items that have come. */
  finish(error) {
    if (this.#end !== undefined) return;
    forgotten.unregister(this);
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#end = { error };
    while (this.#waiting.length > 0) this.#settle(this.#waiting.shift());
  }

  /** Ends it at once. */
  cancel(error) {
    this.#items = [];
    if (this.#end !== undefined) {
      this.#end = {};
      return;
    }
    this.finish(error);
    this.#stop();
  }

  next() {
    return new Promise((resolve, reject) => {
      const item = this.#items.shift();
      if (item !== undefined) {
        resolve({ done: false, value: item[0] });
        this.#take(item[1]);
      } else if (this.#end !== undefined) {
        this.#settle({ resolve, reject });
      } else {
        this.#waiting.push({ resolve, reject });
      }
    });
  }

  /** Says how it ended; an error is said once. */
  #settle({ resolve, reject }) {
    const { error } = this.#end;
    this.#end = {};
    if (error === undefined) resolve({ done: true, value: undefined });
    else reject(error);
  }

  #take(length) {
    this.#taken++;
    this.#takenLength += length;
    if (this.#end !== undefined || (this.#taken < REPORTED_ITEMS && this.#takenLength < REPORTED_LENGTH)) return;
    this.#report(this.#taken);
    this.#taken = 0;
    this.#takenLength = 0;
  }
}

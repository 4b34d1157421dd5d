// Replaces the link in a page with `{ shared: true }`: a port to the shared worker (shared-worker.js), which has the link
// of all pages of the origin. Loaded when it is asked for.
import { ABNORMAL, CLOSED, CONNECTING, EVENT_CLOSE, EVENT_ERROR, EVENT_MESSAGE, EVENT_OPEN, OPEN } from "./channel.js";
import { deliverLater, enqueue, flushLater, receiveFrom } from "./delivery.js";
import { Bytes } from "./events.js";
import {
  CLOSE_CHANNEL, CONSUMED, FAIL, FALLBACK, HELLO, INTERRUPTED, LARGE, LEAVE, LINK_CLOSED, LINK_OPEN, OPEN_CHANNEL, PARK, PROBE, RESUMED, SEND, SENT,
} from "./messages.js";
import { heedSigns } from "./signs.js";
import { after, outside } from "./timers.js";
import { utf8Length } from "./utf8.js";
// Imported for their place only: the code that this file and the entries share is then one chunk, and a page without a bundler makes
// no further request.
import "./multiwebsocket.js";
import "./wasm.js";

/** A message is not kept waiting for the task to end once it holds this much. */
const ENOUGH = 32 * 1024;

/** Nor more than this many milliseconds after the last message to the worker: the task may be long (src/page/link/mod.rs has the same). */
const LONGEST_WAIT = 2;

/**
 * The page reports the credit that it has used of a channel with its other messages, and separately once it is this much: an eighth of a
 * channel's window, of which the worker grants when half is gone.
 */
const WORTH_TELLING = 32 * 1024;
/** The cost of a message beside its payload (docs/protocol.md §6). */
const MESSAGE_COST = 64;

/**
 * How long a worker may take to greet, in milliseconds. It loads some 40 KB first, for which a slow mobile network takes two or three
 * seconds. Browsers have been seen to report nothing about a script that is no script.
 */
const GREETING = 5000;

export class Port {
  #options;
  /** By number: the channel, the credit that the page has used and not reported, and the bytes that have not left. */
  #entries = new Map();
  #lastNumber = 0;
  #readyState = CONNECTING;
  #isInterrupted = false;
  #carrier = null;
  #out = [];
  #moved = [];
  #pending = 0;
  #flushing = false;
  #flushedAt = 0;
  #consumed = new Set();
  /** Null until the page's lock is held: the worker must be able to see that this page is gone. */
  #port = null;
  #release = null;
  /** Ends the wait for the worker's lock, and for signs. */
  #watch = new AbortController();
  #greeted = false;
  #greeting = 0;
  #idle = 0;

  /**
   * @param {string} url of the multiplexer
   * @param {object} options those of a Link; `shared`, true or a name: pages that give the same one share; `onrefused`: takes the
   *   channels back if there can be no worker, and a text that says why
   */
  constructor(url, options) {
    this.#options = options;
    try {
      // Only a secure context has locks and these names, only a window shared workers.
      const lock = crypto.randomUUID();
      const hold = () => {
        port.postMessage([HELLO, 0, { url, idleTimeout: options.idleTimeout, resume: options.resume, carriers: options.carriers, lock }]);
        this.#port = port;
        this.flush();
        return new Promise((release) => (this.#release = release));
      };
      navigator.locks.request(lock, hold).catch((error) => this.#refused(error));
      const worker = new SharedWorker(new URL("./shared-worker.js", import.meta.url), {
        // For a script that turns out to be something else, such as a page, only a module has an `error` event.
        type: "module",
        // The last messages of a page that is being closed are in the worker's queue: where the browser allows it, the worker outlives it.
        extendedLifetime: true,
        // The version keeps copies apart that might not understand each other.
        name: `manysocket ${VERSION} ${options.shared} ${url}`,
      });
      const { port } = worker;
      outside(() => {
        worker.onerror = () => this.#refused("the script of its worker cannot be loaded");
        receiveFrom(port, (messages) => this.#receive(messages));
        port.start();
      });
      // In a page that was suspended, the greeting and the timer may both be due.
      this.#greeting = after(GREETING, () => (this.#greeting = after(0, () => this.#refused("its worker does not answer"))));
      heedSigns(() => this.#sign(PROBE), () => this.#sign(PARK), this.#watch.signal);
    } catch (error) {
      // None of that, a script of another origin, or a Content Security Policy that forbids it.
      queueMicrotask(() => this.#refused(error));
    }
  }

  get readyState() {
    return this.#readyState;
  }

  /** The kind of the carrier of the worker's link (link.js). */
  get carrier() {
    return this.#readyState === OPEN ? this.#carrier : null;
  }

  /** Channels of this page that have not ended. */
  get size() {
    return this.#entries.size;
  }

  /** For inspect.js: the physical socket is the worker's. */
  inspected() {
    return { channels: Array.from(this.#entries.values(), ({ channel }) => channel) };
  }

  /** Reports the page to the worker. */
  #sign(kind) {
    this.flush();
    this.#port?.postMessage([kind, 0, null]);
  }

  // ---- commands of channels ----

  open(channel) {
    clearTimeout(this.#idle);
    channel.link = this;
    channel.number = ++this.#lastNumber;
    this.#entries.set(channel.number, { channel, messages: 0, units: 0, unsent: 0 });
    this.#tell(OPEN_CHANNEL, channel, [channel.url, channel.offered, channel.headers]);
  }

  /** @param {string | Uint8Array} data */
  send(channel, data) {
    const entry = this.#entries.get(channel.number);
    if (typeof data === "string") {
      entry.unsent += utf8Length(data);
    } else {
      entry.unsent += data.length;
      data = data.slice();
      if (data.length >= LARGE) this.#moved.push(data.buffer);
    }
    this.#pending += data.length;
    this.#tell(SEND, channel, data);
  }

  /** The page took a message. */
  consumed(channel, units) {
    const entry = this.#entries.get(channel.number);
    entry.messages++;
    entry.units += units;
    this.#consumed.add(entry);
    if (entry.units + MESSAGE_COST * entry.messages >= WORTH_TELLING) this.#flushSoon();
  }

  /** Bytes of a channel that have not left. */
  buffered(channel) {
    return this.#entries.get(channel.number).unsent;
  }

  close(channel, code, reason) {
    this.#tell(CLOSE_CHANNEL, channel, [code, reason]);
  }

  /** Fails a channel: `error`, then `close` 1006. */
  fail(channel) {
    this.#tell(FAIL, channel, null);
    channel.fail(this.#forget(channel));
    deliverLater();
  }

  /** Makes the worker leave its link. Returns the link for later channels: this. */
  leave() {
    this.#out.push(LEAVE, 0, null);
    this.#flushSoon();
    return this;
  }

  /** Ends this page's part in the link; channels that are still there are lost. */
  end(code, reason) {
    queueMicrotask(() => this.#lost({ code, reason, wasClean: true }));
  }

  // ---- to the worker ----

  #tell(kind, channel, value) {
    this.#out.push(kind, channel.number, value);
    if (this.#flushSoon() || this.#pending >= ENOUGH) this.flush();
  }

  /** Schedules a write of the queue for the end of the task. Returns whether it is to be sent at once. */
  #flushSoon() {
    const isFirst = !this.#flushing;
    this.#flushing = true;
    return (isFirst && flushLater(this)) || performance.now() - this.#flushedAt > LONGEST_WAIT;
  }

  flush() {
    this.#flushing = false;
    if (this.#port === null) return;
    this.#pending = 0;
    this.#flushedAt = performance.now();
    for (const entry of this.#consumed) {
      this.#out.push(CONSUMED, entry.channel.number, [entry.messages, entry.units]);
      entry.messages = entry.units = 0;
    }
    this.#consumed.clear();
    if (this.#out.length === 0) return;
    this.#port.postMessage(this.#out, this.#moved);
    this.#out = [];
    this.#moved = [];
  }

  // ---- from the worker ----

  #receive(messages) {
    for (let at = 0; at < messages.length; at += 3) this.#take(messages[at], messages[at + 1], messages[at + 2]);
  }

  #take(kind, number, value) {
    if (number === 0) return this.#takeOwn(kind, value);
    // Given up, while this was on its way.
    const channel = this.#entries.get(number)?.channel;
    if (channel === undefined) return;
    switch (kind) {
      case EVENT_MESSAGE:
        enqueue(channel, EVENT_MESSAGE, typeof value === "string" ? value : new Bytes(value.buffer, value.byteOffset, value.length));
        break;
      case EVENT_OPEN:
        channel.opened(value);
        break;
      case EVENT_ERROR:
        enqueue(channel, EVENT_ERROR, null);
        break;
      case EVENT_CLOSE:
        channel.closed(value, this.#forget(channel));
        break;
      case SENT:
        this.#entries.get(number).unsent -= value;
        break;
      case FALLBACK:
        this.#forget(channel);
        // It has sent nothing: it never opened.
        if (this.#options.fallback !== null) this.#options.fallback(channel);
        else channel.fail();
    }
  }

  /** Handles a message that concerns no channel. */
  #takeOwn(kind, value) {
    if (kind === HELLO) {
      // Its script may come from a cache.
      if (value?.version !== VERSION) return this.#refused(value === null ? "its worker has no WebAssembly" : "its worker is of another version");
      this.#greeted = true;
      clearTimeout(this.#greeting);
      // Granted when the worker is dead.
      navigator.locks.request(value.lock, { signal: this.#watch.signal }, () => this.#lost(ABNORMAL)).catch(() => {});
    } else if (kind === LINK_OPEN && this.#readyState === CONNECTING) {
      this.#readyState = OPEN;
      this.#carries(value);
      this.#options.onopen();
    } else if (kind === INTERRUPTED && this.#readyState === OPEN) {
      this.#readyState = CONNECTING;
      this.#isInterrupted = true;
      this.#options.oninterrupted();
    } else if (kind === RESUMED && this.#isInterrupted) {
      this.#readyState = OPEN;
      this.#carries(value);
      this.#isInterrupted = false;
      this.#options.onresumed();
    } else if (kind === LINK_CLOSED) {
      this.#ended(value);
    }
  }

  #carries(carrier) {
    this.#carrier = carrier;
    if (carrier !== "websocket") this.#options.oncarrier();
  }

  // ---- the end ----

  /** @returns the bytes that have not left */
  #forget(channel) {
    const entry = this.#entries.get(channel.number);
    this.#entries.delete(channel.number);
    this.#consumed.delete(entry);
    this.#leaveIfIdle();
    return entry.unsent;
  }

  #leaveIfIdle() {
    clearTimeout(this.#idle);
    if (this.#entries.size > 0) return;
    const isOver = this.#readyState === CLOSED;
    this.#idle = after(isOver ? 0 : this.#options.idleTimeout, () => {
      this.#ended({ code: 1000, reason: "idle", wasClean: true });
      this.#leave();
    });
  }

  /** The link has ended, as far as this page is concerned. Channels that were opened meanwhile go on over the next. */
  #ended(close) {
    if (this.#readyState === CLOSED) return;
    this.#readyState = CLOSED;
    this.#options.onclose(close);
    this.#leaveIfIdle();
  }

  /** The worker is dead, or this page leaves it. */
  #lost(close) {
    for (const { channel, unsent } of this.#entries.values()) {
      if (channel.accepted) channel.closed(ABNORMAL, unsent);
      else channel.fail(unsent);
    }
    this.#entries.clear();
    this.#ended(close);
    this.#leave();
    deliverLater();
  }

  /** There can be no worker. */
  #refused(why) {
    if (this.#greeted || this.#readyState === CLOSED) return;
    this.#readyState = CLOSED;
    const channels = [...this.#entries.values()].map(({ channel }) => channel);
    this.#entries.clear();
    this.#leave();
    this.#options.onrefused(channels, why);
  }

  /** The worker sees the lock go, and with it the page. */
  #leave() {
    clearTimeout(this.#idle);
    clearTimeout(this.#greeting);
    this.#watch.abort();
    this.#release?.();
    this.#port?.close();
    this.#port = null;
  }
}

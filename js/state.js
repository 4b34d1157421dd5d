// The entry "manysocket/state": a JSON document that pages share, over any WebSocket. docs/state-wire.md has the protocol.
import { setDefault, socketClass, socketUrl, withQuery } from "./default.js";
import { Reconnecting } from "./reconnecting.js";
import { Replica, StateError } from "./state/replica.js";
import { isPointer, overlaps, toPlain, valueAt } from "./state/tree.js";

export { setDefault, StateError };

// RFC 6455 §7.4.1: of these a commit is the cause, and would be again.
const REFUSALS = { 1003: "invalid", 1007: "invalid", 1008: "invalid", 1009: "too-large" };

class State extends EventTarget {
  #replica = new Replica();
  #url;
  #connection;
  #watchers = new Set();
  #readyState = 0;
  /** Settles what `state()` gives out. */
  #opened;

  constructor(url, WebSocket, opened) {
    super();
    this.#url = socketUrl(url);
    this.#opened = opened;
    this.#connection = new Reconnecting(WebSocket, () => this.#resumption(), {
      onmessage: (message) => this.#receive(message),
      onclose: (event) => this.#lose(event),
    });
  }

  /** The document, to read and to edit. */
  get data() {
    return this.#replica.data;
  }

  set data(data) {
    this.#replica.data = data;
  }

  /** The version that the data is based on. */
  get version() {
    return this.#replica.version;
  }

  get url() {
    return this.#url.href;
  }

  /** As in `WebSocket.readyState`: 0 while it is connecting, again too; 1 open; 3 closed for good. */
  get readyState() {
    return this.#readyState;
  }

  /**
   * Commits the data as it is now; resolves with the version once the server has it safe.
   * Without a connection it waits for the next.
   */
  async commit() {
    if (this.#readyState === 3) throw new StateError("closed", "the state is closed");
    const answered = this.#replica.commit();
    this.#send();
    return answered;
  }

  /**
   * Calls back with each change of the document, by others or by a commit of this page's: `watch(callback)`, or `watch(path, callback)`.
   * Returns a function that ends it.
   */
  watch(path, callback) {
    const watcher = typeof path === "function" ? { path: null, callback: path } : { path, callback };
    if (watcher.path !== null && !isPointer(watcher.path)) {
      throw new TypeError(`'${watcher.path}' is no path: a JSON Pointer is empty or begins with a slash, and has "~" as "~0" (RFC 6901)`);
    }
    if (typeof watcher.callback !== "function") throw new TypeError("watch() calls a function, and this is none");
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  /** Closes it for good. Commits that are not answered reject. */
  close() {
    if (this.#readyState === 3) return;
    this.#readyState = 3;
    this.#connection.close();
    this.#replica.refuse(new StateError("closed", "the state was closed before the server answered"));
  }

  /** Where to connect: from the second time on, the URL names the version that is there already. */
  #resumption() {
    const { document } = this.#replica;
    if (document === null) return this.url;
    return withQuery(this.#url, `document=${encodeURIComponent(document)}&since=${this.version}`);
  }

  #receive(message) {
    if (this.#replica.document === null && message?.data === undefined) {
      this.#connection.close();
      this.#fail("it answers with something that is no document");
    } else if (message.id !== undefined) {
      const delta = this.#replica.answer(message);
      if (delta.length > 0) this.#tell(delta, true);
    } else {
      const delta = this.#replica.receive(message);
      if (this.#readyState === 0) this.#open();
      if (delta.length > 0) this.#tell(delta, false);
    }
    this.#send();
  }

  #open() {
    this.#readyState = 1;
    this.#connection.settle();
    const { unanswered } = this.#replica;
    if (unanswered !== null) this.#connection.send(JSON.stringify(unanswered));
    this.#opened.resolve(this);
    this.dispatchEvent(new Event("open"));
  }

  #fail(why) {
    this.#readyState = 3;
    this.#opened.reject(new StateError("unreachable", `cannot open ${this.url}: ${why}`));
  }

  /** @returns {boolean} whether to connect again */
  #lose({ code, reason, wasClean }) {
    if (this.#replica.document === null) {
      this.#fail(reason || (code === 1006 ? "no connection, or the server refuses" : `closed with ${code}`));
      return false;
    }
    if (Object.hasOwn(REFUSALS, code)) this.#replica.withhold(REFUSALS[code], reason);
    if (this.#readyState === 1) {
      this.#readyState = 0;
      this.dispatchEvent(Object.assign(new Event("close"), { code, reason, wasClean }));
    }
    // A listener may have closed it.
    return this.#readyState !== 3;
  }

  #send() {
    if (this.#readyState !== 1) return;
    const message = this.#replica.next();
    if (message !== null) this.#connection.send(JSON.stringify(message));
  }

  #tell(delta, own) {
    for (const { path, callback } of [...this.#watchers]) {
      const concerned = path === null ? delta : delta.filter((operation) => concerns(operation, path));
      if (concerned.length === 0) continue;
      // Copies: a callback may change its arguments, and may throw.
      const copy = toPlain(concerned);
      try {
        if (path === null) callback(copy, { own });
        else callback(valueAt(this.data, path), copy, { own });
      } catch (error) {
        // Reported as an event handler's is, and stops nothing.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

/** Whether an operation changes the value at a path, above it or below. An index in an array may be another's now. */
function concerns({ op, path, from }, watched) {
  const places = op === "move" ? [path, from] : [path];
  const isArrayPlace = (place) => /\/(-|\d+)$/.test(place) && op !== "replace";
  return places.some((place) => overlaps(isArrayPlace(place) ? place.slice(0, place.lastIndexOf("/")) : place, watched));
}

/**
 * Connects to a document.
 *
 * @param {string | URL} url relative to the document's base URL
 * @param {{ WebSocket?: typeof WebSocket }} [options] `WebSocket`: the class to connect with; default: that of the page's
 *   default `MultiWebSocket`, else the native one
 * @returns {Promise<State>} once the document is there
 */
export async function state(url, { WebSocket } = {}) {
  return new Promise((resolve, reject) => new State(url, socketClass(WebSocket), { resolve, reject }));
}

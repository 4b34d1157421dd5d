// The entry "manysocket/topic": a topic whose messages have positions, over any WebSocket. docs/topics.md has the protocol.
import { setDefault, socketClass, socketUrl, withQuery } from "./default.js";
import { Reconnecting } from "./reconnecting.js";

export { setDefault };

/** Why a message was not published, or may not have been. */
export class TopicError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}
// The build shortens the names of classes.
Object.defineProperty(TopicError.prototype, "name", { value: "TopicError", writable: true, configurable: true });

// RFC 6455 §7.4.1: of these a message of the page's is the cause.
const REFUSALS = { 1008: "refused", 1009: "too-large" };

const event = (type, members) => Object.assign(new Event(type), members);

class Topic extends EventTarget {
  #url;
  #connection;
  /** Where to go on: `POSITION.EPOCH`, or nothing for a beginning. */
  #position;
  #epoch = null;
  #readyState = 0;
  /** Publications that the server has not answered, in order. */
  #publications = [];

  constructor(url, WebSocket, since) {
    super();
    this.#url = socketUrl(url);
    this.#position = since;
    this.#connection = new Reconnecting(WebSocket, () => this.#resumption(), {
      onmessage: (message) => this.#receive(message),
      onclose: (event) => this.#lose(event),
    });
  }

  get url() {
    return this.#url.href;
  }

  /** As in `WebSocket.readyState`: 0 while it is connecting, again too; 1 open; 3 closed for good. */
  get readyState() {
    return this.#readyState;
  }

  /** How far this is; the option `since` goes on from there. */
  get position() {
    return this.#position;
  }

  /** Publishes a message; resolves with its number. Without a connection it waits for the next. */
  publish(data) {
    return new Promise((resolve, reject) => {
      this.#publications.push({ data, resolve, reject });
      if (this.#readyState === 3) this.#fail("closed", "the topic is closed", () => true);
      this.#send();
    });
  }

  /** Closes it for good. */
  close() {
    if (this.#readyState === 3) return;
    this.#connection.close();
    this.#end({ code: 1000, reason: "", wasClean: true }, "closed");
  }

  /** The messages from now on. */
  [Symbol.asyncIterator]() {
    const waiting = [];
    let wake;
    const take = ({ type, data }) => {
      if (type === "message") waiting.push(data);
      wake?.();
    };
    for (const type of ["message", "close"]) this.addEventListener(type, take);
    const read = async function* (topic) {
      try {
        for (;;) {
          if (waiting.length > 0) yield waiting.shift();
          else if (topic.readyState === 3) return;
          else await new Promise((resolve) => (wake = resolve));
        }
      } finally {
        for (const type of ["message", "close"]) topic.removeEventListener(type, take);
      }
    };
    return read(this);
  }

  #resumption() {
    return withQuery(this.#url, `since=${encodeURIComponent(this.#position)}`);
  }

  #receive({ epoch, position, data, binary, missed, published }) {
    if (this.#readyState === 0) {
      if (typeof epoch !== "string") throw new TypeError("a topic without positions");
      this.#readyState = 1;
      this.#epoch = epoch;
      this.#connection.settle();
      this.#send();
      this.dispatchEvent(new Event("open"));
    }
    const at = position ?? published;
    if (Number.isSafeInteger(at)) this.#position = `${at}.${this.#epoch}`;
    if (published !== undefined) this.#publications.shift()?.resolve(published);
    if (missed !== undefined) this.dispatchEvent(event("missed", { count: missed }));
    const content = data ?? (binary === undefined ? undefined : Uint8Array.from(atob(binary), (character) => character.charCodeAt(0)).buffer);
    if (content === undefined) return;
    this.dispatchEvent(new MessageEvent("message", { data: content, origin: this.#url.origin, lastEventId: this.#position }));
  }

  #send() {
    if (this.#readyState !== 1) return;
    for (const publication of this.#publications) {
      if (publication.isSent) continue;
      publication.isSent = true;
      this.#connection.send(publication.data);
    }
  }

  /** @returns {boolean} whether to connect again */
  #lose(close) {
    const hasOpened = this.#epoch !== null;
    this.#fail(REFUSALS[close.code] ?? "lost", close.reason, ({ isSent }) => isSent);
    if (!hasOpened) this.#end(close, "unreachable");
    else if (this.#readyState === 1) {
      this.#readyState = 0;
      this.#tell(close);
    }
    // A listener may have closed it.
    return this.#readyState !== 3;
  }

  #end(close, code) {
    this.#readyState = 3;
    this.#fail(code, close.reason, () => true);
    this.#tell(close);
  }

  #tell({ code, reason, wasClean }) {
    this.dispatchEvent(event("close", { code, reason, wasClean }));
  }

  /** Rejects publications. Those that were sent may have been published, if the connection was lost. */
  #fail(code, reason, which) {
    const failed = this.#publications.filter(which);
    this.#publications = this.#publications.filter((publication) => !which(publication));
    for (const { reject } of failed) reject(new TopicError(code, reason || `no answer from ${this.url}`));
  }
}

/**
 * Subscribes to a topic, and subscribes again whenever the connection is lost, without losing or repeating a message.
 *
 * @param {string | URL} url relative to the page's base URL
 * @param {{ WebSocket?: typeof WebSocket, since?: string }} [options] `since`: an earlier `position`
 */
export function topic(url, { WebSocket, since = "" } = {}) {
  return new Topic(url, socketClass(WebSocket), since);
}

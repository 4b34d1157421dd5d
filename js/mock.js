// The entry "manysocket/mock": a multiplexer for unit tests, whose server is the test's own code in the same page. It needs no
// connection and no WebAssembly.
import { ABNORMAL, CLOSED, EVENT_MESSAGE, OPEN } from "./channel.js";
import { deliverLater, enqueue } from "./delivery.js";
import { Bytes, closeEvent } from "./events.js";
import { defineJson } from "./json.js";
import { later } from "./later.js";
import { defineRelative, resolve } from "./relative.js";
import { Waiting } from "./waiting.js";
import { defineWebSocket, toLines } from "./websocket.js";

/** RFC 6455 §7.4.1: a close frame without a code. */
const NO_STATUS = 1005;

/** The class whose constructor made the latest socket of a handler. */
let made;

/** The class of the handlers' sockets: the same interface as the page's. */
const HandlerSocket = defineWebSocket((channel) => (made = channel));

/** In the place of a link, for one of the two ends of a socket. */
class End {
  /** @type {End} */
  peer;
  #forget;

  /** @param {() => void} forget called when it has ended */
  constructor(channel, forget) {
    this.channel = channel;
    this.#forget = forget;
    channel.link = this;
  }

  /** Nothing waits: each message arrives at once. */
  buffered() {
    return 0;
  }

  /** @param {string | Uint8Array} data bytes that the sender may yet change */
  send(_, data) {
    const message = typeof data === "string" ? data : new Bytes(data.slice().buffer, 0, data.byteLength);
    enqueue(this.peer.channel, EVENT_MESSAGE, message);
    deliverLater();
  }

  /** There is no credit to give back. */
  consumed() {}

  close(_, code, reason) {
    this.end({ code: code || NO_STATUS, reason, wasClean: true });
  }

  /** Fails it, as a message does whose Blob cannot be read. */
  fail(channel) {
    channel.fail();
    this.peer.end(ABNORMAL);
  }

  /** Ends both ends that have not ended. */
  end(close) {
    this.#forget();
    for (const { channel } of [this.peer, this]) if (channel.link !== null) channel.closed(close, 0);
    deliverLater();
  }
}

/**
 * Makes the object with which a handler answers an open once, and a function that returns whether it has. A handler may destructure it.
 *
 * @param {{ accept: (protocol: string) => WebSocket, refuse: () => void }} answers
 */
function makeRequest({ url, offered, headers }, params, { accept, refuse }) {
  let isAnswered = false;
  const answer = (act) => {
    if (isAnswered) throw new TypeError(`MockMultiplexer: '${url}' is answered already.`);
    isAnswered = true;
    return act();
  };
  const request = {
    url: new URL(url),
    params,
    protocols: [...offered],
    headers: new Headers(headers.split("\n").filter(Boolean).map((line) => line.split(/: (.*)/, 2))),
    accept({ protocol = "" } = {}) {
      if (protocol !== "" && !offered.includes(protocol)) {
        throw new TypeError(`MockMultiplexer: the page did not offer the subprotocol '${protocol}', only: ${offered.join(", ") || "none"}.`);
      }
      return answer(() => accept(protocol));
    },
    refuse: () => answer(refuse),
  };
  return { request, isAnswered: () => isAnswered };
}

/** A path with `{name}` for a segment and `{*name}` for the rest, as the server has them, as an expression with named groups. */
function toPattern(path) {
  if (!path.startsWith("/")) throw new TypeError(`MockMultiplexer: the path '${path}' does not begin with a slash.`);
  const source = path.replace(/\{(\*?)(\w+)\}|[.*+?^$|()[\]{}\\]/g, (text, rest, name) =>
    name === undefined ? `\\${text}` : `(?<${name}>${rest ? ".+" : "[^/]+"})`);
  return new RegExp(`^${source}$`);
}

export class MockMultiplexer extends EventTarget {
  #url;
  /** Handlers with their patterns, by path. */
  #routes = new Map();
  #ends = new Set();
  #waiting = new Waiting();
  #provide = null;

  /** @param {string | URL} [url] of the multiplexer; only `M.url` shows it */
  constructor(url = "ws://localhost/multiplexer") {
    super();
    this.#url = resolve(`${url}`).href;
    const WebSocket = defineWebSocket((channel) => void this.#open(channel));
    const RelativeWebSocket = defineRelative(WebSocket);
    const JsonWebSocket = defineJson(RelativeWebSocket);
    for (const [name, value] of Object.entries({ WebSocket, RelativeWebSocket, JsonWebSocket })) {
      Object.defineProperty(this, name, { value, enumerable: true });
    }
  }

  /**
   * Sets the handler of a path, on any host. A handler that exists for the same path is replaced; of several that match, the first
   * one set is called.
   *
   * @param {string} path `/chat/{room}`, `/files/{*path}`
   * @param {(request: object) => void | Promise<void>} handler
   */
  handle(path, handler) {
    this.#routes.set(path, { pattern: toPattern(path), handler });
  }

  get url() {
    return this.#url;
  }

  get readyState() {
    return this.#ends.size > 0 ? OPEN : CLOSED;
  }

  get carrier() {
    return this.#ends.size > 0 ? "websocket" : null;
  }

  get size() {
    return this.#ends.size;
  }

  /** Ends all sockets as a lost link does: both ends see `close` 1006. */
  close() {
    this.#waiting.end();
    if (this.#ends.size === 0) return;
    for (const end of this.#ends) end.end(ABNORMAL);
    this.dispatchEvent(closeEvent({ code: 1000, reason: "", wasClean: true }));
  }

  headers(provide) {
    this.#provide = provide;
  }

  /** There is no handshake to repeat. */
  reconnect() {}

  /** Sockets without a link have no frames to watch. */
  async inspect() {
    const { Inspector } = await import("./inspect.js");
    return new Inspector([]);
  }

  rpc(url, options) {
    return later(async () => (await import("./rpc.js")).rpc(url, { ...options, WebSocket: this.WebSocket }));
  }

  async state(url, options) {
    return (await import("./state.js")).state(url, { ...options, WebSocket: this.WebSocket });
  }

  async topic(url, options) {
    return (await import("./topic.js")).topic(url, { ...options, WebSocket: this.WebSocket });
  }

  async #open(channel) {
    this.#waiting.add(channel);
    try {
      if (this.#provide !== null) channel.headers = toLines(await this.#provide(), channel.headers);
      // The page has the socket before its handler is called.
      await null;
      await this.#ask(channel);
    } catch (error) {
      console.error(`MockMultiplexer: '${channel.url}' failed:`, error);
      this.#refuse(channel);
    }
  }

  /** Calls the handler. One that returns without an answer has refused. */
  async #ask(channel) {
    const { pathname } = new URL(channel.url);
    for (const { pattern, handler } of this.#routes.values()) {
      const match = pattern.exec(pathname);
      if (match === null) continue;
      const { request, isAnswered } = makeRequest(channel, { ...match.groups }, {
        accept: (protocol) => this.#accept(channel, protocol),
        refuse: () => this.#refuse(channel),
      });
      await handler(request);
      if (!isAnswered()) throw new TypeError(`the handler of '${pathname}' neither accepted nor refused it.`);
      return;
    }
    throw new TypeError(`nothing handles '${pathname}': call handle('${pathname}', …).`);
  }

  #refuse(channel) {
    if (this.#waiting.take(channel)) {
      channel.fail();
      deliverLater();
    }
  }

  #accept(channel, protocol) {
    const socket = new HandlerSocket(channel.url, channel.offered);
    const other = made;
    other.readyState = OPEN;
    other.protocol = protocol;
    // The page may have closed it meanwhile: the handler's end sees that, as on a server.
    if (!this.#waiting.take(channel)) {
      other.closed(ABNORMAL, 0);
      deliverLater();
      return socket;
    }
    const end = new End(channel, () => this.#ends.delete(end));
    end.peer = new End(other, () => this.#ends.delete(end));
    end.peer.peer = end;
    this.#ends.add(end);
    if (this.#ends.size === 1) this.dispatchEvent(new Event("open"));
    channel.opened(protocol);
    deliverLater();
    return socket;
  }
}

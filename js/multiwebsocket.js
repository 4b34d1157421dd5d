// `MultiWebSocket`: the page's handle on one multiplexer, and on the link to it while there is one.
import { defineWebSocket, webSocketUrl } from "./websocket.js";
import { Link } from "./link.js";

const NativeWebSocket = globalThis.WebSocket;

/** How long a link without sockets is kept: long enough for a page that closes one to open the next. */
const IDLE_TIMEOUT = 10_000;

class Multiplexer extends EventTarget {
  #url;
  #idleTimeout;
  /** @type {Link | null} */
  #link = null;

  /**
   * @param {string | URL} url where the server answers with the `manysocket.v1` subprotocol, relative to
   *   the document's base URL
   * @param {{ idleTimeout?: number }} [options] `idleTimeout`: milliseconds for which a link without
   *   sockets is kept (default 10,000)
   */
  constructor(url, { idleTimeout = IDLE_TIMEOUT } = {}) {
    super();
    this.#url = webSocketUrl(`${url}`);
    this.#idleTimeout = idleTimeout;
    const WebSocket = defineWebSocket(
      (target) => target.origin === this.#url.origin,
      (channel) => this.#dialled().open(channel),
      NativeWebSocket,
    );
    Object.defineProperty(this, "WebSocket", { value: WebSocket, enumerable: true });
  }

  /** The URL of the multiplexer. */
  get url() {
    return this.#url.href;
  }

  /** The state of the link, with the numbers of `WebSocket.readyState`: 3 while there is none. */
  get readyState() {
    return this.#link?.readyState ?? NativeWebSocket.CLOSED;
  }

  /** How many virtual sockets the link carries. */
  get size() {
    return this.#link?.size ?? 0;
  }

  /** Closes the link. Sockets that are still open see `close` 1006; a new one dials again. */
  close() {
    this.#link?.end(1000, "");
    this.#link = null;
  }

  #dialled() {
    if (this.#link === null || this.#link.readyState > NativeWebSocket.OPEN) {
      const link = new Link(this.url, {
        idleTimeout: this.#idleTimeout,
        onopen: () => this.dispatchEvent(new Event("open")),
        onclose: ({ code, reason, wasClean }) => {
          if (this.#link === link) this.#link = null;
          this.dispatchEvent(new CloseEvent("close", { code, reason, wasClean }));
        },
      });
      this.#link = link;
    }
    return this.#link;
  }
}

/** The class, and a function that makes one: `new` may be left out. */
export const MultiWebSocket = new Proxy(Multiplexer, {
  apply: (target, _, args) => new target(...args),
});
Object.defineProperty(Multiplexer, "name", { value: "MultiWebSocket" });
Multiplexer.prototype.constructor = MultiWebSocket;

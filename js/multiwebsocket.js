// `MultiWebSocket`: the page's handle on one multiplexer, and on the link to it while there is one.
import { defineWebSocket, toLines } from "./websocket.js";
import { CLOSED, CONNECTING, OPEN } from "./channel.js";
import { deliverLater } from "./delivery.js";
import { Direct } from "./direct.js";
import { closeEvent } from "./events.js";
import { defineJson } from "./json.js";
import { Link } from "./link.js";
import { defineRelative, resolve } from "./relative.js";
import { Renewal } from "./renewal.js";
import { core, failure } from "./core.js";

/** How long a link without sockets is kept: long enough for a page that closes one to open the next. */
const IDLE_TIMEOUT = 10_000;

/**
 * A function, and those below it, whose code is loaded with the first call. What JavaScript itself asks a function for is its own
 * (rpc.js has the same names).
 */
function later(load) {
  const made = Object.create(null);
  return new Proxy(async (...args) => (await load())(...args), {
    get: (target, name) =>
      typeof name === "symbol" || /^(then|toString|valueOf|toJSON)$/.test(name)
        ? target[name]
        : (made[name] ??= later(async () => (await load())[name])),
  });
}

const TROUBLE = "https://github.com/manysocket/manysocket/blob/main/docs/trouble.md";

class Multiplexer extends EventTarget {
  #url;
  #idleTimeout;
  /** The part of the site that the server lets virtual sockets reach, with a slash at its end. */
  #jail;
  /** The global `WebSocket` when this is made: the native class, or one that the page has put in its place. */
  #Native;
  #fallback;
  /** Whether the server turned out not to have a multiplexer, or the page has no WebAssembly. */
  #hasNone = false;
  /** Whether a link has been up, or its failure explained: once is enough for the console. */
  #isKnown = false;
  /** @type {Link | null} */
  #link = null;
  /** Or what stands in its place, and is loaded first: where all pages share a link (port.js). */
  #Link = Link;
  #shared;
  #renewal = new Renewal();
  /** The function that is asked for the headers of each socket. */
  #provide = null;
  /** The watcher of the link, once it has been asked for (inspect.js). */
  #inspector = null;
  /** Settles when it has been loaded; null if nothing is. */
  #loading = null;

  /**
   * @param {string | URL} url where the server answers with the `manysocket.v1` subprotocol, relative to
   *   the document's base URL
   * @param {{ idleTimeout?: number, jail?: string, fallback?: boolean, shared?: boolean | string }} [options] `idleTimeout`: milliseconds for which
   *   a link without sockets is kept (default 10,000); `jail`: the path below which the server lets virtual sockets reach
   *   (default: the multiplexer's folder, as the server's); `fallback`: whether sockets become native where the multiplexer's
   *   handshake fails, or there is no WebAssembly (default false); `shared`: whether all pages of the origin use one link, or the
   *   name under which they do (default false)
   */
  constructor(url, { idleTimeout = IDLE_TIMEOUT, jail = ".", fallback = false, shared = false } = {}) {
    super();
    this.#Native = globalThis.WebSocket;
    if (this.#Native === undefined) {
      throw new TypeError("Failed to construct 'MultiWebSocket': No WebSocket: set globalThis.WebSocket; Node.js has one from version 22 on.");
    }
    this.#url = resolve(`${url}`);
    this.#idleTimeout = idleTimeout;
    this.#jail = new URL(jail, this.#url).pathname.replace(/\/*$/, "/");
    this.#fallback = fallback;
    if (core === null) {
      if (!fallback) {
        throw new TypeError("Failed to construct 'MultiWebSocket': No WebAssembly: it takes script-src 'wasm-unsafe-eval', or initialise() of manysocket/manual; or the option fallback.", { cause: failure });
      }
      this.#hasNone = true;
    }
    this.#shared = shared;
    if (shared) {
      const use = ({ Port }) => {
        this.#Link = Port;
        this.#loading = null;
      };
      this.#loading = import("./port.js").then(use, () => use({ Port: Link }));
    }
    const WebSocket = defineWebSocket((channel, target) => this.#open(channel, target), this.#Native);
    const RelativeWebSocket = defineRelative(WebSocket);
    const JsonWebSocket = defineJson(RelativeWebSocket);
    for (const [name, value] of Object.entries({ WebSocket, RelativeWebSocket, JsonWebSocket })) {
      Object.defineProperty(this, name, { value, enumerable: true });
    }
  }

  /** The URL of the multiplexer. */
  get url() {
    return this.#url.href;
  }

  /** The state of the link, with the numbers of `WebSocket.readyState`: 3 while there is none. */
  get readyState() {
    return this.#link?.readyState ?? CLOSED;
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

  /**
   * Sets a function that is asked for the headers of each socket when it opens, and that may be asynchronous; null: none.
   * @param {(() => HeadersInit | Promise<HeadersInit>) | null} provide
   */
  headers(provide) {
    this.#provide = provide;
  }

  /** Has later sockets use a new link, whose handshake has the cookies of that time. The present one ends with its last socket. */
  reconnect() {
    this.#link = this.#link?.leave() ?? null;
  }

  /** Watches what the link carries. */
  async inspect() {
    const { Inspector } = await import("./inspect.js");
    if (this.#inspector === null) {
      this.#inspector = new Inspector();
      if (this.#link !== null) this.#inspector.watch(this.#link);
    }
    return this.#inspector;
  }

  /** Functions of the server, over this multiplexer (rpc.js). */
  rpc(url, options) {
    return later(async () => (await import("./rpc.js")).rpc(url, { ...options, WebSocket: this.WebSocket }));
  }

  /** A document, over this multiplexer (state.js). */
  async state(url, options) {
    return (await import("./state.js")).state(url, { ...options, WebSocket: this.WebSocket });
  }

  /** A topic, over this multiplexer (topic.js). */
  async topic(url, options) {
    return (await import("./topic.js")).topic(url, { ...options, WebSocket: this.WebSocket });
  }

  #open(channel, target) {
    if (this.#hasNone || !this.#carries(target)) new Direct(channel, this.#Native);
    else if (this.#provide !== null) this.#openWith(channel, this.#provide);
    else if (this.#loading === null) this.#dialled().open(channel);
    else this.#loading.then(() => this.#openLate(channel));
  }

  /** Opens a socket with headers that are asked for first; the socket's own count more. */
  async #openWith(channel, provide) {
    try {
      channel.headers = toLines(await provide(), channel.headers);
    } catch (error) {
      console.error(`WebSocket connection to '${channel.url}' failed: there are no headers for it:`, error);
      channel.fail();
      return deliverLater();
    }
    await this.#loading;
    this.#openLate(channel);
  }

  /** Opens a socket that has waited. The page may have closed it meanwhile. */
  #openLate(channel) {
    if (channel.readyState === CONNECTING) this.#dialled().open(channel);
    else channel.fail();
    deliverLater();
  }

  /** Whether the server would open this URL (server/src/guard.rs has the other half), and sees of it what it would natively. */
  #carries({ origin, username, password, pathname }) {
    if (origin !== this.#url.origin || username !== "" || password !== "") return false;
    return `${pathname}/`.startsWith(this.#jail) && !/%2f|%5c/i.test(pathname);
  }

  #dialled() {
    if (this.#link === null || this.#link.readyState > OPEN) {
      const link = new this.#Link(this.url, {
        WebSocket: this.#Native,
        idleTimeout: this.#idleTimeout,
        shared: this.#shared,
        onrefused: (channels) => {
          this.#Link = Link;
          this.#link = null;
          channels.forEach((channel) => this.#openLate(channel));
        },
        renew: () => {
          // Another socket may have been the first to be refused.
          if (this.#link !== link) return true;
          const begins = this.#renewal.begins();
          if (begins) this.reconnect();
          return begins;
        },
        reopen: (channel) => this.#openLate(channel),
        onopen: () => {
          this.#isKnown = true;
          this.dispatchEvent(new Event("open"));
        },
        onclose: (close) => {
          if (this.#link === link) {
            this.#link = null;
            // A page cannot see why a handshake fails; its console can, and the causes are few.
            if (!this.#isKnown && !this.#fallback) {
              console.warn(`manysocket: no link to ${this.url}. ${TROUBLE}`);
              this.#isKnown = true;
            }
          }
          if (!link.isLeft) this.dispatchEvent(closeEvent(close));
        },
        // Only a native socket that opens shows that the server is there, and has no multiplexer.
        fallback: this.#fallback ? (channel) => new Direct(channel, this.#Native, () => (this.#hasNone = true)) : null,
      });
      this.#link = link;
      this.#inspector?.watch(link);
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

// `MultiWebSocket`: the page's handle on one multiplexer, and on the link to it while there is one.
import { defineWebSocket, toLines } from "./websocket.js";
import { CLOSED, CONNECTING, OPEN } from "./channel.js";
import { deliverLater } from "./delivery.js";
import { Direct } from "./direct.js";
import { closeEvent } from "./events.js";
import { defineJson } from "./json.js";
import { later } from "./later.js";
import { Link } from "./link.js";
import { defineRelative, resolve } from "./relative.js";
import { Renewal } from "./renewal.js";
import { core, failure, starting } from "./core.js";
import { Waiting } from "./waiting.js";

/** How long a link without sockets is kept: long enough for a page that closes one to open the next. */
const IDLE_TIMEOUT = 10_000;

const DOCS = "https://github.com/manysocket/manysocket/blob/main/docs/";
const TROUBLE = `${DOCS}trouble.md`;
const NATIVE_SOCKETS = `${DOCS}differences.md#sockets-that-are-not-virtual`;

/** Converts a string, or an object whose string form is a URL such as `location`, to a URL. */
function toUrl(given) {
  const text = `${given}`;
  // A promise, say, or an object of options.
  if (typeof given !== "string" && (typeof given !== "object" || /^(null|\[object .*)$/.test(text))) {
    throw new TypeError(`Failed to construct 'MultiWebSocket': '${text}' is neither a URL nor a function that returns one.`);
  }
  return resolve(text);
}

class Multiplexer extends EventTarget {
  /** Null until the page's function has been asked for it. */
  #url = null;
  /** The page's function, asked for each link; or null. */
  #ask;
  /** Whether it has been asked since the last link was dialled. */
  #isFresh = false;
  #idleTimeout;
  /** The part of the site that the server lets virtual sockets reach. */
  #jail;
  /** Limitations; the console reports each once. */
  #notes = [];
  /** The global `WebSocket` when this is made: the native class, or one that the page has put in its place. */
  #Native;
  #fallback;
  /** Whether the server turned out not to have a multiplexer, or the page has no WebAssembly. */
  #hasNone = false;
  /** Whether a link has been up, or its failure explained: once is enough for the console. */
  #isKnown = false;
  /** @type {Link | null} */
  #link = null;
  /** Or its substitute where all pages share a link (port.js), which is loaded first. */
  #Link = Link;
  #shared;
  #resume;
  #carriers;
  #renewal = new Renewal();
  /** The function that is asked for the headers of each socket. */
  #provide = null;
  #waiting = new Waiting();
  /** The watcher of the link, once it has been asked for (inspect.js). */
  #inspector = null;
  /** Settles when all is there that the next link needs; null if nothing is missing. */
  #loading = starting;

  /**
   * @param {string | URL | (() => string | URL | Promise<string | URL>)} url where the server answers with the `manysocket.v1`
   *   subprotocol, relative to the document's base URL; or a function that is asked for it before each link is dialled
   * @param {{ idleTimeout?: number, jail?: string, fallback?: boolean, shared?: boolean | string, resume?: boolean, carriers?: ("websocket" | "http")[] }} [options] `idleTimeout`: milliseconds for which
   *   a link without sockets is kept (default 10,000); `jail`: the path below which the server lets virtual sockets reach
   *   (default: the multiplexer's folder, as the server's); `fallback`: whether sockets become native where the multiplexer's
   *   handshake fails, or there is no WebAssembly (default false); `shared`: whether all pages of the origin use one link, or the
   *   name under which they do (default false); `resume`: whether the link outlives its connections (default true);
   *   `carriers`: the kinds that may carry the link (default: both; a WebSocket is tried first)
   */
  constructor(url, { idleTimeout = IDLE_TIMEOUT, jail = ".", fallback = false, shared = false, resume = true, carriers = ["websocket", "http"] } = {}) {
    if (arguments.length === 0) {
      throw new TypeError("Failed to construct 'MultiWebSocket': 1 argument required, but only 0 present.");
    }
    super();
    this.#Native = globalThis.WebSocket;
    if (this.#Native === undefined) {
      throw new TypeError("Failed to construct 'MultiWebSocket': No WebSocket: set globalThis.WebSocket; Node.js has one from version 22 on.");
    }
    this.#ask = typeof url === "function" ? url : null;
    if (this.#ask === null) this.#url = toUrl(url);
    this.#idleTimeout = idleTimeout;
    this.#jail = jail;
    this.#fallback = fallback;
    if (core === null && starting === null) {
      if (!fallback) {
        throw new TypeError("Failed to construct 'MultiWebSocket': No WebAssembly: it takes script-src 'wasm-unsafe-eval', or initialise() of manysocket/manual; or the option fallback.", { cause: failure });
      }
      this.#goNative(`there is no WebAssembly (${failure})`);
    }
    this.#shared = shared;
    this.#resume = resume;
    this.#carriers = [...carriers];
    if (shared) {
      const port = import("./port.js").then(({ Port }) => (this.#Link = Port), () => this.#note("no shared link: its code cannot be loaded", TROUBLE));
      this.#loading = Promise.all([starting, port]);
    }
    this.#loading = this.#loading?.then(() => void (this.#loading = null)) ?? null;
    const WebSocket = defineWebSocket((channel, target) => this.#open(channel, target), this.#Native);
    const RelativeWebSocket = defineRelative(WebSocket);
    const JsonWebSocket = defineJson(RelativeWebSocket);
    for (const [name, value] of Object.entries({ WebSocket, RelativeWebSocket, JsonWebSocket })) {
      Object.defineProperty(this, name, { value, enumerable: true });
    }
  }

  /** The URL of the multiplexer. */
  get url() {
    return this.#url?.href ?? "";
  }

  /** The state of the link, with the numbers of `WebSocket.readyState`: 3 while there is none. */
  get readyState() {
    return this.#link?.readyState ?? CLOSED;
  }

  /** The kind of the link's carrier: "websocket", "http-stream" or "http-poll"; null while it has no connection. */
  get carrier() {
    return this.#link?.carrier ?? null;
  }

  /** How many virtual sockets the link carries. */
  get size() {
    return this.#link?.size ?? 0;
  }

  /** Closes the link. Sockets that are still open see `close` 1006; a new one dials again. */
  close() {
    this.#waiting.end();
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

  /** Makes later sockets use a new link, whose handshake has the browser's cookies at that time. The present one ends with its last socket. */
  reconnect() {
    this.#link = this.#link?.leave() ?? null;
  }

  /** Watches the messages of the link. */
  async inspect() {
    const { Inspector } = await import("./inspect.js");
    if (this.#inspector === null) {
      this.#inspector = new Inspector(this.#notes, this);
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

  #open(channel, target, hasHeaders = false) {
    // It may have been started late, and in vain.
    const isMissing = core === null && this.#loading === null && !this.#hasNone;
    if (isMissing && this.#fallback) this.#goNative(`there is no WebAssembly (${failure})`);
    const isOutside = this.#url !== null && !this.#carries(target);
    if (isOutside) this.#note(`sockets outside of ${new URL(this.#scope(), this.#url)} are native`, NATIVE_SOCKETS);
    if (isOutside || this.#hasNone) return void new Direct(channel, this.#Native);
    if (isMissing) return this.#openLate(channel, target, false);
    if (this.#provide !== null && !hasHeaders) return void this.#openWith(channel, target, this.#provide);
    if (this.#ask !== null && !this.#isFresh && !this.#hasLink()) this.#loading ??= this.#askUrl();
    if (this.#loading !== null) {
      this.#waiting.add(channel);
      this.#loading.then((isThere) => this.#waiting.take(channel) && this.#openLate(channel, target, isThere, hasHeaders));
    } else this.#dialled().open(channel);
  }

  /** Opens a socket with headers that are asked for first; the socket's own count more. */
  async #openWith(channel, target, provide) {
    this.#waiting.add(channel);
    let isThere = true;
    try {
      channel.headers = toLines(await provide(), channel.headers);
    } catch (error) {
      console.error(`WebSocket connection to '${channel.url}' failed: there are no headers for it:`, error);
      isThere = false;
    }
    if (this.#waiting.take(channel)) this.#openLate(channel, target, isThere, true);
  }

  /** Opens a socket that has waited. The page may have closed it meanwhile. */
  #openLate(channel, target, isThere, hasHeaders) {
    if (channel.readyState === CONNECTING && isThere !== false) this.#open(channel, target, hasHeaders);
    else channel.fail();
    deliverLater();
  }

  /** Asks the page's function for the URL of the next link; false if it gives none. */
  async #askUrl() {
    // The caller notes first that it waits.
    await null;
    this.#isFresh = (await this.#freshUrl()) !== null;
    this.#loading = null;
    return this.#isFresh;
  }

  async #freshUrl() {
    try {
      return (this.#url = toUrl(await this.#ask()));
    } catch (error) {
      console.error(`manysocket: no URL for a link: ${error}`);
      return null;
    }
  }

  #note(text, link) {
    if (this.#notes.includes(text)) return;
    this.#notes.push(text);
    console.info(`manysocket: ${text}. ${link}`);
  }

  #goNative(why) {
    this.#hasNone = true;
    this.#note(`sockets are native: ${why}`, TROUBLE);
  }

  #hasLink() {
    return this.#link !== null && this.#link.readyState <= OPEN;
  }

  /** The path of the scope, with a slash at its end. */
  #scope() {
    return new URL(this.#jail, this.#url).pathname.replace(/\/*$/, "/");
  }

  /** Whether the server would open this URL (server/src/access/scope.rs has the other half), and sees it as it would natively. */
  #carries({ origin, username, password, pathname }) {
    if (origin !== this.#url.origin || username !== "" || password !== "") return false;
    return `${pathname}/`.startsWith(this.#scope()) && !/%2f|%5c/i.test(pathname);
  }

  #dialled() {
    if (!this.#hasLink()) {
      this.#isFresh = false;
      const link = new this.#Link(this.url, {
        WebSocket: this.#Native,
        idleTimeout: this.#idleTimeout,
        shared: this.#shared,
        resume: this.#resume,
        carriers: this.#carriers,
        ask: this.#ask && (() => this.#freshUrl()),
        oncarrier: () => this.#note(`the link to ${this.url} goes over HTTP`, `${DOCS}carriers.md`),
        oninterrupted: () => this.dispatchEvent(new Event("interrupted")),
        onresumed: () => this.dispatchEvent(new Event("resumed")),
        onrefused: (channels, why) => {
          this.#Link = Link;
          this.#link = null;
          this.#note(`no shared link: ${why}`, TROUBLE);
          channels.forEach((channel) => this.#openLate(channel, new URL(channel.url), true, true));
        },
        renew: () => {
          // Another socket may have been the first to be refused.
          if (this.#link !== link) return true;
          const begins = this.#renewal.begins();
          if (begins) this.reconnect();
          return begins;
        },
        onsilent: () => {
          if (this.#link === link) this.reconnect();
        },
        // It has its headers.
        reopen: (channel) => this.#openLate(channel, new URL(channel.url), true, true),
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
        fallback: this.#fallback ? (channel) => new Direct(channel, this.#Native, () => this.#goNative(`there is no multiplexer at ${this.url}`)) : null,
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

// The entry "manysocket/rpc": functions of a server, over any WebSocket. docs/rpc.md has the protocol.
import { Connection } from "./rpc/connection.js";
import { RpcError } from "./rpc/error.js";

export { RpcError };

// Long enough for a person who pauses, short enough that a page with many functions does not keep a native socket for each.
const IDLE_TIMEOUT = 10_000;

// What JavaScript itself asks an object for: `await` for the first, conversions to text and JSON for the others.
const NO_METHODS = new Set(["then", "toString", "valueOf", "toJSON"]);

/** What is behind a function that `rpc` made. */
const behind = new WeakMap();

/** A place below which there are functions, and which may itself be one. Its sockets are shared by all that is made of it. */
class Place {
  #connection = null;
  #below = new Map();

  constructor(url, Socket, idleTimeout) {
    Object.assign(this, { url, Socket, idleTimeout });
  }

  get connection() {
    return (this.#connection ??= new Connection(this.url, this.Socket ?? globalThis.WebSocket, this.idleTimeout));
  }

  below(name) {
    let place = this.#below.get(name);
    if (place === undefined) {
      const url = new URL(this.url);
      url.pathname = `${url.pathname.replace(/\/$/, "")}/${encodeURIComponent(name)}`;
      this.#below.set(name, (place = new Place(url, this.Socket, this.idleTimeout)));
    }
    return place;
  }
}

/** A function to call and an object of such functions in one: the URL of a method is that of the object, a slash, and its name. */
function face(place, options) {
  const made = new Map();
  const call = async (...args) => place.connection.call(JSON.stringify(args), options);
  const proxy = new Proxy(call, {
    get(target, name) {
      if (typeof name === "symbol") return Reflect.get(target, name);
      if (name === "then") return undefined;
      if (NO_METHODS.has(name)) return Object.prototype[name];
      if (!made.has(name)) made.set(name, face(place.below(name), options));
      return made.get(name);
    },
    set() {
      throw new TypeError(`nothing can be assigned to what is on the server, ${place.url}`);
    },
  });
  behind.set(proxy, { place, options });
  return proxy;
}

/**
 * Makes a function of a URL, or an object of functions. With what it made earlier in place of the URL, it makes the same with
 * other options.
 *
 * @param {string | URL | Function} url relative to the page's base URL
 * @param {{ WebSocket?: typeof WebSocket, timeout?: number, signal?: AbortSignal, idleTimeout?: number }} [options]
 */
export function rpc(url, { WebSocket, idleTimeout = IDLE_TIMEOUT, ...options } = {}) {
  const earlier = behind.get(url);
  if (earlier !== undefined) return face(earlier.place, { ...earlier.options, ...options });
  const absolute = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  absolute.protocol = absolute.protocol.replace(/^http/, "ws");
  return face(new Place(absolute, WebSocket, idleTimeout), options);
}

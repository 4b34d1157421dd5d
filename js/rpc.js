// The entry "manysocket/rpc": functions of a server, over any WebSocket. docs/rpc.md has the protocol.
import { setDefault, socketClass, socketUrl } from "./default.js";
import { Connection } from "./rpc/connection.js";
import { RpcError } from "./rpc/error.js";

export { RpcError, setDefault };

// Long enough for a person's pause, short enough that a page with many functions does not keep a native socket for each.
const IDLE_TIMEOUT = 10_000;

// Names that other code reads of any object to recognise its kind: `await`, JSON, frameworks, matchers of tests. With names that a function has
// itself, such as `bind`, these are the names that no function of the server has.
const NO_METHOD = /^[_$@]|^(then|toJSON|prototype|nodeType|nodeName|tagName|asymmetricMatch|inspect)$/;

/** The state behind a function that `rpc` made. */
const behind = new WeakMap();

/** Places that are called over the same class, each once while the page holds it: two calls of `rpc` with one URL get one socket. */
class Scope {
  #places = new Map();
  #forget = new FinalizationRegistry((url) => this.#places.get(url)?.deref() ?? this.#places.delete(url));

  constructor(WebSocket, idleTimeout) {
    Object.assign(this, { WebSocket, idleTimeout });
  }

  at(url) {
    let place = this.#places.get(url.href)?.deref();
    if (place === undefined) {
      place = new Place(url, this);
      this.#places.set(url.href, new WeakRef(place));
      this.#forget.register(place, url.href);
    }
    return place;
  }
}

/** The scopes that all share, by their options. */
const scopes = [];

function scopeOf(WebSocket, idleTimeout) {
  let scope = scopes.find((scope) => scope.WebSocket === WebSocket && scope.idleTimeout === idleTimeout);
  if (scope === undefined) scopes.push((scope = new Scope(WebSocket, idleTimeout)));
  return scope;
}

/** A place below which there are functions, and which may itself be one. */
class Place {
  #connection = null;

  constructor(url, scope) {
    Object.assign(this, { url, scope });
  }

  get connection() {
    const { WebSocket, idleTimeout } = this.scope;
    return (this.#connection ??= new Connection(this.url, () => socketClass(WebSocket), idleTimeout));
  }

  below(name) {
    const url = new URL(this.url);
    url.pathname = `${url.pathname.replace(/\/$/, "")}/${encodeURIComponent(name.toWellFormed())}`;
    return this.scope.at(url);
  }
}

const isLocal = (target, name) => typeof name === "symbol" || name in target || NO_METHOD.test(name);

/** A function to call and an object of such functions in one: the URL of a method is that of the object, a slash, and its name. */
function face(place, options) {
  const made = new Map();
  const call = async (...args) => place.connection.call(JSON.stringify(args), options);
  const proxy = new Proxy(call, {
    get(target, name) {
      if (isLocal(target, name)) return Reflect.get(target, name);
      if (!made.has(name)) made.set(name, face(place.below(name), options));
      return made.get(name);
    },
    set(target, name, value) {
      // Frameworks mark objects that they have seen.
      if (isLocal(target, name)) return Reflect.set(target, name, value);
      throw new TypeError(`members of server functions are read-only: ${place.url}`);
    },
  });
  behind.set(proxy, { place, options });
  return proxy;
}

/**
 * Makes a function of a URL, or an object of functions. With an earlier result in place of the URL, it makes the same with
 * other options.
 *
 * @param {string | URL | Function} url relative to the page's base URL
 * @param {{ WebSocket?: typeof WebSocket, timeout?: number, signal?: AbortSignal, idleTimeout?: number, separate?: boolean }} [options]
 */
export function rpc(url, { WebSocket, idleTimeout = IDLE_TIMEOUT, separate = false, ...options } = {}) {
  const earlier = behind.get(url);
  if (earlier !== undefined) return face(earlier.place, { ...earlier.options, ...options });
  const scope = separate ? new Scope(WebSocket, idleTimeout) : scopeOf(WebSocket, idleTimeout);
  return face(scope.at(socketUrl(url)), options);
}

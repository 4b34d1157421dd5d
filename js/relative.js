// `RelativeWebSocket`: a class of sockets whose URLs may be relative, to any base.
//
// It is a proxy of the class below it. So that class makes the sockets, and they are its instances.
import { scalar } from "./utf8.js";
import { isInit, realmBase, toProtocols, webSocketUrl } from "./websocket.js";

/** Options of this class and of those over it. */
const OPTIONS = ["base", "reviver", "replacer"];

/**
 * Takes a constructor's arguments, `url, protocols?, options?` or `url, options`, apart. The second is the options if it has one of
 * their names; any other object is a subprotocol, as for a native socket.
 */
export function takeApart([, protocols, options]) {
  const isOptions = typeof protocols === "object" && protocols !== null && OPTIONS.some((name) => name in protocols);
  return isOptions ? [isInit(protocols) ? protocols : undefined, protocols] : [protocols, options ?? {}];
}

const parses = (url, base) => {
  try {
    return new URL(url, base) !== null;
  } catch {
    return false;
  }
};

/** As a base. A Blob's URL (of a worker, for example) has only an origin. */
function asBase(url, base) {
  if (!parses(url, base)) return url;
  const { href, protocol, origin } = new URL(url, base);
  return protocol === "blob:" && origin !== "null" ? origin : href;
}

/**
 * Makes a WebSocket's URL out of one that may be relative.
 *
 * @param {string} given
 * @param {string | URL | { url: string }} [base] itself relative to that of the realm, which is the default
 * @returns {URL}
 */
export function resolve(given, base) {
  let from = asBase(realmBase());
  if (base !== undefined) from = asBase(`${base?.url ?? base}`, from);
  if (parses("/", from)) return webSocketUrl(given, from);
  // An absolute URL needs none.
  if (parses(given)) return webSocketUrl(given);
  throw new DOMException(
    `Failed to construct 'WebSocket': The URL '${given}' is not absolute, and '${from}' cannot be the base of a relative one.`,
    "SyntaxError",
  );
}

/** Makes the class over another. */
export function defineRelative(WebSocket) {
  const RelativeWebSocket = new Proxy(WebSocket, {
    construct(target, args, newTarget) {
      // Without any, the class below throws the error.
      if (args.length === 0) return Reflect.construct(target, args, newTarget);
      // All arguments are converted (WebIDL) before any is looked at (WHATWG).
      const given = scalar(`${args[0]}`);
      const [protocols, { base }] = takeApart(args);
      const offered = isInit(protocols) ? protocols : toProtocols(protocols);
      return Reflect.construct(target, [resolve(given, base).href, offered], newTarget);
    },
    apply: (target, self, args) => Reflect.construct(RelativeWebSocket, args),
  });
  return RelativeWebSocket;
}

/** Over native sockets, even if a page replaces their class later. */
export const RelativeWebSocket = defineRelative(
  globalThis.WebSocket ??
    class WebSocket {
      constructor() {
        throw new TypeError("Failed to construct 'WebSocket': There was no WebSocket when this package was imported.");
      }
    },
);

// The face of a virtual socket: the `WebSocket` interface of the WHATWG standard, word for word.
import { Channel, CLOSED, CLOSING, CONNECTING, MAX_REASON, OPEN } from "./channel.js";
import { SUBPROTOCOL } from "./link.js";
import { scalar, utf8Length } from "./utf8.js";

const STATES = { CONNECTING, OPEN, CLOSING, CLOSED };

/** RFC 9110 §5.6.2, as RFC 6455 §4.1 asks of a subprotocol. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/**
 * Keeps the channel in a private field of an object that another constructor made. Unlike a WeakMap's,
 * its check that an object has one is as quick as reading a property.
 */
export class Stamp extends function (object) { return object; } {
  #channel;

  constructor(object, channel) {
    super(object);
    this.#channel = channel;
  }

  /** @returns {Channel} @throws {TypeError} for an object that is not a virtual socket */
  static channel(object) {
    return object.#channel;
  }
}

const channelOf = (object) => Stamp.channel(object);

/** The attributes and methods, as own properties of every `M.WebSocket.prototype`. */
const members = {
  get url() {
    return channelOf(this).url;
  },
  get readyState() {
    return channelOf(this).readyState;
  },
  get bufferedAmount() {
    return channelOf(this).bufferedAmount;
  },
  get extensions() {
    return channelOf(this).extensions;
  },
  get protocol() {
    return channelOf(this).protocol;
  },
  get binaryType() {
    return channelOf(this).binaryType;
  },
  set binaryType(value) {
    const channel = channelOf(this);
    const type = `${value}`;
    // WebIDL: a value that is not in an enumeration is ignored.
    if (type === "blob" || type === "arraybuffer") channel.binaryType = type;
  },
  close(code = undefined, reason = undefined) {
    const channel = channelOf(this);
    const closeCode = code === undefined ? 0 : clamp(code);
    let closeReason = reason === undefined ? "" : scalar(`${reason}`);
    if (code !== undefined && closeCode !== 1000 && !(closeCode >= 3000 && closeCode <= 4999)) {
      throw new DOMException(
        `Failed to execute 'close' on 'WebSocket': The close code must be either 1000, or between 3000 and 4999. ${closeCode} is neither.`,
        "InvalidAccessError",
      );
    }
    if (utf8Length(closeReason) > MAX_REASON) {
      throw new DOMException(
        `Failed to execute 'close' on 'WebSocket': The close reason must not be greater than ${MAX_REASON} UTF-8 bytes.`,
        "SyntaxError",
      );
    }
    // WHATWG: a reason without a code gets 1000.
    channel.close(closeCode === 0 && closeReason !== "" ? 1000 : closeCode, closeReason);
  },
  send(data) {
    const channel = channelOf(this);
    if (arguments.length === 0) {
      throw new TypeError("Failed to execute 'send' on 'WebSocket': 1 argument required, but only 0 present.");
    }
    const converted = toPayload(data);
    if (channel.readyState === CONNECTING) {
      throw new DOMException("Failed to execute 'send' on 'WebSocket': Still in CONNECTING state.", "InvalidStateError");
    }
    channel.send(converted);
  },
};

for (const type of ["open", "error", "close", "message"]) {
  Object.defineProperties(members, Object.getOwnPropertyDescriptors({
    get [`on${type}`]() {
      return channelOf(this).handlers.get(type)?.callback ?? null;
    },
    set [`on${type}`](value) {
      setHandler(this, channelOf(this).handlers, type, value);
    },
  }));
}

// The page may have replaced them, on the prototype or on the socket.
const { addEventListener, removeEventListener } = EventTarget.prototype;

/** HTML, "event handler attributes": the handler keeps its place among the listeners while it is not null. */
function setHandler(socket, handlers, type, value) {
  const callback = (typeof value === "object" || typeof value === "function") ? value : null;
  const handler = handlers.get(type);
  if (callback === null) {
    handlers.delete(type);
    if (handler) removeEventListener.call(socket, type, handler.listener);
  } else if (handler) {
    handler.callback = callback;
  } else {
    const added = { callback, listener: null };
    added.listener = function (event) {
      // An object, even one with `handleEvent`, is kept but not called.
      if (typeof added.callback === "function") Reflect.apply(added.callback, this, [event]);
    };
    handlers.set(type, added);
    addEventListener.call(socket, type, added.listener);
  }
}

/** WebIDL `[Clamp] unsigned short`: into the range, to the nearest integer, of two the even one. */
function clamp(value) {
  // A plus sign and not `Number()`, which would take a BigInt.
  const number = Math.min(Math.max(+value, 0), 0xffff) || 0;
  const floor = Math.floor(number);
  const up = number - floor > 0.5 || (number - floor === 0.5 && floor % 2 === 1);
  return up ? floor + 1 : floor;
}

// Buffers and Blobs of other realms, such as a frame's, are none of this realm's classes, but they pass the checks of its getters.
const getterOf = ({ prototype }, name) => Object.getOwnPropertyDescriptor(prototype, name).get;
const bufferLength = getterOf(ArrayBuffer, "byteLength");
const blobSize = getterOf(Blob, "size");

function passes(getter, object) {
  try {
    getter.call(object);
    return true;
  } catch {
    return false;
  }
}

/** WebIDL `(BufferSource or Blob or USVString)`, without [AllowShared] and [AllowResizable]. */
function toPayload(data) {
  if (typeof data !== "object" || data === null) return scalar(`${data}`);
  const isView = ArrayBuffer.isView(data);
  const buffer = isView ? data.buffer : data;
  const isBuffer = passes(bufferLength, buffer);
  // Shared memory's class is hidden from pages that are not isolated; WebAssembly gives them objects of it.
  if (isView || isBuffer || data[Symbol.toStringTag] === "SharedArrayBuffer") {
    if (!isBuffer || buffer.resizable) {
      throw new TypeError("Failed to execute 'send' on 'WebSocket': The buffer must be neither shared nor resizable.");
    }
    // A detached buffer has no bytes (WebIDL, "get a copy of the bytes held by the buffer source").
    if (data.byteLength === 0) return new Uint8Array(0);
    return isView ? new Uint8Array(buffer, data.byteOffset, data.byteLength) : new Uint8Array(buffer);
  }
  if (passes(blobSize, data)) return data instanceof Blob ? data : new Blob([data]);
  return scalar(`${data}`);
}

/** The base of relative URLs of this realm. */
export const realmBase = () => globalThis.document?.baseURI ?? globalThis.location?.href;

/** WHATWG, "obtain a WebSocket URL". @param {string} given */
export function webSocketUrl(given, base = realmBase()) {
  let url;
  try {
    url = new URL(given, base);
  } catch {
    throw new DOMException(`Failed to construct 'WebSocket': The URL '${given}' is invalid.`, "SyntaxError");
  }
  if (url.protocol === "http:") url.protocol = "ws:";
  else if (url.protocol === "https:") url.protocol = "wss:";
  if (url.protocol !== "ws:" && url.protocol !== "wss:") {
    throw new DOMException(
      `Failed to construct 'WebSocket': The URL's scheme must be either 'http', 'https', 'ws', or 'wss'. '${url.protocol.slice(0, -1)}' is not allowed.`,
      "SyntaxError",
    );
  }
  if (url.hash !== "" || url.href.endsWith("#")) {
    throw new DOMException(
      `Failed to construct 'WebSocket': The URL contains a fragment identifier ('${url.hash.slice(1)}'). Fragment identifiers are not allowed in WebSocket URLs.`,
      "SyntaxError",
    );
  }
  return url;
}

/** Headers that only browsers and proxies set; servers refuse them in an open (docs/protocol.md §4.1). */
const FORBIDDEN = /^(connection|content-length|cookie2?|date|expect|forwarded|host|http2-settings|keep-alive|origin|referer|set-cookie|te|trailer|transfer-encoding|upgrade|via|x-real-ip|(access-control|proxy|sec|x-forwarded)-.*)$/;

/** The lines of headers, which may be anything that `new Headers()` takes; those of `over` replace others of the same name. */
export function toLines(init, over = "") {
  const headers = new Headers(init);
  for (const line of over.split("\n")) if (line !== "") headers.set(...line.split(/: (.*)/, 2));
  return Array.from(headers, ([name, value]) => {
    if (!FORBIDDEN.test(name)) return `${name}: ${value}`;
    throw new DOMException(`Failed to construct 'WebSocket': The header '${name}' cannot be set.`, "SyntaxError");
  }).join("\n");
}

/** Whether an argument is, beyond the standard, an object with `protocols` or `headers`. Any other names subprotocols. */
export const isInit = (input) =>
  Object(input) === input && !(Symbol.iterator in input) && ("headers" in input || "protocols" in input);

/** WebIDL `(DOMString or sequence<DOMString>) protocols = []`. */
export function toProtocols(input) {
  if (input === undefined) return [];
  const method = Object(input) === input ? input[Symbol.iterator] : null;
  if (method === undefined || method === null) return [`${input}`];
  // WebIDL, "create a sequence from an iterable", asks for `next` once and closes no iterator.
  const iterator = Reflect.apply(method, input, []);
  const { next } = iterator;
  const steps = { next: () => Reflect.apply(next, iterator, []) };
  return Array.from({ [Symbol.iterator]: () => steps }, (protocol) => `${protocol}`);
}

function checkProtocols(protocols) {
  for (const protocol of protocols) {
    if (!TOKEN.test(protocol)) {
      throw new DOMException(`Failed to construct 'WebSocket': The subprotocol '${protocol}' is invalid.`, "SyntaxError");
    }
  }
  // RFC 6455 §4.1 (10): unique.
  const repeated = protocols.find((protocol, at) => protocols.indexOf(protocol) < at);
  if (repeated !== undefined) {
    throw new DOMException(`Failed to construct 'WebSocket': The subprotocol '${repeated}' is duplicated.`, "SyntaxError");
  }
}

/**
 * Makes a `WebSocket` class.
 *
 * @param {(channel: Channel, url: URL) => void} open
 * @param {typeof WebSocket} native
 */
export function defineWebSocket(open, native) {
  // A function and not a class: the founding text leaves `new` out.
  function WebSocket(url) {
    if (arguments.length === 0) {
      throw new TypeError("Failed to construct 'WebSocket': 1 argument required, but only 0 present.");
    }
    // All arguments are converted (WebIDL) before any is looked at (WHATWG).
    const given = scalar(`${url}`);
    const init = isInit(arguments[1]) ? arguments[1] : { protocols: arguments[1] };
    const protocols = toProtocols(init.protocols);
    const headers = init.headers === undefined ? "" : toLines(init.headers);
    const parsed = webSocketUrl(given);
    checkProtocols(protocols);
    // A link, dialled by another copy of this package after the page has replaced the global.
    if (protocols.includes(SUBPROTOCOL)) return new native(parsed, protocols);
    const socket = Reflect.construct(EventTarget, [], new.target ?? WebSocket);
    const channel = new Channel(socket, parsed, protocols, headers);
    new Stamp(socket, channel);
    open(channel, parsed);
    return socket;
  }
  return implement(WebSocket, "WebSocket");
}

/** In the order in which Chromium lists them; the constants and the methods follow. */
const ATTRIBUTES = "url,readyState,bufferedAmount,onopen,onerror,onclose,extensions,protocol,onmessage,binaryType".split(",");

/**
 * Gives a constructor the whole interface. Its objects bear a stamp.
 *
 * @param {string} name said here, because the source is minified
 * @param {object} [own] members that differ
 */
export function implement(Class, name, own = {}) {
  Object.defineProperty(Class, "name", { value: name });
  Object.setPrototypeOf(Class, EventTarget);
  const { prototype } = Class;
  Object.setPrototypeOf(prototype, EventTarget.prototype);
  const descriptors = Object.getOwnPropertyDescriptors(members);
  for (const name of ATTRIBUTES) Object.defineProperty(prototype, name, descriptors[name]);
  Object.defineProperty(prototype, Symbol.toStringTag, { value: "WebSocket", configurable: true });
  for (const [state, value] of Object.entries(STATES)) {
    for (const object of [Class, prototype]) Object.defineProperty(object, state, { value, enumerable: true });
  }
  // Those that are there keep their places.
  for (const source of [members, own]) Object.defineProperties(prototype, Object.getOwnPropertyDescriptors(source));
  Object.defineProperty(Class, "prototype", { writable: false });
  return Class;
}

// `JsonWebSocket`: a socket whose messages are values, as JSON, around another socket.
import { closeEvent, errorEvent, messageEvent } from "./events.js";
import { RelativeWebSocket, takeApart } from "./relative.js";
import { implement, Stamp } from "./websocket.js";

// The page may have replaced it.
const { dispatchEvent } = EventTarget.prototype;

/** The state behind the face of a JsonWebSocket, in place of a channel. */
class JsonChannel {
  /**
   * @param {EventTarget} socket the page's object
   * @param {WebSocket} inner the socket that carries the messages
   */
  constructor(socket, inner, { reviver, replacer }) {
    this.inner = inner;
    this.replacer = replacer;
    this.handlers = new Map();
    // These listeners keep the page's object alive for as long as it may fire events.
    const pass = (type, copy) => inner.addEventListener(type, (event) => dispatchEvent.call(socket, copy(event)));
    pass("open", () => new Event("open"));
    pass("message", (event) => read(event, reviver));
    pass("error", (event) => ("error" in event ? errorEvent(event) : new Event("error")));
    pass("close", closeEvent);
  }

  get url() {
    return this.inner.url;
  }
  get readyState() {
    return this.inner.readyState;
  }
  get bufferedAmount() {
    return this.inner.bufferedAmount;
  }
  get extensions() {
    return this.inner.extensions;
  }
  get protocol() {
    return this.inner.protocol;
  }
  get binaryType() {
    return this.inner.binaryType;
  }
  set binaryType(type) {
    this.inner.binaryType = type;
  }

  close(code, reason) {
    if (code === 0) this.inner.close();
    else this.inner.close(code, reason);
  }
}

/** Returns the event for a message. A message that is not JSON is an error event, and the socket stays open. */
function read({ data, origin }, reviver) {
  try {
    if (typeof data !== "string") throw new TypeError("it is binary");
    return messageEvent(JSON.parse(data, reviver), origin);
  } catch (error) {
    return errorEvent({ message: `A message cannot be read as JSON: ${error?.message ?? String(error)}`, error, data });
  }
}

const own = {
  send(value) {
    const { inner, replacer } = Stamp.channel(this);
    if (arguments.length === 0) {
      throw new TypeError("Failed to execute 'send' on 'WebSocket': 1 argument required, but only 0 present.");
    }
    const text = JSON.stringify(value, replacer);
    if (text === undefined) {
      throw new TypeError(`Failed to execute 'send' on 'WebSocket': The value, of type '${typeof value}', has no form in JSON.`);
    }
    inner.send(text);
  },
};

/** Makes the class. @param {typeof RelativeWebSocket} WebSocket makes a socket of a URL; one that exists is taken as it is */
export function defineJson(WebSocket) {
  function JsonWebSocket(url) {
    const inner = typeof url?.send === "function" ? url : Reflect.construct(WebSocket, arguments);
    const socket = Reflect.construct(EventTarget, [], new.target ?? JsonWebSocket);
    const [, options] = takeApart(arguments);
    new Stamp(socket, new JsonChannel(socket, inner, options));
    return socket;
  }
  return implement(JsonWebSocket, "JsonWebSocket", own);
}

/** Over native sockets. */
export const JsonWebSocket = defineJson(RelativeWebSocket);

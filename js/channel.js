// The state of one virtual socket, behind the face that the page sees (websocket.js).
import { closeEvent, messageEvent } from "./events.js";
import { enqueue } from "./delivery.js";
import { utf8Length } from "./utf8.js";

export const CONNECTING = 0;
export const OPEN = 1;
export const CLOSING = 2;
export const CLOSED = 3;

// Kinds of queued events. All go through one queue, in order.
export const EVENT_MESSAGE = 0;
export const EVENT_OPEN = 1;
export const EVENT_ERROR = 2;
export const EVENT_CLOSE = 3;

/** Bytes of a close reason (RFC 6455 §5.5): 125 less the code. */
export const MAX_REASON = 123;

/** RFC 6455 §7.4.1: no close frame came. */
export const ABNORMAL = { code: 1006, reason: "", wasClean: false };

// The page may have replaced them, on the prototype or on the socket.
const { dispatchEvent } = EventTarget.prototype;

export class Channel {
  /**
   * @param {string[]} offered the subprotocols
   * @param {string} headers of the open, a line each
   */
  constructor(socket, url, offered, headers) {
    this.socket = socket;
    this.url = url.href;
    this.origin = url.origin;
    this.target = url.pathname + url.search;
    this.offered = offered;
    this.headers = headers;
    this.readyState = CONNECTING;
    this.protocol = "";
    /** The extensions of a link belong to the link; a native socket in its place has its own. */
    this.extensions = "";
    this.binaryType = "blob";
    /** Event handler attributes by event type. */
    this.handlers = new Map();

    this.link = null;
    /** Whether the link's handshake was older than the channel. */
    this.isLater = false;
    /** The number on the link; meaningful while the link knows the channel. So is `key`, which is the link's affair. */
    this.number = 0;
    this.key = 0;
    /** Whether the server has accepted it; `readyState` follows in the task of the event. */
    this.accepted = false;
    /**
     * Whether its open may be repeated, once, over another link. Natively it has a separate connection, and does not fail with one that
     * others have used before it.
     */
    this.mayMove = true;
    /** Messages that wait for a Blob to be read, or for room on the link; null if none does. */
    this.waiting = null;
    /** Their bytes. */
    this.waitingBytes = 0;

    /** Bytes that were sent in vain, once closing had begun. They stay in `bufferedAmount`. */
    this.dropped = 0;
  }

  // ---- sending ----

  /** @param {string | Blob | Uint8Array} data a well-formed string, or bytes that the page may yet change */
  send(data) {
    if (this.readyState !== OPEN || this.link === null) {
      // Closing, or the connection has ended and its event is on its way.
      this.dropped += sizeOf(data);
    } else {
      this.queue(data);
    }
  }

  /** Passes a message to the link, behind those that wait. */
  queue(data) {
    const waits = this.waiting !== null;
    if (waits || data instanceof Blob) {
      this.waitingBytes += sizeOf(data);
      (this.waiting ??= []).push(data instanceof Uint8Array ? data.slice() : data);
      if (!waits) this.#sendWaiting();
    } else {
      const room = this.link.send(this, data);
      if (room === undefined) return;
      this.waiting = [];
      this.#sendWaiting(room);
    }
  }

  /** Sends the messages that wait, in order. @param {Promise<void>} [room] settles when the link takes more */
  async #sendWaiting(room) {
    const { waiting } = this;
    let sent = 0;
    const meanwhile = (promise) => {
      waiting.splice(0, sent);
      sent = 0;
      return promise;
    };
    while (true) {
      if (room !== undefined) await meanwhile(room);
      if (this.link === null) return;
      if (sent === waiting.length) break;
      let data = waiting[sent];
      const size = sizeOf(data);
      if (data instanceof Blob) {
        // A Blob whose file is gone cannot be read: native sockets fail then, too.
        data = await meanwhile(data.arrayBuffer().then((buffer) => new Uint8Array(buffer), () => null));
        if (this.link === null) return;
        if (data === null) return this.link.fail(this);
      }
      sent++;
      this.waitingBytes -= size;
      room = typeof data === "function" ? data() : this.link.send(this, data);
    }
    this.waiting = null;
  }

  close(code, reason) {
    if (this.readyState === CONNECTING) {
      // WHATWG, `close()`: fail the connection. The events come in a later task; they are already on
      // their way if the link is gone.
      this.readyState = CLOSING;
      this.link?.fail(this);
    } else if (this.readyState === OPEN) {
      this.readyState = CLOSING;
      this.finish(code, reason);
    }
  }

  /** Closes the channel behind the messages that wait. */
  finish(code, reason) {
    const close = () => this.link?.close(this, code, reason);
    if (this.waiting !== null) this.waiting.push(close);
    else close();
  }

  get bufferedAmount() {
    let amount = this.dropped + this.waitingBytes;
    if (this.link !== null) amount += this.link.buffered(this);
    return amount;
  }

  // ---- the link's calls ----

  /** The server accepted. */
  opened(protocol) {
    this.accepted = true;
    enqueue(this, EVENT_OPEN, protocol);
  }

  /** The connection failed: what native fires where none could be made, or it broke the protocol. */
  fail(unsent = 0) {
    enqueue(this, EVENT_ERROR, null);
    this.closed(ABNORMAL, unsent);
  }

  /** The connection ended, and `unsent` bytes had not left. No call of the link's follows. */
  closed(close, unsent) {
    this.link = null;
    this.dropped = this.bufferedAmount + unsent;
    this.waiting = null;
    this.waitingBytes = 0;
    enqueue(this, EVENT_CLOSE, close);
  }

  // ---- events ----

  /** Fires a queued event. @param {number} kind */
  deliver(kind, value) {
    switch (kind) {
      case EVENT_MESSAGE:
        this.link?.consumed(this, value.length);
        // WHATWG, "a WebSocket message has been received": only while OPEN.
        if (this.readyState === OPEN) this.#dispatch(messageEvent(value, this.origin, this.binaryType));
        break;
      case EVENT_OPEN:
        if (this.readyState !== CONNECTING) break;
        this.readyState = OPEN;
        this.protocol = value;
        this.#dispatch(new Event("open"));
        break;
      case EVENT_ERROR:
        this.readyState = CLOSED;
        this.#dispatch(new Event("error"));
        break;
      case EVENT_CLOSE:
        this.readyState = CLOSED;
        this.#dispatch(closeEvent(value));
        break;
    }
  }

  #dispatch(event) {
    dispatchEvent.call(this.socket, event);
  }
}

/** Bytes, as `bufferedAmount` counts them. */
function sizeOf(data) {
  if (typeof data === "string") return utf8Length(data);
  return data instanceof Blob ? data.size : (data.byteLength ?? 0);
}

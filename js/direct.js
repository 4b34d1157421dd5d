// A native socket in place of a link, for one channel: a URL that the multiplexer does not reach.
//
// The page's object stays a virtual one, fed by the native: so it is an instance of `M.WebSocket`, or of the page's class that
// extends it, and so a socket that waited for a multiplexer which is not there can go on as this.
import { EVENT_ERROR, EVENT_MESSAGE } from "./channel.js";
import { deliverLater, enqueue, receiveFrom } from "./delivery.js";
import { Bytes } from "./events.js";

export class Direct {
  #native;

  /**
   * Dials at once, and throws the exceptions of the native class.
   * @param {import("./channel.js").Channel} channel
   * @param {typeof WebSocket} Native
   * @param {() => void} [onopen]
   */
  constructor(channel, Native, onopen) {
    // A native handshake cannot carry headers, and without them the server would see another request.
    if (channel.headers !== "") {
      console.error(`WebSocket connection to '${channel.url}' failed: only sockets on a link have headers`);
      channel.fail();
      return deliverLater();
    }
    const native = new Native(channel.url, channel.offered);
    native.binaryType = "arraybuffer";
    this.#native = native;
    channel.link = this;
    // Once the channel has been given up, nothing that still comes is for it.
    const on = (type, act) => native.addEventListener(type, (event) => {
      if (channel.link !== this) return;
      act(event);
      deliverLater();
    });
    on("open", () => {
      onopen?.();
      channel.extensions = native.extensions;
      channel.opened(native.protocol);
    });
    on("error", () => enqueue(channel, EVENT_ERROR, null));
    on("close", (event) => channel.closed(event, native.bufferedAmount));
    receiveFrom(native, (data) => {
      if (channel.link !== this) return;
      enqueue(channel, EVENT_MESSAGE, typeof data === "string" ? data : new Bytes(data, 0, data.byteLength));
    });
  }

  /** Bytes that have not left. */
  buffered() {
    return this.#native.bufferedAmount;
  }

  /** @param {string | Uint8Array} data */
  send(_, data) {
    this.#native.send(data);
  }

  /** The native socket has no credit to give back. */
  consumed() {}

  close(_, code, reason) {
    if (code === 0) this.#native.close();
    else this.#native.close(code, reason);
  }

  /** Fails the channel: `error`, then `close` 1006. */
  fail(channel) {
    this.#native.close();
    channel.fail(this.#native.bufferedAmount);
    deliverLater();
  }
}

// In the place of the link of channels that wait for one: for the wasm, for headers, or for the URL.
import { deliverLater } from "./delivery.js";

export class Waiting {
  #channels = new Set();

  add(channel) {
    channel.link = this;
    this.#channels.add(channel);
  }

  /** Returns whether the channel has waited until now: it has not been closed meanwhile. */
  take(channel) {
    if (channel.link === this) channel.link = null;
    return this.#channels.delete(channel);
  }

  /** Nothing has been sent yet. */
  buffered() {
    return 0;
  }

  /** Fails a channel: `error`, then `close` 1006. */
  fail(channel) {
    this.take(channel);
    channel.fail();
    deliverLater();
  }

  /** Fails all of them. */
  end() {
    for (const channel of this.#channels) this.fail(channel);
  }
}

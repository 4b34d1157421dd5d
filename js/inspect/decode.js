// Decodes the messages of a link (docs/protocol.md) for people to look at, beside the decoder that does the work.

/** By number (docs/protocol.md §5). */
const KINDS = ["TEXT", "TEXT_PART", "BINARY", "BINARY_PART", "RAW", "RAW_PART", "OPEN", "ACCEPT", "REFUSE", "CLOSE", "GRANT", "LINK", "OPEN_WITH"];
const LINK_TYPES = ["HELLO", "PING", "PONG", "PATH", "COOKIES", , , , "ACK", "TOKEN", "RESUME", "RESUMED"];
/** Shorter binary messages are batches (§2.4). */
const LEAST_PAYLOAD = 4096;
/** The key of `window` in a HELLO (§3.1). */
const WINDOW = 2;

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * @typedef {object} Frame
 * @property {number} channel 0 for frames of the link
 * @property {string} kind as in docs/protocol.md §5; the name of its type in place of `LINK`; `PAYLOAD` and `PAYLOAD_PART` for
 *   the binary messages behind a RAW
 * @property {number} [units] of a message's piece
 * @property {string} [text] of a text, a target, a subprotocol, a reason, a path
 * @property {string} [protocols] that an OPEN offers
 * @property {string} [headers] of an OPEN_WITH, a line each
 * @property {number} [code] of CLOSE, or the status of REFUSE
 * @property {number} [credit] that a GRANT gives
 * @property {number} [window] of a HELLO
 */

/** Reads one direction of a link. */
export class Decoder {
  /** The header in force for payloads; null: none. */
  #raw = null;

  /**
   * @param {string | Uint8Array} data a physical message
   * @returns {{ form: "text" | "batch" | "payload", bytes: number, frames: Frame[] }}
   */
  decode(data) {
    if (typeof data === "string") return this.#text(data);
    if (this.#raw !== null && data.length >= LEAST_PAYLOAD) {
      const { channel, kind } = this.#raw;
      return { form: "payload", bytes: data.length, frames: [{ channel, kind: kind.replace("RAW", "PAYLOAD"), units: data.length }] };
    }
    return { form: "batch", bytes: data.length, frames: this.#batch(data) };
  }

  #text(data) {
    // A message without such a head ends the link.
    const [head, digits, sign] = /^(\d+)([:+])/.exec(data) ?? ["", "0", ":"];
    const text = data.slice(head.length);
    const kind = sign === ":" ? "TEXT" : "TEXT_PART";
    const bytes = head.length + new TextEncoder().encode(text).length;
    return { form: "text", bytes, frames: [{ channel: Number(digits), kind, units: text.length, text }] };
  }

  #batch(bytes) {
    const whole = new Reader(bytes);
    const [headersLength, textLength] = [whole.integer(), whole.integer()];
    const headers = new Reader(whole.take(headersLength));
    const text = decoder.decode(whole.take(textLength));
    let at = 0;
    const string = (units) => text.slice(at, (at += units));
    const frames = [];
    while (!headers.isAtEnd) frames.push(this.#frame(headers, string));
    return frames;
  }

  #frame(headers, string) {
    const tag = headers.integer();
    const [channel, kind] = [tag >>> 4, KINDS[tag & 15]];
    const frame = { channel, kind: kind ?? `unknown ${tag & 15}` };
    switch (kind) {
      case "TEXT":
      case "TEXT_PART":
        frame.units = headers.integer();
        frame.text = string(frame.units);
        break;
      case "BINARY":
      case "BINARY_PART":
        frame.units = headers.integer();
        break;
      case "RAW":
      case "RAW_PART":
        this.#raw = channel === 0 ? null : frame;
        break;
      case "OPEN":
      case "OPEN_WITH": {
        const [target, protocols, lines] = [headers.integer(), headers.integer(), kind === "OPEN" ? 0 : headers.integer()];
        frame.text = string(target);
        frame.protocols = string(protocols);
        if (lines > 0) frame.headers = string(lines);
        break;
      }
      case "ACCEPT":
        frame.text = string(headers.integer());
        break;
      case "REFUSE":
      case "CLOSE":
        frame.code = headers.integer();
        frame.text = string(headers.integer());
        // The header ends with its channel.
        if (this.#raw?.channel === channel) this.#raw = null;
        break;
      case "GRANT":
        frame.credit = headers.integer();
        break;
      case "LINK": {
        frame.kind = LINK_TYPES[channel] ?? `LINK ${channel}`;
        frame.channel = 0;
        const bytes = headers.take(headers.integer());
        if (frame.kind === "PATH") frame.text = decoder.decode(bytes);
        const body = new Reader(bytes);
        if (frame.kind === "COOKIES") frame.channel = body.integer();
        if (frame.kind !== "HELLO") break;
        while (!body.isAtEnd) {
          const [key, value] = [body.integer(), body.integer()];
          if (key === WINDOW) frame.window = value;
        }
      }
    }
    return frame;
  }
}

/** Takes integers (§2.1) and runs of bytes off the front. */
class Reader {
  #bytes;
  #at = 0;

  constructor(bytes) {
    this.#bytes = bytes;
  }

  get isAtEnd() {
    return this.#at >= this.#bytes.length;
  }

  integer() {
    let value = 0;
    let factor = 1;
    for (;;) {
      const byte = this.#bytes[this.#at++] ?? 0;
      value += (byte & 0x7f) * factor;
      factor *= 128;
      if (byte < 0x80) return value;
    }
  }

  take(length) {
    return this.#bytes.subarray(this.#at, (this.#at += length));
  }
}

/** The batch in the URL of a handshake (§3). @returns {Uint8Array | null} */
export function handshakeBatch(url) {
  const value = new URL(url).searchParams.get("manysocket");
  if (value === null) return null;
  const binary = atob(value.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

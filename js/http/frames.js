// Frames of RFC 6455 §5.2, as bytes: an HTTP carrier has them in the bodies of its requests and answers.

export const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
export const PING = 9;
export const PONG = 10;

/** Bytes of a message from which the server is not believed: each of its physical messages is shorter (docs/protocol.md §2.3). */
const LONGEST = 16 * 1024 * 1024;

/** Bytes of a client's frame before its payload. */
export const headLength = (length) => 6 + extendedLength(length);
const extendedLength = (length) => (length < 126 ? 0 : length < 65_536 ? 2 : 8);

/** A frame as a client sends it. The mask that it must have is 0: no cache of a proxy reads bodies of requests. */
export function frame(opcode, payload) {
  const { length } = payload;
  const extended = extendedLength(length);
  const bytes = new Uint8Array(6 + extended + length);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x80 | opcode;
  bytes[1] = 0x80 | (extended === 0 ? length : extended === 2 ? 126 : 127);
  if (extended === 2) view.setUint16(2, length);
  if (extended === 8) view.setUint32(6, length);
  bytes.set(payload, 6 + extended);
  return bytes;
}

/** Reads frames from bytes that come in any parts. */
export class Reader {
  #head = new Uint8Array(10);
  #headLength = 0;
  /** The payload of the frame that is coming, and how much of it is there; null between frames. */
  #payload = null;
  #filled = 0;
  /** The opcode and the payloads of a message in several frames. */
  #opcode = 0;
  #parts = [];

  /**
   * Takes the next bytes, and calls `found(opcode, payload)` for each message and each control frame, until that returns false.
   * @throws {Error} where they break RFC 6455
   */
  read(bytes, found) {
    let at = 0;
    while (at < bytes.length) {
      if (this.#payload === null) {
        this.#head[this.#headLength++] = bytes[at++];
        const length = this.#payloadLength();
        if (length === null) continue;
        const total = length + this.#parts.reduce((sum, part) => sum + part.length, 0);
        if (total > LONGEST) throw new Error("a message is too long");
        this.#payload = new Uint8Array(length);
        this.#filled = 0;
      }
      const part = bytes.subarray(at, at + this.#payload.length - this.#filled);
      this.#payload.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      if (this.#filled === this.#payload.length && this.#ended(found) === false) return;
    }
  }

  /** The length of the payload, once the head has it. */
  #payloadLength() {
    if (this.#headLength < 2) return null;
    const view = new DataView(this.#head.buffer);
    const short = this.#head[1];
    if (short > 127) throw new Error("a server masks no frames");
    if (short < 126) return short;
    const extended = short === 126 ? 2 : 8;
    if (this.#headLength < 2 + extended) return null;
    return extended === 2 ? view.getUint16(2) : view.getUint32(2) * 2 ** 32 + view.getUint32(6);
  }

  #ended(found) {
    const [first] = this.#head;
    const [opcode, isLast, payload] = [first & 15, first >= 128, this.#payload];
    this.#headLength = 0;
    this.#payload = null;
    if ((first & 0x70) !== 0) throw new Error("a frame has reserved bits");
    if (opcode >= CLOSE) {
      if (!isLast || payload.length > 125 || opcode > PONG) throw new Error("a control frame is long, in parts or of an unknown kind");
      return found(opcode, payload);
    }
    const isFirst = this.#parts.length === 0;
    if ((opcode === 0) === isFirst || opcode > BINARY) throw new Error("a frame is in the wrong place");
    if (isFirst) this.#opcode = opcode;
    if (isFirst && isLast) return found(opcode, payload);
    this.#parts.push(payload);
    if (!isLast) return true;
    const whole = joined(this.#parts);
    this.#parts = [];
    return found(this.#opcode, whole);
  }
}

/** Arrays of bytes as one. */
export function joined(parts) {
  if (parts.length === 1) return parts[0];
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

// Servers that speak the subprotocol and break its rules.
import { once } from "node:events";
import { WebSocketServer } from "ws";

/** docs/protocol.md §2.1. */
export function integer(value) {
  const bytes = [];
  for (; value > 0x7f; value = Math.floor(value / 128)) bytes.push((value % 128) | 0x80);
  return [...bytes, value];
}

const KINDS = { text: 0, textPart: 1, binary: 2, binaryPart: 3, raw: 4, rawPart: 5, open: 6, accept: 7, refuse: 8, close: 9, grant: 10, link: 11 };

/** Builds a batch (§2.3) frame by frame, correct or not. */
export class Batch {
  headers = [];
  padding = Buffer.alloc(0);
  texts = [];
  binaries = [];

  /** Adds a header: a kind by its name or number, and the integers after the tag. */
  frame(kind, channel, ...integers) {
    for (const value of [channel * 16 + (KINDS[kind] ?? kind), ...integers]) this.headers.push(...integer(value));
    return this;
  }

  /** Adds bytes to the text run, or to the binary run. */
  text(content) {
    this.texts.push(Buffer.from(content));
    return this;
  }
  binary(content) {
    this.binaries.push(Buffer.from(content));
    return this;
  }

  /** @param {[number, number][]} pairs keys and values (§3.1) */
  hello(...pairs) {
    const body = pairs.flat().flatMap(integer);
    this.frame("link", 0, body.length);
    this.headers.push(...body);
    return this;
  }
  /** Adds a LINK frame of an unknown type with the given length, which receivers skip. */
  unknown(length) {
    this.frame("link", 9, length);
    this.padding = Buffer.alloc(length);
    return this;
  }
  ping() {
    return this.frame("link", 1, 0);
  }
  accept(channel, protocol = "") {
    return this.frame("accept", channel, protocol.length).text(protocol);
  }
  refuse(channel, status, reason = "") {
    return this.frame("refuse", channel, status, reason.length).text(reason);
  }
  close(channel, code, reason = "") {
    return this.frame("close", channel, code, reason.length).text(reason);
  }
  say(channel, message, kind = "text") {
    return this.frame(kind, channel, message.length).text(message);
  }
  give(channel, message, kind = "binary") {
    return this.frame(kind, channel, message.length).binary(message);
  }

  /** Returns the batch, with the lengths that it claims. */
  toBuffer(headersLength = this.headers.length + this.padding.length, textLength = Buffer.concat(this.texts).length) {
    const lengths = Buffer.from([...integer(headersLength), ...integer(textLength)]);
    return Buffer.concat([lengths, Buffer.from(this.headers), this.padding, ...this.texts, ...this.binaries]);
  }
}

export const batch = () => new Batch();

/**
 * Starts a server that attacks each link as the test says.
 * @returns `url`; `failures`; `next(attack)`: calls `attack(wire)` for the next link; `stop()`
 */
export async function startHostile() {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1", handleProtocols: (offered) => [...offered][0], perMessageDeflate: false });
  await once(server, "listening");
  const attacks = [];
  const failures = [];
  server.on("connection", (socket, request) => {
    socket.on("error", () => {});
    Promise.resolve(attacks.shift()?.(new Wire(socket, request))).catch((error) => failures.push(error));
  });
  return {
    url: `ws://127.0.0.1:${server.address().port}`,
    next: (attack) => attacks.push(attack),
    /** Failures of the attacks themselves. */
    failures,
    async stop() {
      for (const socket of server.clients) socket.terminate();
      await new Promise((done) => server.close(done));
    },
  };
}

class Wire {
  /** Physical messages from the page that no attack has read. */
  received = [];

  constructor(socket, request) {
    this.socket = socket;
    this.request = request;
    this.ended = once(socket, "close");
    socket.on("message", (data, isBinary) => {
      this.received.push(isBinary ? data : data.toString());
      socket.emit("received");
    });
  }

  /** @param {Batch | Buffer | string} message @returns after the socket has accepted it */
  send(message) {
    return new Promise((done) => this.socket.send(message instanceof Batch ? message.toBuffer() : message, done));
  }

  /** Waits until the page has sent a message that `matches`, or is gone. */
  async until(matches) {
    while (this.socket.readyState === 1 && !this.received.some(matches)) {
      await Promise.race([once(this.socket, "received"), this.ended]);
    }
  }
}

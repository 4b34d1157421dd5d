// The frames of HTTP carriers (js/http/frames.js): the reader accepts all that RFC 6455 allows, cut anywhere, and refuses the rest.
import assert from "node:assert/strict";
import { test } from "node:test";
import { BINARY, CLOSE, PING, Reader, TEXT, frame, joined } from "../../js/http/frames.js";

/** A frame as a server sends it. */
function served(first, payload, form = null) {
  const { length } = payload;
  const short = form ?? (length < 126 ? 0 : length < 65_536 ? 2 : 8);
  const head = new Uint8Array(2 + short);
  const view = new DataView(head.buffer);
  head[0] = first;
  head[1] = short === 0 ? length : short === 2 ? 126 : 127;
  if (short === 2) view.setUint16(2, length);
  if (short === 8) view.setBigUint64(2, BigInt(length));
  return joined([head, payload]);
}

/** Reads bytes in parts of `size`. */
function read(bytes, size = bytes.length) {
  const found = [];
  const reader = new Reader();
  for (let at = 0; at < bytes.length; at += size) {
    reader.read(bytes.subarray(at, at + size), (opcode, payload) => void found.push([opcode, Buffer.from(payload).toString("latin1")]));
  }
  return found;
}

const bytes = (length) => new Uint8Array(length).fill(97);
const FIN = 0x80;

test("messages and control frames, in parts of each size", () => {
  const stream = joined([
    served(FIN | TEXT, bytes(0)),
    served(FIN | BINARY, bytes(125)),
    served(BINARY, bytes(3)),
    served(FIN | PING, bytes(4)),
    served(0, bytes(0)),
    served(FIN, bytes(126)),
    served(FIN | TEXT, bytes(5), 2),
    served(FIN | TEXT, bytes(70_000)),
    served(FIN | CLOSE, new Uint8Array([3, 232])),
  ]);
  const expected = [
    [TEXT, ""], [BINARY, "a".repeat(125)], [PING, "aaaa"], [BINARY, "a".repeat(129)], [TEXT, "aaaaa"], [TEXT, "a".repeat(70_000)], [CLOSE, "\u0003è"],
  ];
  for (const size of [1, 2, 3, 7, 128, 65_536, stream.length]) assert.deepEqual(read(stream, size), expected, `parts of ${size}`);
});

for (const [what, stream] of [
  ["a mask", new Uint8Array([FIN | TEXT, 0x80])],
  ["reserved bits", served(FIN | 0x40 | TEXT, bytes(1))],
  ["a reserved opcode", served(FIN | 3, bytes(1))],
  ["a reserved control opcode", served(FIN | 11, bytes(1))],
  ["a continuation of nothing", served(FIN, bytes(1))],
  ["a message inside a message", joined([served(TEXT, bytes(1)), served(TEXT, bytes(1))])],
  ["a control frame in parts", served(PING, bytes(1))],
  ["a long control frame", served(FIN | PING, bytes(126))],
  ["a message that is too long", new Uint8Array([FIN | BINARY, 127, 0, 0, 0, 1, 0, 0, 0, 0])],
  ["a message whose parts are too long", joined([served(BINARY, bytes(1)), new Uint8Array([0, 127, 0, 0, 0, 0, 1, 0, 0, 0])])],
]) {
  test(`it refuses ${what}`, () => assert.throws(() => read(stream), Error));
}

test("nothing is read once the receiver has enough", () => {
  const found = [];
  new Reader().read(joined([served(FIN | TEXT, bytes(1)), served(FIN | TEXT, bytes(2))]), (_, payload) => {
    found.push(payload.length);
    return false;
  });
  assert.deepEqual(found, [1]);
});

test("frames of a client are masked with 0, and have the shortest length", () => {
  assert.deepEqual([...frame(TEXT, bytes(1))], [FIN | TEXT, FIN | 1, 0, 0, 0, 0, 97]);
  assert.deepEqual([...frame(BINARY, bytes(126)).subarray(0, 9)], [FIN | BINARY, FIN | 126, 0, 126, 0, 0, 0, 0, 97]);
  assert.deepEqual([...frame(BINARY, bytes(65_536)).subarray(0, 15)], [FIN | BINARY, FIN | 127, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 97]);
});

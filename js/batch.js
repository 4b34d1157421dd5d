// A batch (docs/protocol.md §2.3): put together from the headers that wasm has written and the payloads that they are about,
// and taken apart again.
import { decode, encodeInto } from "./utf8.js";
import { core, memoryBytes, memoryWords } from "./wasm.js";

/** The lengths in front of a batch: two integers of at most five bytes. */
const PREFIX = 10;

/** Where batches are put together. Kept: `send()` copies out of it. */
let scratch = new Uint8Array(64 * 1024);

/** The batch that wasm has for a link, and the payloads in it. The bytes are good until the next one. */
export function joinBatch(link, payloads) {
  const at = core.wordsPointer(link) >>> 2;
  const texts = takeRun(payloads, at);
  const binaries = takeRun(payloads, at + 1 + 4 * texts.length);
  let text = "";
  let needed = PREFIX + core.headersLength(link);
  for (const piece of texts) text += piece.value;
  for (const piece of binaries) needed += piece.units;
  needed += 3 * text.length;
  if (scratch.length < needed) scratch = new Uint8Array(needed);

  const from = core.headersPointer(link);
  const headers = memoryBytes().subarray(from, from + core.headersLength(link));
  scratch.set(headers, PREFIX);
  let end = PREFIX + headers.length;
  const textBytes = text === "" ? 0 : encodeInto(text, scratch.subarray(end));
  end += textBytes;
  for (const piece of binaries) {
    scratch.set(piece.value, end);
    end += piece.units;
  }
  // The text's length in bytes is known only now: the prefix ends where the headers begin.
  const lengths = [...integer(headers.length), ...integer(textBytes)];
  const start = PREFIX - lengths.length;
  scratch.set(lengths, start);
  return { bytes: scratch.subarray(start, end), texts, binaries, ascii: textBytes === text.length };
}

/** The payloads of one of a batch's runs. */
function takeRun(payloads, at) {
  const count = memoryWords()[at];
  const pieces = [];
  for (let i = 0; i < count; i++) pieces.push(payloads.take(at + 1 + 4 * i));
  return pieces;
}

/** An integer as docs/protocol.md §2.1 has it. */
function integer(value) {
  const bytes = [];
  for (; value > 0x7f; value >>>= 7) bytes.push((value & 0x7f) | 0x80);
  bytes.push(value);
  return bytes;
}

/**
 * @param {Uint8Array} bytes a batch
 * @returns {[headers: Uint8Array | null, text: string | null, binaryAt: number]} where it is none: null, null and the number of
 *   the rule that it breaks (docs/protocol.md §9)
 */
export function splitBatch(bytes) {
  let at = 0;
  const lengths = [0, 0];
  for (let i = 0; i < 2; i++) {
    let shift = 0;
    let byte;
    do {
      byte = bytes[at++] ?? 0;
      lengths[i] += (byte & 0x7f) * 2 ** shift;
      shift += 7;
    } while (byte > 0x7f && shift < 35);
    // No integer has a sixth byte.
    if (byte > 0x7f) return [null, null, 8];
  }
  const textAt = at + lengths[0];
  const binaryAt = textAt + lengths[1];
  if (binaryAt > bytes.length) return [null, null, 8];
  const text = lengths[1] === 0 ? "" : decode(bytes.subarray(textAt, binaryAt));
  return text === null ? [null, null, 38] : [bytes.subarray(at, textAt), text, binaryAt];
}

// The wasm as text, back into bytes: see xtask/src/inline.rs for why it is neither Base64 nor in the order of its bytes.

/** A byte below this needs one character. */
const SINGLES = 89;

/**
 * What follows an opcode, up to 0x44. `b`: the type of a block; `e`: nothing, and it ends a block; `p`: a label or the index of a global
 * variable; `t`: a table of labels; `l`: a local variable; `i` and `j`: one or two constants or indexes; `f`: an `f64`; a digit: the
 * natural alignment of a load or store, as an exponent of two, and its offset.
 */
const SHAPES = "..bbb......eppt.ij..........j...lllppii.23230011001122222301012iiii.f";

/** @param {string} text */
function toBytes(text) {
  const bytes = new Uint8Array(text.length);
  let length = 0;
  let high = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    // From "#" on, without the backslash.
    const digit = code - (code > 92 ? 36 : 35);
    if (digit < SINGLES) {
      bytes[length++] = high + digit;
      high = 0;
    } else {
      high = SINGLES * (digit - SINGLES + 1);
    }
  }
  return bytes.subarray(0, length);
}

/** Puts a module together again. @param {string[]} texts its contents by kind @returns {Uint8Array} */
export function toModule(texts) {
  const [before, after, ...kinds] = texts.map(toBytes);
  const [LOCALS, DECLARATIONS, PLACES, OFFSETS, OPCODES] = kinds.keys();
  const positions = kinds.map(() => 0);
  // Long enough, although alignments are not among the contents.
  const bytes = new Uint8Array(2 * texts.join("").length);
  let length = 0;
  const unused = Uint8Array.from({ length: 256 }, (_, local) => local);

  const moveByte = (kind) => (bytes[length++] = kinds[kind][positions[kind]++]);
  /** Appends an integer in LEB128. Returns its value without a sign. */
  const move = (kind) => {
    let value = 0;
    let shift = 0;
    let byte;
    do {
      byte = moveByte(kind);
      value |= (byte & 127) << shift;
      shift += 7;
    } while (byte > 127);
    return value;
  };
  const put = (number) => {
    for (; number > 127; number >>= 7) bytes[length++] = (number & 127) | 128;
    bytes[length++] = number;
  };
  /** Puts the length of what `act` appends in front of it. */
  const measure = (act) => {
    const start = length;
    length += 5;
    act();
    const end = length;
    length = start;
    put(end - start - 5);
    bytes.copyWithin(length, start + 5, end);
    length += end - start - 5;
  };

  const functionBody = () => {
    // A count and a type each.
    for (let groups = 2 * move(DECLARATIONS); groups > 0; groups--) move(DECLARATIONS);
    // Local variables, the last used first.
    const recent = unused.slice();
    for (let depth = 1; depth > 0;) {
      const opcode = moveByte(OPCODES);
      const shape = SHAPES[opcode];
      let places = 0;
      let others = 0;
      if (shape === "l") {
        const start = length;
        const rank = move(LOCALS);
        const local = recent[rank];
        recent.copyWithin(1, 0, rank);
        recent[0] = local;
        length = start;
        put(local);
      } else if (shape === "i" || opcode === 0xd0 || opcode === 0xd2) {
        others = 1;
      } else if (opcode === 0xfc) {
        const operation = move(OPCODES);
        others = operation > 15 ? 1 : operation > 7 ? 2 - (operation % 2) : 0;
      } else if (opcode > 0x44) {
        // Comparisons and arithmetic: nothing follows.
      } else if (opcode >= 0x28 && opcode <= 0x3e) {
        bytes[length++] = shape;
        move(OFFSETS);
      } else if (shape === "e") {
        depth--;
      } else if (shape === "b") {
        depth++;
        places = 1;
      } else if (shape === "p") {
        places = 1;
      } else if (shape === "j") {
        others = 2;
      } else if (shape === "t") {
        places = move(PLACES) + 1;
      } else if (shape === "f") {
        for (let left = 8; left > 0; left--) moveByte(OPCODES);
      }
      for (; places > 0; places--) move(PLACES);
      for (; others > 0; others--) move(OPCODES);
    }
  };
  const copy = (section) => {
    bytes.set(section, length);
    length += section.length;
  };

  copy(before);
  bytes[length++] = 10;
  measure(() => {
    for (let functions = move(DECLARATIONS); functions > 0; functions--) measure(functionBody);
  });
  copy(after);
  return bytes.subarray(0, length);
}

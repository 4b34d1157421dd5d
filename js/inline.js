// The wasm as text, back into bytes: see xtask/src/inline.rs for why it is not Base64.

/** A byte below this needs one character. */
const SINGLES = 89;

/** @param {string} text @returns {Uint8Array} */
export function toBytes(text) {
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

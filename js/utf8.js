// Text as UTF-8.

// Made when they are first needed: an environment of tests may have none, and imports this all the same.
let encoder;
let decoder;

/** Writes `text` to `target`, which is long enough; gives the bytes written. */
export const encodeInto = (text, target) => (encoder ??= new TextEncoder()).encodeInto(text, target).written;

/** Decodes a whole text run at once, ten times cheaper than message by message; null if it is not UTF-8. */
export function decode(bytes) {
  // `ignoreBOM`: a U+FEFF at the start of a message belongs to it.
  decoder ??= new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });
  try {
    return decoder.decode(bytes);
  } catch {
    return null;
  }
}

/** A scalar value string (WebIDL USVString): lone surrogates become U+FFFD. */
export const scalar = (text) => (text.isWellFormed() ? text : text.toWellFormed());

/** The bytes that `text`, well-formed, has in UTF-8. */
export function utf8Length(text) {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    // A pair is four bytes: two for each half.
    if (unit > 0x7f) bytes += unit > 0x7ff && (unit < 0xd800 || unit > 0xdfff) ? 2 : 1;
  }
  return bytes;
}

/** Whether a surrogate pair lies across `at`. */
export const isPair = (text, at) => text.codePointAt(at - 1) > 0xffff;

// When an open that was refused is tried again over a new link: cookies are those of a link's handshake, and the page may have logged in
// since.

/** The least time between two links that are dialled for this, in milliseconds. Natively, each such open is a handshake. */
const INTERVAL = 1000;

export class Renewal {
  #next = 0;

  /** Whether a link may be left for another one now. */
  begins() {
    const now = performance.now();
    if (now < this.#next) return false;
    this.#next = now + INTERVAL;
    return true;
  }
}

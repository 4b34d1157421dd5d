// Counts times in classes, so that percentiles of millions cost little memory and no sorting.

// The resolution in milliseconds: finer than any browser's clock.
const LEAST = 2 ** -8;

// Classes for each doubling: a percentile is overstated by 4.4 % at most.
const CLASSES = 16;

// Up to 2 ** 20 ms, a quarter of an hour.
const COUNT = 28 * CLASSES;

export class Histogram {
  #counts = new Uint32Array(COUNT);
  #total = 0;

  get total() {
    return this.#total;
  }

  add(ms) {
    const at = Math.ceil(Math.log2(ms / LEAST) * CLASSES);
    this.#counts[Math.min(Math.max(at, 0), COUNT - 1)]++;
    this.#total++;
  }

  /** The time that so great a share is within, in milliseconds; null if there is none. */
  percentile(share) {
    if (this.#total === 0) return null;
    let rest = Math.ceil(this.#total * share);
    const at = this.#counts.findIndex((count) => (rest -= count) <= 0);
    return LEAST * 2 ** (at / CLASSES);
  }

  clear() {
    this.#counts.fill(0);
    this.#total = 0;
  }
}

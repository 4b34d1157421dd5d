// One cell for each socket: empty until it is open, then tinted, and the brighter the more messages it gets.
import { FAILED, OPEN } from "./run.js";

// How long a message is remembered, in milliseconds: long enough to see one, short enough to see a pause.
const GLOW = 150;

// Messages within that time that light a cell fully. The scale is logarithmic: a single one already shows.
const FULL = 128;

// A cell's largest side in CSS pixels, so that a few sockets do not fill the panel.
const LARGEST = 40;

export class Cells {
  #canvas;
  #run = null;
  #count = 0;
  /** The messages of each socket at the last drawing, and the brightness of its cell since. */
  #seen;
  #glow;
  #drawnAt = 0;

  constructor(canvas) {
    this.#canvas = canvas;
  }

  /** Shows another run, or the given number of empty cells. */
  show(run, count) {
    this.#run = run;
    this.#count = count;
    this.#seen = new Uint32Array(count);
    this.#glow = new Float64Array(count);
  }

  /** Draws all cells: a thousand take 0.3 ms on one canvas, and ten times that as elements. */
  draw() {
    const { context, width, height } = this.#prepare();
    const side = cellSide(this.#count, width, height);
    const columns = Math.floor(width / side);
    const size = side - (side > 10 ? 2 : 1);
    // As properties of the canvas, custom colours arrive resolved.
    const { color: accent, borderTopColor: empty, outlineColor: bad } = getComputedStyle(this.#canvas);
    const now = performance.now();
    const fading = Math.exp((this.#drawnAt - now) / GLOW);
    this.#drawnAt = now;
    for (let i = 0; i < this.#count; i++) {
      const [x, y] = [(i % columns) * side, Math.floor(i / columns) * side];
      const state = this.#run?.states[i];
      const isOpen = state === OPEN;
      context.fillStyle = isOpen ? accent : empty;
      context.globalAlpha = isOpen ? 0.35 + 0.65 * this.#brightness(i, fading) : 1;
      context.fillRect(x, y, size, size);
      if (state === FAILED) {
        // Smaller too, for people who do not see the colour.
        context.fillStyle = bad;
        context.fillRect(x + size / 4, y + size / 4, size / 2, size / 2);
      }
    }
  }

  /** From 0 for a quiet socket to 1 for a busy one. */
  #brightness(i, fading) {
    const received = this.#run.received[i];
    this.#glow[i] = this.#glow[i] * fading + received - this.#seen[i];
    this.#seen[i] = received;
    return Math.min(1, Math.log(1 + this.#glow[i]) / Math.log(1 + FULL));
  }

  /** Fits the canvas to its place on the page, in the screen's own pixels. */
  #prepare() {
    const canvas = this.#canvas;
    const [width, height, scale] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio];
    const [across, down] = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== across) canvas.width = across;
    if (canvas.height !== down) canvas.height = down;
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    return { context, width, height };
  }
}

/** Returns the largest side with which the given number of squares fits. */
function cellSide(count, width, height) {
  let side = LARGEST;
  while (side > 3 && Math.floor(width / side) * Math.floor(height / side) < count) side--;
  return side;
}

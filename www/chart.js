// A live chart: the last seconds of one value, as a line over a filled area.

/** Points that a chart shows: fifteen seconds of four a second. */
const POINTS = 61;

export class Chart {
  #points = [];
  #caption;
  #area;
  #line;

  /** @param {Element} figure with a caption and an empty `<svg>` */
  constructor(figure) {
    this.#caption = figure.querySelector("figcaption").appendChild(document.createElement("span"));
    const svg = figure.querySelector("svg");
    svg.setAttribute("viewBox", `0 0 ${POINTS - 1} 100`);
    [this.#area, this.#line] = ["area", "line"].map((name) => {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("class", name);
      return svg.appendChild(path);
    });
  }

  /** The highest value that it shows. */
  get most() {
    return Math.max(0, ...this.#points);
  }

  clear() {
    this.#points = [];
  }

  add(value) {
    this.#points.push(value);
    if (this.#points.length > POINTS) this.#points.shift();
  }

  /** Draws on a scale that ends at `top`, so that two charts can share one. */
  draw(top, caption) {
    const height = (value) => (100 - (96 * value) / Math.max(top, 1)).toFixed(1);
    const line = this.#points.map((value, x) => `${x} ${height(value)}`).join(" L");
    this.#line.setAttribute("d", line && `M${line}`);
    this.#area.setAttribute("d", line && `M0 100 L${line} L${this.#points.length - 1} 100 Z`);
    this.#caption.textContent = this.#points.length > 0 ? caption : "";
  }
}

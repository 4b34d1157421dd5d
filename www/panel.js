// One contestant's panel: cells, counters and two charts, drawn from its `Run`.
import { FAILED, OPEN } from "./run.js";

/** Seconds that a chart shows, and how often it gets a point. */
const SPAN = 15;
const STEP = 0.25;

// How long a cell stays lit, in milliseconds.
const GLOW = 350;

const COUNTERS = ["open", "failed", "opening time", "physical connections", "messages/s", "echoes", "errors", "round trip"];

const number = new Intl.NumberFormat("en");
const rounded = (value) => number.format(value < 10 ? Math.round(value * 10) / 10 : Math.round(value));

export class Panel {
  constructor(element) {
    this.element = element;
    this.canvas = element.querySelector("canvas");
    this.values = COUNTERS.map((name) => {
      const pair = document.createElement("div");
      pair.append(Object.assign(document.createElement("dt"), { textContent: name }));
      const value = Object.assign(document.createElement("dd"), { textContent: "–" });
      pair.append(value);
      element.querySelector("dl").append(pair);
      return value;
    });
    this.rate = new Chart(element.querySelector(".rate"));
    this.opened = new Chart(element.querySelector(".opened"));
    this.reset(null);
  }

  /** Shows another run from the beginning. */
  reset(run) {
    this.run = run;
    this.physical = null;
    this.echoedBefore = 0;
    this.perSecond = 0;
    this.rate.clear();
    this.opened.clear();
    this.drawCells();
    this.drawCounters();
  }

  /** Called every quarter of a second. */
  tick() {
    if (this.run === null) return;
    const { echoed, opened } = this.run;
    this.perSecond = (echoed - this.echoedBefore) / STEP;
    this.echoedBefore = echoed;
    this.rate.add(this.perSecond);
    this.opened.add(opened);
    this.drawCounters();
  }

  drawCounters() {
    const { run } = this;
    const texts = run === null ? COUNTERS.map(() => "–") : [
      `${number.format(run.opened)} of ${number.format(run.count)}`,
      number.format(run.failed),
      run.openMs === null ? "…" : `${rounded(run.openMs)} ms`,
      this.physical === null ? "–" : number.format(this.physical),
      rounded(this.perSecond),
      number.format(run.echoed),
      number.format(run.mismatches),
      run.median === null ? "–" : `${rounded(run.median)} ms`,
    ];
    this.values.forEach((value, i) => {
      if (value.textContent !== texts[i]) value.textContent = texts[i];
    });
    this.values[1].classList.toggle("bad", run !== null && run.failed > 0);
    this.values[6].classList.toggle("bad", run !== null && run.mismatches > 0);
  }

  /** Draws all cells: a thousand take 0.3 ms on one canvas, and ten times that as elements. */
  drawCells() {
    const { canvas, run } = this;
    const scale = devicePixelRatio;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
    if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const count = run?.count ?? 0;
    if (count === 0) return;
    const side = cellSide(count, width, height);
    const columns = Math.floor(width / side);
    const gap = side > 8 ? 2 : 1;
    // As properties of the canvas, custom colours arrive resolved.
    const { color: accent, borderTopColor: empty, outlineColor: bad } = getComputedStyle(canvas);
    const now = performance.now();
    for (let i = 0; i < count; i++) {
      const [x, y] = [(i % columns) * side, Math.floor(i / columns) * side];
      const rect = () => context.fillRect(x, y, side - gap, side - gap);
      context.globalAlpha = 1;
      context.fillStyle = empty;
      rect();
      const state = run.states[i];
      if (state === OPEN) {
        // Open cells are tinted, lit ones glow and fade.
        context.fillStyle = accent;
        context.globalAlpha = 0.3 + 0.7 * Math.max(0, 1 - (now - run.lit[i]) / GLOW);
        rect();
      } else if (state === FAILED) {
        context.fillStyle = bad;
        rect();
      }
    }
    context.globalAlpha = 1;
  }
}

/** The largest side with which so many squares fit. */
function cellSide(count, width, height) {
  let side = Math.min(28, Math.floor(Math.sqrt((width * height) / count)));
  while (side > 3 && Math.floor(width / side) * Math.floor(height / side) < count) side--;
  return Math.max(side, 3);
}

/** The last seconds of a value, as a line over its own maximum. */
class Chart {
  constructor(svg) {
    this.svg = svg;
    this.caption = svg.parentElement.querySelector("figcaption").appendChild(document.createElement("span"));
    this.points = [];
    for (const name of ["area", "line"]) {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("class", name);
      svg.append(path);
    }
    svg.setAttribute("viewBox", `0 0 ${SPAN / STEP} 100`);
  }

  clear() {
    this.points = [];
    this.draw();
  }

  add(value) {
    this.points.push(value);
    if (this.points.length > SPAN / STEP + 1) this.points.shift();
    this.draw();
  }

  draw() {
    const top = Math.max(1, ...this.points);
    const line = this.points.map((value, x) => `${x} ${(100 - (95 * value) / top).toFixed(1)}`).join(" L");
    const [area, stroke] = this.svg.children;
    stroke.setAttribute("d", line && `M${line}`);
    area.setAttribute("d", line && `M0 100 L${line} L${this.points.length - 1} 100 Z`);
    this.caption.textContent = this.points.length > 0 ? `most ${rounded(top)}` : "";
  }
}

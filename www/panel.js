// One contestant's panel: cells, counters and two charts, drawn from its `Run`.
import { Cells } from "./cells.js";
import { Chart } from "./chart.js";
import { grouped, milliseconds, orDash, rounded } from "./format.js";

/** Seconds between two points of a chart. */
export const STEP = 0.25;

/** The counts of a panel, in the order of display. */
const COUNTERS = {
  open: ({ run }) => `${grouped(run.opened)} of ${grouped(run.count)}`,
  "opening took": ({ run }) => orDash(run.openMs, milliseconds),
  "messages/s": ({ perSecond }) => orDash(perSecond, rounded),
  connections: ({ physical }) => orDash(physical, grouped),
  failed: ({ run }) => grouped(run.failed),
  "echoes checked": ({ run }) => grouped(run.echoed),
  "wrong echoes": ({ run }) => grouped(run.mismatches),
  "median round trip": ({ run }) => orDash(run.median, milliseconds),
};

export class Panel {
  #values = {};
  #echoedBefore = 0;
  #rateNow = null;

  constructor(element) {
    this.element = element;
    this.cells = new Cells(element.querySelector("canvas"));
    this.rate = new Chart(element.querySelector(".rate"));
    this.opened = new Chart(element.querySelector(".opened"));
    for (const name of Object.keys(COUNTERS)) {
      const pair = document.createElement("div");
      const value = document.createElement("dd");
      pair.append(Object.assign(document.createElement("dt"), { textContent: name }), value);
      element.querySelector("dl").append(pair);
      this.#values[name] = value;
    }
    this.run = null;
    /** Connections of this kind, as the server counts them; null if it is not known. */
    this.physical = null;
  }

  /** Shows the current rate while it sends, and the result of the burst afterwards. */
  get perSecond() {
    return this.run.active ? this.#rateNow : this.run.perSecond;
  }

  /** Whether the panel has sockets that the page has not closed. */
  get isInUse() {
    return this.run !== null && !this.run.ended;
  }

  /** Shows another run from the beginning, or the given number of empty cells. */
  show(run, count) {
    this.run = run;
    this.physical = null;
    this.#echoedBefore = 0;
    this.#rateNow = null;
    this.rate.clear();
    this.opened.clear();
    this.cells.show(run, count);
    this.drawCounters();
  }

  /** Gives the charts a point. They stand still while nothing is done, so that a result stays to be seen. */
  tick() {
    if (!this.run?.active) return;
    const { echoed, opened } = this.run;
    this.#rateNow = (echoed - this.#echoedBefore) / STEP;
    this.#echoedBefore = echoed;
    this.rate.add(this.#rateNow);
    this.opened.add(opened);
  }

  /** @param {{ rate: number, opened: number }} tops where the charts' scales end */
  drawCharts(tops) {
    this.rate.draw(tops.rate, rounded(this.rate.most));
    this.opened.draw(tops.opened, rounded(this.opened.most));
  }

  drawCounters() {
    for (const [name, text] of Object.entries(COUNTERS)) {
      const shown = this.run === null ? "–" : text(this);
      if (this.#values[name].textContent !== shown) this.#values[name].textContent = shown;
    }
    this.#values.failed.classList.toggle("bad", this.run?.failed > 0);
    this.#values["wrong echoes"].classList.toggle("bad", this.run?.mismatches > 0);
  }
}

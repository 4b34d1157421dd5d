// One contestant's panel on the load-test page: counters and charts.
import { Chart } from "./chart.js";
import { grouped, milliseconds, orDash, rounded } from "./format.js";

/** The charts, each with the name of its value in a sample. */
const CHARTS = {
  opened: "open",
  perSecond: "messages/s",
  median: "median, ms",
  p99: "99 %, ms",
  memory: "memory, MB",
};

/** The counts, in the order of display. */
const COUNTERS = {
  open: ({ opened, sockets }) => `${grouped(opened)} of ${grouped(sockets)}`,
  "opening took": ({ openMs }) => orDash(openMs, milliseconds),
  "messages/s": ({ perSecond }) => orDash(perSecond, rounded),
  connections: ({ connections }) => orDash(connections, grouped),
  "median round trip": ({ median }) => orDash(median, milliseconds),
  "99 % within": ({ p99 }) => orDash(p99, milliseconds),
  "each way": ({ bytesPerSecond }) => orDash(bytesPerSecond, (bytes) => `${rounded(bytes / 1e6)} MB/s`),
  "wrong or lost": ({ wrong, lost }) => grouped(wrong + lost),
};

export class LoadPanel {
  #values = {};
  #charts = {};
  /** The samples in order; `seconds` since the test began to open sockets. */
  series = [];

  constructor(element) {
    this.element = element;
    const list = element.appendChild(document.createElement("dl"));
    for (const name of Object.keys(COUNTERS)) {
      const pair = list.appendChild(document.createElement("div"));
      pair.append(Object.assign(document.createElement("dt"), { textContent: name }));
      this.#values[name] = pair.appendChild(document.createElement("dd"));
    }
    for (const [name, title] of Object.entries(CHARTS)) {
      const figure = element.appendChild(document.createElement("figure"));
      figure.innerHTML = `<figcaption>${title}</figcaption><svg preserveAspectRatio="none" aria-hidden="true"></svg>`;
      this.#charts[name] = new Chart(figure);
    }
    this.clear();
  }

  clear() {
    this.series = [];
    for (const chart of Object.values(this.#charts)) chart.clear();
    for (const value of Object.values(this.#values)) value.textContent = "–";
  }

  /** Shows a sample on the charts. Unknown values count as 0. */
  add(sample) {
    this.series.push(sample);
    for (const [name, chart] of Object.entries(this.#charts)) {
      chart.add((name === "memory" ? sample.memory / 1e6 : sample[name]) ?? 0);
    }
  }

  count(result) {
    for (const [name, text] of Object.entries(COUNTERS)) this.#values[name].textContent = text(result);
    this.#values.open.classList.toggle("bad", result.failed > 0);
    this.#values["wrong or lost"].classList.toggle("bad", result.wrong + result.lost > 0);
  }

  /** Draws the charts of all panels, each kind on one scale, so that heights are comparable. */
  static draw(panels) {
    for (const name of Object.keys(CHARTS)) {
      const charts = panels.map((panel) => panel.#charts[name]);
      const top = Math.max(...charts.map(({ most }) => most));
      for (const chart of charts) chart.draw(top, chart.most > 0 ? rounded(chart.most) : "");
    }
  }
}

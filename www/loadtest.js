// The load test's page: a form, a panel for each contestant, and what they measured as JSON.
//
// Tests reach it as `loadtest.run({ which: ["native", "virtual"], sockets, size, rate, seconds })`, which gives the results.
import { MultiWebSocket } from "./pkg/index.js";
import { Chart } from "./chart.js";
import { Load } from "./load.js";

/** How often the charts go on: as in the demo, four times a second. */
const STEP = 250;

const M = new MultiWebSocket("/multiplexer");
const url = `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/demo/echo`;
const element = (id) => document.getElementById(id);
const [form, status] = [element("load"), element("status")];

class Panel {
  constructor(id, name, WebSocket) {
    this.name = name;
    this.WebSocket = WebSocket;
    this.panel = element(id);
    this.rate = new Chart(this.panel.querySelector(".rate"));
    this.latency = new Chart(this.panel.querySelector(".latency"));
    this.show(null);
  }

  show(load) {
    const number = (value, digits = 0) => (value === null || value === undefined ? "–" : value.toLocaleString("en", { maximumFractionDigits: digits }));
    const rows = [
      ["open", load ? `${number(load.opened)} of ${number(load.options.sockets)}${load.failed > 0 ? `, ${number(load.failed)} failed` : ""}` : "–"],
      ["opened in", load?.openMs ? `${number(load.openMs, 1)} ms` : "–"],
      ["messages/s", number(load?.perSecond)],
      ["round trip p50, p99", load && load.percentile(0.5) !== null ? `${number(load.percentile(0.5), 2)}, ${number(load.percentile(0.99), 2)} ms` : "–"],
      ["page's memory", heap() === null ? "not told" : `${number(heap() / 1e6, 1)} MB`],
    ];
    this.panel.querySelector("dl").replaceChildren(...rows.map(([term, value]) => {
      const row = document.createElement("div");
      row.append(Object.assign(document.createElement("dt"), { textContent: term }), Object.assign(document.createElement("dd"), { textContent: value }));
      return row;
    }));
  }
}

const heap = () => performance.memory?.usedJSHeapSize ?? null;

const panels = {
  native: new Panel("native", "native sockets", WebSocket),
  virtual: new Panel("virtual", "manysocket", M.WebSocket),
};

/** Both charts of a kind share a scale, or they would say that both are alike. */
function draw() {
  const all = Object.values(panels);
  for (const [kind, digits] of [["rate", 0], ["latency", 1]]) {
    const top = Math.max(...all.map((panel) => panel[kind].most));
    for (const panel of all) panel[kind].draw(top, `${panel[kind].most.toLocaleString("en", { maximumFractionDigits: digits })}`);
  }
}

let results = [];

async function run({ which, ...options }) {
  results = [];
  for (const panel of Object.values(panels)) {
    for (const chart of [panel.rate, panel.latency]) chart.clear();
    panel.show(null);
  }
  for (const id of which) {
    const panel = panels[id];
    status.textContent = `${panel.name}: ${options.sockets} sockets for ${options.seconds} s …`;
    const load = new Load(panel.WebSocket, url, options);
    const before = heap();
    let received = 0;
    const timer = setInterval(() => {
      panel.rate.add(((load.received - received) * 1000) / STEP);
      panel.latency.add(load.percentile(0.99) ?? 0);
      received = load.received;
      panel.show(load);
      draw();
    }, STEP);
    await load.run();
    clearInterval(timer);
    panel.show(load);
    const { opened, failed, openMs, sent, perSecond } = load;
    results.push({ contestant: id, ...options, opened, failed, openMs, sent, received: load.received, perSecond, p50: load.percentile(0.5), p99: load.percentile(0.99), heapBefore: before, heapAfter: heap() });
  }
  draw();
  const [native, virtual] = ["native", "virtual"].map((id) => results.find((result) => result.contestant === id));
  status.textContent = native?.perSecond && virtual?.perSecond
    ? `Over one connection: ${(virtual.perSecond / native.perSecond).toFixed(1)} × the messages, opened ${(native.openMs / virtual.openMs).toFixed(1)} × as fast.`
    : "Done.";
  element("export").disabled = false;
  return results;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const data = new FormData(form);
  const which = data.getAll("which");
  if (which.length === 0) {
    status.textContent = "Choose a contestant.";
    return;
  }
  const number = (name) => Number(data.get(name));
  element("start").disabled = true;
  try {
    await run({ which, sockets: number("sockets"), size: number("size"), rate: number("rate"), seconds: number("seconds") });
  } finally {
    element("start").disabled = false;
  }
});

element("export").addEventListener("click", () => {
  const file = new Blob([JSON.stringify({ browser: navigator.userAgent, date: new Date().toISOString(), results }, null, 1)], { type: "application/json" });
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: "manysocket-loadtest.json" });
  link.click();
  URL.revokeObjectURL(link.href);
});

globalThis.loadtest = { run };

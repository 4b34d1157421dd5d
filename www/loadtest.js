// The load test: contestants one after the other under the same load.
//
// Tests call the button's function as `loadtest`:
//   await loadtest.run({ contestants: ["native", "virtual"], sockets, size, rate, seconds })
//     gives the report that the page saves as JSON
import { MultiWebSocket } from "./pkg/index.js";
import { compared, grouped, milliseconds, rounded } from "./format.js";
import { Load } from "./load.js";
import { LoadPanel } from "./loadpanel.js";
import { Run } from "./run.js";

/** Seconds between two samples. */
const STEP = 0.25;

const M = new MultiWebSocket("/multiplexer");
const url = `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/demo/echo`;

const element = (id) => document.getElementById(id);
const [form, status, start, stop, save] = [document.forms[0], ...["status", "start", "stop", "save"].map(element)];

// The link runs first: a browser that refuses further native sockets refuses the link too until they are gone.
const contestants = {
  virtual: { name: "MultiWebSocket", WebSocket: M.WebSocket, counted: "physical", panel: new LoadPanel(element("virtual")) },
  native: { name: "native sockets", WebSocket, counted: "native", panel: new LoadPanel(element("native")) },
};
const panels = Object.values(contestants).map(({ panel }) => panel);

/** The last test's report, for saving. */
let report = null;
/** Ends the running test. */
let abort = null;

/** Returns the JavaScript heap in bytes, in browsers that report it. */
const memory = () => performance.memory?.usedJSHeapSize ?? null;

/** How many connections of a kind the server has. */
async function connections(kind) {
  const response = await fetch("/demo/stats").catch(() => null);
  return response?.ok ? (await response.json())[kind] : null;
}

/** Puts one contestant under the load; returns the results. */
async function measure({ name, WebSocket, counted, panel }, { sockets, size, rate, seconds }, isStopped) {
  const began = performance.now();
  const memoryBefore = memory();
  const run = new Run(WebSocket, url, sockets);
  let [load, count] = [null, null];
  const result = () => {
    const { opened, failed, openMs } = run;
    const sent = load?.result ?? { echoed: 0, wrong: 0, lost: 0, perSecond: null, median: null, p99: null };
    const bytesPerSecond = sent.perSecond === null ? null : sent.perSecond * size;
    return { sockets, opened, failed, openMs, connections: count, ...sent, bytesPerSecond };
  };
  const sample = () => {
    const seconds = (performance.now() - began) / 1000;
    panel.add({ seconds, opened: run.opened, ...(load?.sample() ?? { perSecond: 0, median: null, p99: null }), memory: memory() });
    panel.count(result());
    LoadPanel.draw(panels);
  };
  abort = () => (load ? load.stop() : run.close());
  const timer = setInterval(sample, STEP * 1000);
  try {
    status.textContent = `Opening ${grouped(sockets)} sockets: ${name} …`;
    await run.open();
    const memoryOpen = memory();
    count = await connections(counted);
    const open = run.sockets.filter(({ readyState }) => readyState === 1);
    if (open.length > 0 && !isStopped()) {
      const aim = rate === Infinity ? "as many messages as go" : `${grouped(rate)} messages a second`;
      status.textContent = `Sending ${aim} over ${grouped(open.length)} sockets: ${name} …`;
      load = new Load(open, { size, rate });
      await load.run(seconds);
      // A handler counts its socket, and may begin only after the page sees it open.
      count = await connections(counted);
    }
    sample();
    const memoryMost = Math.max(...panel.series.map(({ memory }) => memory));
    return { ...result(), memoryBefore, memoryOpen, memoryMost: memoryMost || null, series: panel.series };
  } finally {
    clearInterval(timer);
    await run.close();
  }
}

async function run({ contestants: chosen, ...settings }) {
  let stopped = false;
  const results = {};
  for (const panel of panels) panel.clear();
  LoadPanel.draw(panels);
  for (const [which, contestant] of Object.entries(contestants)) {
    contestant.panel.element.hidden = !chosen.includes(which);
  }
  for (const which of Object.keys(contestants).filter((which) => chosen.includes(which))) {
    const ended = measure(contestants[which], settings, () => stopped);
    const end = abort;
    abort = () => {
      stopped = true;
      end();
    };
    results[which] = await ended;
    if (stopped) break;
  }
  const rate = settings.rate === Infinity ? "unlimited" : settings.rate;
  const { userAgent, hardwareConcurrency } = navigator;
  const date = new Date().toISOString();
  return { date, userAgent, hardwareConcurrency, settings: { ...settings, rate }, stopped, results };
}
globalThis.loadtest = { run };

/** Returns a report as a sentence. */
function verdict({ settings, stopped, results: { native, virtual } }) {
  if (stopped) return "Stopped.";
  const alone = native && virtual ? null : (native ?? virtual);
  if (alone) {
    const sent = alone.echoed > 0 ? `, ${rounded(alone.perSecond)} messages a second, 99 % within ${milliseconds(alone.p99)}` : "";
    return `${grouped(alone.opened)} of ${grouped(settings.sockets)} open after ${milliseconds(alone.openMs)}${sent}.`;
  }
  const silent = native.echoed === 0 ? "native sockets" : virtual.echoed === 0 ? "MultiWebSocket" : null;
  if (silent) return `No message came back over ${silent}. Is the server running?`;
  const opening =
    native.failed > 0
      ? `opened all ${grouped(virtual.opened)}, of which the browser refused ${grouped(native.failed)} natively,`
      : `opened ${compared(native.openMs / virtual.openMs)}`;
  const sending =
    settings.rate === "unlimited"
      ? `echoed ${compared(virtual.perSecond / native.perSecond)}`
      : `had 99 % of its echoes within ${milliseconds(virtual.p99)} (native: ${milliseconds(native.p99)})`;
  return `MultiWebSocket ${opening} and ${sending}, over one connection.`;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const chosen = Object.keys(contestants).filter((which) => form.elements[which].checked);
  if (chosen.length === 0) {
    status.textContent = "Choose a contestant.";
    return;
  }
  const number = (name) => Number(form.elements[name].value);
  const [sockets, size, rate, seconds] = ["sockets", "size", "rate", "seconds"].map(number);
  for (const each of [start, save]) each.disabled = true;
  stop.disabled = false;
  try {
    report = await run({ contestants: chosen, sockets, size, rate, seconds });
    status.textContent = verdict(report);
  } catch (error) {
    status.textContent = `That did not work: ${error.message}`;
    throw error;
  } finally {
    abort = null;
    start.disabled = false;
    stop.disabled = true;
    save.disabled = report === null;
  }
});

stop.addEventListener("click", () => abort?.());

save.addEventListener("click", () => {
  const blob = new Blob([JSON.stringify(report, null, 2)], { type: "application/json" });
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: "manysocket-load-test.json" });
  link.click();
  // The download has its own hold on the blob by the next task.
  setTimeout(() => URL.revokeObjectURL(link.href));
});

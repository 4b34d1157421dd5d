// The demo: two panels, one page code, native beside virtual.
//
// Tests call the buttons' functions as `demo`:
//   await demo.run({ which: "native" | "virtual", sockets, messages })
//     opens the given number of sockets, sends the given number of messages, leaves them open, and reports
//     { opened, failed, openMs, echoed, mismatches, sendMs, physical }
//   await demo.close(which)
import { MultiWebSocket } from "./pkg/index.js";
import { compared, grouped, milliseconds } from "./format.js";
import { Panel, STEP } from "./panel.js";
import { Run } from "./run.js";

// The connection below the virtual sockets, for the button that cuts it. A page has no other use for it.
let physical = null;
const Native = WebSocket;
globalThis.WebSocket = class extends Native {
  constructor(url, protocols) {
    super(url, protocols);
    physical = this;
  }
};
const M = new MultiWebSocket("/multiplexer");
globalThis.WebSocket = Native;
const url = `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/demo/echo`;

// About the steps 1, 2, 5 of each decade; 250 is just below the native limit of a browser.
const COUNTS = [1, 2, 5, 10, 50, 100, 200, 250, 500, 1000];

const element = (id) => document.getElementById(id);
const [slider, shown, status] = ["count", "count-shown", "status"].map(element);
const count = () => COUNTS[slider.value];

// `burst` is the most messages of one burst: some seconds' worth for each.
const contestants = {
  native: { name: "native sockets", WebSocket, panel: new Panel(element("native")), burst: 20_000 },
  virtual: { name: "MultiWebSocket", WebSocket: M.WebSocket, panel: new Panel(element("virtual")), burst: 100_000 },
};

/** Messages of one burst: few sockets wait for their echoes, so they get fewer. */
const burst = (which, sockets) => Math.min(contestants[which].burst, sockets * 2000);
const panels = Object.values(contestants).map(({ panel }) => panel);

const action = (which, name) => contestants[which].panel.element.querySelector(`[data-action=${name}]`);

/** Asks the server how many connections of each kind it has. */
async function countConnections() {
  const response = await fetch("/demo/stats").catch(() => null);
  const { native = null, physical = null } = response?.ok ? await response.json() : {};
  if (contestants.native.panel.run) contestants.native.panel.physical = native;
  if (contestants.virtual.panel.run) contestants.virtual.panel.physical = physical;
}

async function open(which, sockets) {
  const { panel, WebSocket } = contestants[which];
  // The browser counts a native socket until it is closed, and one that refuses further ones refuses the link too.
  await close(which);
  if (contestants.native.panel.run?.failed > 0) await close("native");
  const run = new Run(WebSocket, url, sockets);
  panel.show(run, sockets);
  await run.open();
  return run;
}

async function close(which) {
  await contestants[which].panel.run?.close();
}

async function run({ which, sockets, messages }) {
  const run = await open(which, sockets);
  const began = performance.now();
  await run.send(messages);
  const sendMs = performance.now() - began;
  await countConnections();
  const { opened, failed, openMs, echoed, mismatches } = run;
  return { opened, failed, openMs, echoed, mismatches, sendMs, physical: contestants[which].panel.physical };
}
globalThis.demo = { run, close };

/** Does one thing at a time, with the buttons disabled meanwhile, except the one that ends it. */
async function busy(description, work) {
  status.textContent = description;
  for (const each of document.querySelectorAll("[data-action], #both")) each.disabled = true;
  try {
    status.textContent = await work();
    await countConnections();
  } catch (error) {
    status.textContent = `That did not work: ${error.message}`;
    throw error;
  } finally {
    for (const each of document.querySelectorAll("[data-action=open], #both")) each.disabled = false;
    for (const which of Object.keys(contestants)) {
      action(which, "send").disabled = !(contestants[which].panel.run?.opened > 0);
    }
    drawNumbers();
  }
}

const failures = ({ failed }) => `${grouped(failed)} native sockets failed at the browser's limit.`;

/** Runs one after the other, so that they do not compete. The link runs first, since all its sockets need one connection. */
async function runBoth() {
  const sockets = count();
  await Promise.all(Object.keys(contestants).map(close));
  for (const panel of panels) panel.show(null, sockets);
  const results = {};
  for (const which of ["virtual", "native"]) {
    const { name, panel } = contestants[which];
    const messages = burst(which, sockets);
    status.textContent = `Running ${name}: ${grouped(sockets)} sockets, ${grouped(messages)} messages …`;
    results[which] = await run({ which, sockets, messages });
    if (panel.run.ended) return "Closed.";
    if (results[which].opened === 0) return `None of the ${grouped(sockets)} sockets is open (${name}). Is the server running?`;
  }
  const { native, virtual } = results;
  const perSecond = ({ echoed, sendMs }) => echoed / sendMs;
  const echoing = `echoed ${compared(perSecond(virtual) / perSecond(native))}`;
  if (native.failed > 0) {
    return `MultiWebSocket opened ${grouped(virtual.opened)} in ${milliseconds(virtual.openMs)} and ${echoing}. ${failures(native)}`;
  }
  return `MultiWebSocket opened ${compared(native.openMs / virtual.openMs)} and ${echoing}, over one connection.`;
}

async function openAlone(which) {
  const run = await open(which, count());
  if (run.ended) return "Closed.";
  const opened = `${grouped(run.opened)} open after ${milliseconds(run.openMs)}.`;
  if (run.failed === 0) return opened;
  return which === "native" && run.opened > 0 ? `${opened} ${failures(run)}` : `${opened} ${grouped(run.failed)} failed.`;
}

async function sendAlone(which) {
  const { run } = contestants[which].panel;
  await run.send(burst(which, run.opened));
  return run.ended ? "Closed." : `${grouped(Math.round(run.perSecond))} messages a second.`;
}

function chooseCount() {
  shown.textContent = grouped(count());
  slider.setAttribute("aria-valuetext", `${count()} sockets`);
  for (const panel of panels) if (!panel.isInUse) panel.show(null, count());
}
slider.addEventListener("input", chooseCount);
chooseCount();

for (const type of ["open", "interrupted", "resumed", "close"]) {
  M.addEventListener(type, () => (element("cut").disabled = M.readyState !== 1));
}
element("cut").addEventListener("click", () => physical.close(4000, "cut by hand"));
element("both").addEventListener("click", () => busy("Closing the open sockets …", runBoth));
element("close").addEventListener("click", async () => {
  await Promise.all(Object.keys(contestants).map(close));
  for (const which of Object.keys(contestants)) action(which, "send").disabled = true;
  await countConnections();
});
for (const [which, { name }] of Object.entries(contestants)) {
  action(which, "open").addEventListener("click", () => busy(`Opening: ${name} …`, () => openAlone(which)));
  action(which, "send").addEventListener("click", () => busy(`Sending: ${name} …`, () => sendAlone(which)));
}

// Browsers offer the clipboard to secure pages only.
element("copy").hidden = !navigator.clipboard;
element("copy").addEventListener("click", async ({ target }) => {
  await navigator.clipboard.writeText(element("start").textContent);
  target.textContent = "Copied";
  setTimeout(() => (target.textContent = "Copy"), 1500);
});

/** Brings counters and charts up to date. */
function drawNumbers() {
  // Both panels on one scale, so that heights are comparable.
  const most = (chart) => Math.max(...panels.map((panel) => panel[chart].most));
  const tops = { rate: most("rate"), opened: most("opened") };
  for (const panel of panels) {
    panel.drawCharts(tops);
    panel.drawCounters();
  }
}
setInterval(() => {
  for (const panel of panels) panel.tick();
  drawNumbers();
}, STEP * 1000);

setInterval(() => {
  if (panels.some(({ run }) => run?.active)) countConnections();
}, 1000);

// Cells are drawn at every third frame, so that drawing does not compete with the sockets; at every fifteenth if
// the user asked for less motion.
let frame = 0;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
function draw() {
  if (frame++ % (calm.matches ? 15 : 3) === 0) for (const panel of panels) panel.cells.draw();
  requestAnimationFrame(draw);
}
draw();

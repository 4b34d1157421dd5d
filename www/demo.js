// The demo: two panels, one page code, native beside virtual.
import { MultiWebSocket } from "./pkg/index.js";
import { Panel } from "./panel.js";
import { Run } from "./run.js";

const M = new MultiWebSocket("/multiplexer");
const url = `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/demo/echo`;

const COUNTS = [1, 2, 5, 10, 50, 100, 200, 250, 500, 1000];

const contestants = {
  native: { WebSocket, panel: new Panel(document.getElementById("native")), messages: 20_000 },
  virtual: { WebSocket: M.WebSocket, panel: new Panel(document.getElementById("virtual")), messages: 100_000 },
};

const slider = document.getElementById("count");
const shown = document.getElementById("count-shown");
const status = document.getElementById("status");
const count = () => COUNTS[slider.value];

/** How many connections of each kind the server has. */
async function connections() {
  const response = await fetch("/demo/stats");
  return response.ok ? response.json() : {};
}

async function countConnections(which) {
  const { physical, native } = await connections();
  contestants[which].panel.physical = (which === "native" ? native : physical) ?? null;
}

function button(which, action) {
  return contestants[which].panel.element.querySelector(`[data-action=${action}]`);
}

async function open(which, sockets) {
  const { panel, WebSocket } = contestants[which];
  panel.run?.close();
  const run = new Run(WebSocket, url, sockets);
  panel.reset(run);
  await run.open();
  await countConnections(which);
  button(which, "send").disabled = run.opened === 0;
  return run;
}

function close(which) {
  contestants[which].panel.run?.close();
  button(which, "send").disabled = true;
}

/** What the buttons do, for tests: opens, sends, counts, and leaves the sockets open. */
async function run({ which, sockets, messages }) {
  const run = await open(which, sockets);
  const began = performance.now();
  await run.send(messages);
  const { opened, failed, openMs, echoed, mismatches } = run;
  const { panel } = contestants[which];
  return { opened, failed, openMs, echoed, mismatches, sendMs: performance.now() - began, physical: panel.physical };
}
globalThis.demo = { run, close };

/** Has one action at a time, with the buttons disabled meanwhile. */
async function busy(action) {
  const buttons = [...document.querySelectorAll("button")].filter((each) => !each.disabled && each.id !== "close");
  buttons.forEach((each) => (each.disabled = true));
  try {
    await action();
  } catch (error) {
    status.textContent = `That did not work: ${error.message}`;
    throw error;
  } finally {
    buttons.forEach((each) => (each.disabled = false));
    for (const which of Object.keys(contestants)) {
      button(which, "send").disabled = !(contestants[which].panel.run?.opened > 0);
    }
  }
}

const times = (factor) => (factor >= 10 ? Math.round(factor) : factor.toFixed(1));

async function runBoth() {
  const results = {};
  for (const which of ["native", "virtual"]) {
    status.textContent = `Running ${which === "native" ? "native sockets" : "manysocket"}…`;
    results[which] = await run({ which, sockets: count(), messages: contestants[which].messages });
    if (which === "native") close(which);
  }
  const { native, virtual } = results;
  const perSecond = (result) => result.echoed / result.sendMs;
  const failed = native.failed > 0 ? ` ${native.failed} native sockets could not be opened.` : "";
  status.textContent =
    `manysocket opened ${times(native.openMs / virtual.openMs)} times faster, and carried ` +
    `${times(perSecond(virtual) / perSecond(native))} times the messages, over ${virtual.physical} connection.${failed}`;
}

slider.addEventListener("input", () => (shown.textContent = count()));
shown.textContent = count();
document.getElementById("both").addEventListener("click", () => busy(runBoth));
document.getElementById("close").addEventListener("click", () => Object.keys(contestants).forEach(close));
for (const which of Object.keys(contestants)) {
  button(which, "open").addEventListener("click", () => busy(() => open(which, count())));
  button(which, "send").addEventListener("click", () => busy(() => contestants[which].panel.run.send(contestants[which].messages)));
}

setInterval(() => {
  for (const { panel } of Object.values(contestants)) panel.tick();
}, 250);

// Cells are drawn at every third frame, so that drawing does not compete with what it shows; at every fifteenth if
// the user asked for less motion.
let frame = 0;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
function draw() {
  if (frame % (calm.matches ? 15 : 3) === 0) for (const { panel } of Object.values(contestants)) panel.drawCells();
  frame++;
  requestAnimationFrame(draw);
}
draw();

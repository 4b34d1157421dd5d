// A call whose result is a stream, with its progress and a button that aborts it.
import { MultiWebSocket } from "./pkg/index.js";
import { grouped } from "./format.js";
import { rpc } from "./pkg/rpc.js";

const element = (id) => document.getElementById(id);
const [start, abort, slow, limit, status, progress] = ["start", "abort", "slow", "limit", "status", "progress"].map(element);

const M = new MultiWebSocket("/multiplexer");
const primes = rpc("/demo/rpc/primes/", { WebSocket: M.WebSocket });

/** Milliseconds between two items that are read slowly, and between two questions how many streams run. */
const PAUSE = 50;
const REFRESH = 250;

let controller = null;
/** The numbers that have been read from the present stream. */
let read = { found: 0, last: 0, done: 0, began: 0 };
let isDrawn = true;

const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE));

async function run() {
  controller = new AbortController();
  const end = limit.valueAsNumber;
  read = { found: 0, last: 0, done: 0, began: performance.now() };
  start.disabled = true;
  abort.disabled = false;
  status.textContent = "Reading …";
  const watching = setInterval(showRunning, REFRESH);
  try {
    for await (const prime of await rpc(primes, { signal: controller.signal }).below(end)) {
      read.found++;
      read.last = prime;
      read.done = prime / end;
      draw();
      if (slow.checked) await pause();
    }
    read.done = 1;
    status.textContent = `That was all of it: ${grouped(read.found)} primes.`;
  } catch (error) {
    const why = controller.signal.aborted ? "Aborted: the server has dropped the function" : `That did not work: ${error.message}`;
    status.textContent = `${why}, after ${grouped(read.found)} primes.`;
  }
  clearInterval(watching);
  start.disabled = false;
  abort.disabled = true;
  draw();
  showRunning();
}

/** Shows how far it is, once in a frame. */
function draw() {
  if (!isDrawn) return;
  isDrawn = false;
  requestAnimationFrame(() => {
    isDrawn = true;
    const { found, last, done, began } = read;
    progress.value = done;
    element("found").textContent = grouped(found);
    element("last").textContent = found === 0 ? "–" : grouped(last);
    if (!start.disabled) return;
    element("rate").textContent = grouped(Math.round((1000 * found) / (performance.now() - began)));
  });
}

/** Asks the server how many streams run there, of all pages. */
async function showRunning() {
  element("running").textContent = await primes.running().catch(() => "–");
}

document.querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  if (!start.disabled) run();
};
abort.onclick = () => controller.abort();
showRunning();

// A tank to drive: calls move it, and a topic sends its position to everybody.
import { MultiWebSocket } from "./pkg/index.js";
import { rpc } from "./pkg/rpc.js";

const M = new MultiWebSocket("/multiplexer");
const tank = rpc("/demo/rpc/tank65/", { WebSocket: M.WebSocket, timeout: 5000 });

const element = (id) => document.getElementById(id);
const [field, readout, log] = ["field", "readout", "log"].map(element);

// Metres from the middle to the edge, and the margin around.
const FIELD = 10;
const MARGIN = 1.5;

const CALLS = {
  left: ["turn", -15],
  right: ["turn", 15],
  forward: ["drive", 1],
  back: ["drive", -1],
  far: ["drive", 99],
  fire: ["fire"],
};
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "forward", ArrowDown: "back", " ": "fire" };

/** Where the tank is, and where it is drawn: the one follows the other. */
let tankAt = null;
let drawn = null;
let flash = 0;

function show(next) {
  if (tankAt !== null && next.shots !== tankAt.shots) flash = 1;
  tankAt = next;
  drawn ??= { ...next };
  readout.dataset.moves = "";
  readout.textContent = `x ${next.x.toFixed(1)}  y ${next.y.toFixed(1)}  heading ${Math.round(next.heading) % 360}°`;
}

async function call(name, ...args) {
  const started = performance.now();
  const line = document.createElement("li");
  line.textContent = `${name}(${args}) …`;
  log.prepend(line);
  try {
    show(await tank[name](...args));
    line.textContent = `${name}(${args}) ${(performance.now() - started).toFixed(1)} ms`;
  } catch ({ code, message }) {
    line.className = "bad";
    line.textContent = `${name}(${args}) ${code}: ${message}`;
  }
  while (log.children.length > 50) log.lastChild.remove();
}

function draw() {
  const { width, height } = field.getBoundingClientRect();
  const scale = devicePixelRatio;
  if (field.width !== Math.round(width * scale)) [field.width, field.height] = [width, height].map((side) => Math.round(side * scale));
  const style = getComputedStyle(field);
  const [accent, line] = [style.color, style.borderColor];
  const paint = field.getContext("2d");
  const metre = field.width / (2 * (FIELD + MARGIN));
  paint.setTransform(metre, 0, 0, -metre, field.width / 2, field.height / 2);
  paint.clearRect(-99, -99, 199, 199);
  paint.strokeStyle = line;
  paint.lineWidth = 1 / metre;
  for (let at = -FIELD; at <= FIELD; at += 2) {
    paint.strokeRect(at, -FIELD, 0, 2 * FIELD);
    paint.strokeRect(-FIELD, at, 2 * FIELD, 0);
  }
  if (drawn !== null) {
    for (const side of ["x", "y"]) drawn[side] += (tankAt[side] - drawn[side]) * 0.2;
    drawn.heading += ((((tankAt.heading - drawn.heading + 180) % 360) + 360) % 360 - 180) * 0.2;
    paint.translate(drawn.x, drawn.y);
    paint.rotate((-drawn.heading * Math.PI) / 180);
    paint.fillStyle = accent;
    paint.globalAlpha = 0.45;
    for (const x of [-0.95, 0.5]) paint.fillRect(x, -1.1, 0.45, 2.2);
    paint.globalAlpha = 1;
    paint.fillRect(-0.6, -0.9, 1.2, 1.8);
    paint.fillRect(-0.13, 0, 0.26, 1.7);
    if (flash > 0.02) {
      paint.globalAlpha = flash;
      paint.beginPath();
      paint.arc(0, 1.9, 0.9 * flash, 0, 7);
      paint.fill();
      paint.globalAlpha = 1;
      flash *= 0.85;
    }
    paint.fillStyle = style.backgroundColor;
    paint.beginPath();
    paint.arc(0, -0.1, 0.42, 0, 7);
    paint.fill();
  }
  requestAnimationFrame(draw);
}

document.querySelector(".buttons").onclick = ({ target }) => {
  if (target.dataset.call) call(...CALLS[target.dataset.call]);
};
document.onkeydown = (event) => {
  if (!(event.key in KEYS) || (event.key === " " && event.target.tagName === "BUTTON")) return;
  event.preventDefault();
  call(...CALLS[KEYS[event.key]]);
};

const watch = new M.WebSocket("/demo/topics/tank65");
watch.onmessage = ({ data }) => {
  const next = JSON.parse(data);
  // Ignores messages that are no tank: anybody may publish on the demo's topics, and slow pages get a notice.
  if (["x", "y", "heading", "shots"].every((name) => typeof next?.[name] === "number")) show(next);
};
call("look");
draw();

// The browser's part of the soak: sockets that echo, close and reopen, while their link breaks now and then.
import { MultiWebSocket } from "/pkg/index.js";

const SOCKETS = 10;
/** The messages in flight on a socket, and its sending interval in milliseconds. */
const AHEAD = 8;
const PACE = 100;

const M = new MultiWebSocket("/multiplexer");
const counts = { opened: 0, closed: 0, lost: 0, received: 0, violations: [] };
let isRunning = true;

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Makes the message with the given number; the receiver makes it again to compare. */
const content = (number) =>
  number % 2 === 0 ? `${number}: ${"é".repeat((number * 37) % 300)}` : new Uint8Array((number * 53) % 2000).fill(number);

const isSame = (data, expected) =>
  typeof expected === "string" ? data === expected : data instanceof ArrayBuffer && data.byteLength === expected.length && new Uint8Array(data).every((byte) => byte === expected[0]);

/** Runs one socket, from its open to its end. */
function use(total, code) {
  const socket = new M.WebSocket("/demo/echo");
  socket.binaryType = "arraybuffer";
  let [sent, received, isOpen] = [0, 0, false];
  const wrong = (what) => counts.violations.push(`socket of ${total} messages: ${what}`);
  const timer = setInterval(() => {
    while (isOpen && sent < total && sent - received < AHEAD) socket.send(content(sent++));
    if (received === total) socket.close(code);
  }, PACE);
  socket.onopen = () => {
    isOpen = true;
    counts.opened++;
  };
  socket.onmessage = ({ data }) => {
    if (!isSame(data, content(received))) wrong(`not echo ${received}`);
    received++;
    counts.received++;
  };
  return new Promise((resolve) => {
    socket.onclose = (event) => {
      clearInterval(timer);
      if (event.code === 1006) counts.lost++;
      else if (event.code === code && event.wasClean && received === total) counts.closed++;
      else wrong(`closed with ${event.code} after ${received}`);
      resolve(event.code);
    };
  });
}

async function keepBusy() {
  while (isRunning) {
    const code = await use(20 + Math.floor(Math.random() * 200), 4000 + Math.floor(Math.random() * 1000));
    if (code === 1006) await pause(500);
  }
}

const all = Promise.all(Array.from({ length: SOCKETS }, keepBusy));

/** Returns the counts; with "end", after all sockets have ended. */
globalThis.bench = async (what) => {
  if (what === "end") {
    isRunning = false;
    await all;
    M.close();
  }
  return counts;
};

// The workloads, as docs/benchmarks.md lists them: the function in the page, the contestants, and the target.
//
// `reach` and `aim` are ratios of manysocket to native, in the direction in which more is better for `higher`, less for
// the others; `absolute` ones are figures of manysocket alone. `fresh` ones run in a page that has just loaded, each time.

const ALL = ["native", "manysocket", "over HTTP", "websocket-multiplex", "socket.io"];
const PEERS = ALL.filter((name) => name !== "over HTTP");
const OURS = ["native", "manysocket"];

const fast = (name) => ["manysocket", "without resumption", "over HTTP"].includes(name);

/** The number of messages that takes about a second, and half of it for warming up. */
const echo = (options) => ({
  workload: "echo",
  options: (name) => ({ ...options, messages: fast(name) ? 200_000 : 30_000 }),
  warmUp: (name) => ({ ...options, messages: fast(name) ? 50_000 : 5_000 }),
});

const bulk = (size, depth, idle = 0) => ({
  workload: "echo",
  options: () => ({ sockets: 1, messages: 2 ** 28 / size, size, depth, idle, binary: true }),
  warmUp: () => ({ sockets: 1, messages: 2 ** 26 / size, size, depth, idle, binary: true }),
});

const open = (count) => ({ workload: "opening", options: () => ({ count }), figure: "ms", unit: "ms" });

export const workloads = {
  "open-10": { title: "open 10 sockets", contestants: PEERS, ...open(10), reach: 10, aim: 30, higher: false },
  "open-100": { title: "open 100 sockets", contestants: ALL, ...open(100), reach: 300, aim: 1000, higher: false, slow: true },
  "open-200": { title: "open 200 sockets", contestants: PEERS, ...open(200), reach: 300, aim: 1000, higher: false, slow: true },
  "open-1000": { title: "open 1,000 sockets", contestants: PEERS.slice(1), ...open(1000), higher: false },
  "open-10000": { title: "open 10,000 sockets", contestants: ["manysocket"], ...open(10_000), higher: false, absolute: { reach: 1000, aim: 200 } },
  "open-100-20ms": { title: "open 100 sockets, 20 ms round trip", contestants: OURS, ...open(100), delay: 20, reach: 60, aim: 100, higher: false, slow: true },
  "open-100-100ms": { title: "open 100 sockets, 100 ms round trip", contestants: OURS, ...open(100), delay: 100, reach: 50, aim: 70, higher: false, slow: true },
  "open-1-cold": { title: "open 1 socket, no link yet, 20 ms round trip", contestants: OURS, ...open(1), delay: 20, reach: 1 / 1.1, aim: 1, higher: false },
  "open-1-warm": { title: "open 1 socket, link up, 20 ms round trip", contestants: OURS, workload: "opening", options: () => ({ count: 1, warm: true }), figure: "ms", unit: "ms", delay: 20, reach: 1 / 0.55, aim: 2, higher: false },
  "ping-p50": { title: "ping-pong on one socket, p50", contestants: ALL, workload: "pingPong", options: () => ({ rounds: 2000 }), warmUp: () => ({ rounds: 500 }), figure: "p50", unit: "ms", reach: 1 / 1.2, aim: 1, higher: false },
  "ping-p99": { title: "ping-pong on one socket, p99", sameRunAs: "ping-p50", figure: "p99", unit: "ms", reach: 1 / 1.3, aim: 1, higher: false },
  "wake-p50": { title: "ping 2 ms after the last, p50", contestants: OURS, workload: "pingPong", options: () => ({ rounds: 500, pause: 2 }), warmUp: () => ({ rounds: 100, pause: 2 }), figure: "p50", unit: "ms", reach: 1 / 1.3, aim: 1, higher: false },
  "wake-p99": { title: "ping 2 ms after the last, p99", sameRunAs: "wake-p50", figure: "p99", unit: "ms", reach: 1 / 1.3, aim: 1, higher: false },
  "cold-10": { title: "the first 10 pings of a page", contestants: OURS, fresh: true, workload: "cold", options: () => ({ messages: 10 }), figure: "ms", unit: "ms", reach: 1 / 1.5, aim: 1, higher: false },
  "cold-1000": { title: "the first 1,000 pings of a page", contestants: OURS, fresh: true, workload: "cold", options: () => ({ messages: 1000 }), figure: "ms", unit: "ms", reach: 1 / 1.3, aim: 1, higher: false },
  "wire-1": { title: "bytes on the wire for a text of 4 bytes and its echo, one at a time", contestants: OURS, workload: "pingPong", options: () => ({ rounds: 2000 }), figure: "wire", unit: "bytes", delay: 0, higher: false, byName: true },
  "wire-100": { title: "bytes on the wire for a text of 32 bytes and its echo, 100 sockets", contestants: OURS, ...echo({ sockets: 100, size: 32, depth: 10 }), figure: "wire", unit: "bytes", delay: 0, higher: false, byName: true },
  "echo-100": { title: "32 B echo, pipelined, 100 sockets", contestants: ALL, ...echo({ sockets: 100, size: 32, depth: 10 }), figure: "rate", unit: "messages/s", reach: 8, aim: 16, higher: true },
  "cpu": { title: "browser CPU per message of that", sameRunAs: "echo-100", figure: "cpuPerMessage", unit: "µs", reach: 10, aim: 25, higher: false },
  "echo-1": { title: "32 B echo, pipelined, 1 socket", contestants: PEERS, ...echo({ sockets: 1, size: 32, depth: 1000 }), figure: "rate", unit: "messages/s", reach: 8, aim: 16, higher: true },
  "turns": { title: "32 B, one message per socket and turn, 100 sockets", contestants: ALL, workload: "turns", options: (name) => ({ sockets: 100, size: 32, turns: fast(name) ? 2000 : 200 }), warmUp: () => ({ sockets: 100, size: 32, turns: 50 }), figure: "rate", unit: "messages/s", reach: 6, aim: 13, higher: true },
  "burst": { title: "32 B, bursts of 100 over 20 sockets", contestants: OURS, workload: "turns", options: (name) => ({ sockets: 20, size: 32, burst: 5, turns: fast(name) ? 1000 : 150 }), warmUp: () => ({ sockets: 20, size: 32, burst: 5, turns: 50 }), figure: "rate", unit: "messages/s", reach: 5, aim: 12, higher: true },
  "push": { title: "32 B, server push over 100 sockets", contestants: OURS, workload: "push", options: (name) => ({ sockets: 100, size: 32, messages: fast(name) ? 400_000 : 60_000 }), warmUp: () => ({ sockets: 100, size: 32, messages: 10_000 }), figure: "rate", unit: "messages/s", reach: 6, aim: 11, higher: true },
  "text-1k": { title: "1 KiB text echo, 20 sockets", contestants: ALL, ...echo({ sockets: 20, size: 1024, depth: 20 }), figure: "rate", unit: "messages/s", reach: 3, aim: 6, higher: true },
  // websocket-multiplex carries text only.
  "binary-1k": { title: "1 KiB binary echo, 20 sockets", contestants: ["native", "manysocket", "socket.io"], ...echo({ sockets: 20, size: 1024, depth: 20, binary: true }), figure: "rate", unit: "messages/s", reach: 3, aim: 6, higher: true },
  "binary-16k": { title: "16 KiB binary echo, 10 sockets", contestants: OURS, workload: "echo", options: () => ({ sockets: 10, size: 2 ** 14, depth: 4, binary: true, messages: 16_000 }), warmUp: () => ({ sockets: 10, size: 2 ** 14, depth: 4, binary: true, messages: 4000 }), figure: "bytes", unit: "MB/s", scale: 1e-6, reach: 0.6, aim: 1, higher: true },
  "one-64k": { title: "64 KiB binary echo on one of 20 open sockets, 8 on their way", contestants: OURS, ...bulk(2 ** 16, 8, 19), figure: "bytes", unit: "MB/s", scale: 1e-6, reach: 0.65, aim: 1, higher: true },
  "one-1m": { title: "1 MiB binary echo on one of 20 open sockets, 8 on their way", contestants: OURS, ...bulk(2 ** 20, 8, 19), figure: "bytes", unit: "MB/s", scale: 1e-6, reach: 0.65, aim: 1, higher: true },
  "bulk-64k": { title: "64 KiB binary echo, 16 on their way", contestants: ["native", "manysocket", "socket.io"], ...bulk(2 ** 16, 16), figure: "bytes", unit: "MB/s", scale: 1e-6, reach: 0.85, aim: 1, higher: true },
  "bulk-1m": { title: "1 MiB binary echo, 4 on their way", contestants: ["native", "manysocket", "over HTTP", "socket.io"], ...bulk(2 ** 20, 4), figure: "bytes", unit: "MB/s", scale: 1e-6, reach: 0.85, aim: 1, higher: true },
  "beside-down": { title: "ping p99 beside 64 MiB from the server", contestants: OURS, workload: "pingBeside", options: () => ({ total: 2 ** 26, size: 2 ** 20, up: false }), figure: "p99", unit: "ms", reach: 1 / 1.5, aim: 1 / 0.7, higher: false },
  "beside-down-rate": { title: "the rate of those 64 MiB", sameRunAs: "beside-down", figure: "bytes", unit: "MB/s", scale: 1e-6, reach: 0.75, aim: 0.95, higher: true },
  "beside-up": { title: "ping p99 beside 64 MiB to the server", contestants: OURS, workload: "pingBeside", options: () => ({ total: 2 ** 26, size: 2 ** 20, up: true }), figure: "p99", unit: "ms", reach: 1 / 1.5, aim: 1 / 0.7, higher: false },
  "beside-up-rate": { title: "the rate of those 64 MiB", sameRunAs: "beside-up", figure: "bytes", unit: "MB/s", scale: 1e-6, reach: 0.75, aim: 0.95, higher: true },
};

/** Curves: the cost against the number of sockets, and against the size of messages. */
export const growth = {
  "sockets": {
    title: "32 B echo, pipelined: messages/s against the number of sockets",
    axis: "sockets", unit: "messages/s", figure: "rate",
    points: [1, 10, 100, 1000, 10_000],
    contestants: (count) => (count <= 100 ? OURS : ["manysocket"]),
    workload: "echo",
    options: (name, sockets) => ({ sockets, size: 32, depth: Math.max(1, 1000 / sockets), messages: fast(name) ? 100_000 : 15_000 }),
  },
  "size": {
    title: "Binary echo over 10 sockets: bytes/s against the size of a message",
    axis: "bytes", unit: "MB/s", figure: "bytes", scale: 1e-6,
    points: [1, 16, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576],
    contestants: () => OURS,
    workload: "echo",
    options: (name, size) => ({ sockets: 10, size, depth: size < 65_536 ? 20 : 2, binary: true, messages: Math.min(fast(name) ? 60_000 : 10_000, Math.ceil(2 ** 27 / size)) }),
  },
  "opening": {
    title: "Opening: milliseconds until all sockets are open, against their number",
    axis: "sockets", unit: "ms", figure: "ms",
    points: [1, 10, 30, 100, 200, 1000, 10_000],
    contestants: (count) => (count <= 200 ? OURS : ["manysocket"]),
    workload: "opening",
    options: (_, count) => ({ count }),
  },
};

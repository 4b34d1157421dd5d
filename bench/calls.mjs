// Measures calls over a link, over a native WebSocket, and by `fetch` to the same function: the figures of docs/rpc.md.
// `cargo xtask build && cargo build --release -p manysocket-test-server && node bench/calls.mjs target`
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Chromium } from "./chromium.mjs";
import { startServer } from "./start.mjs";

const ROUNDS = 5;
/** The calls in flight of a busy page. */
const CALLERS = 100;
const CONTESTANTS = {
  // The number of calls that takes about a second.
  link: { name: "`rpc` over a multiplexed link", calls: 60_000 },
  native: { name: "`rpc` over a native WebSocket", calls: 10_000 },
  fetch: { name: "`fetch`, HTTP/1.1 kept alive", calls: 2_000 },
};

const root = fileURLToPath(new URL("../", import.meta.url));
const target = process.argv[2] ?? join(root, "target");
const site = await mkdtemp(join(tmpdir(), "manysocket-calls-"));
await cp(join(root, "bench/page"), site, { recursive: true });
await cp(join(root, "pkg"), join(site, "pkg"), { recursive: true });
const server = await startServer(target, site);
const browser = await Chromium.start();
const figures = Object.fromEntries(Object.keys(CONTESTANTS).map((key) => [key, { p50: [], p99: [], rate: [] }]));
try {
  const page = await browser.page(`http://127.0.0.1:${server.port}/calls.html`);
  // The first round warms up.
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [key, { calls }] of Object.entries(CONTESTANTS)) {
      const { p50, p99 } = await page.run("latency", key, { calls: 1000 });
      const { rate } = await page.run("rate", key, { calls, callers: CALLERS });
      if (round === 0) continue;
      figures[key].p50.push(p50);
      figures[key].p99.push(p99);
      figures[key].rate.push(rate);
    }
  }
} finally {
  await browser.stop();
  server.stop();
  await rm(site, { recursive: true, force: true });
}

function spread(values, digits) {
  const sorted = values.toSorted((a, b) => a - b);
  const show = (value) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return `${show(sorted[Math.floor(sorted.length / 2)])} (${show(sorted[0])}–${show(sorted.at(-1))})`;
}

console.log(`| | one call, p50 ms | p99 ms | calls/s, ${CALLERS} at a time |\n| --- | --- | --- | --- |`);
for (const [key, { name }] of Object.entries(CONTESTANTS)) {
  const { p50, p99, rate } = figures[key];
  console.log(`| ${name} | ${spread(p50, 2)} | ${spread(p99, 2)} | ${spread(rate, 0)} |`);
}

// The benchmark. `cargo xtask bench [--quick] [--with=NAME,…] [--through=http2|buffer] [WORKLOAD…]` builds its parts and calls this.
//
// `--with` names the contestants (bench/page/contestants.js), for comparisons of manysocket with itself. `--through=http2` runs all of them
// over TLS and HTTP/2, `--through=buffer` behind nginx, which keeps answers of HTTP and passes no WebSockets. Both write nothing.
//
// All contestants of a workload run in turn, round by round, so that other load on the machine affects them alike.
// A round in which other programs used much of the machine runs again. Figures are medians.
import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Chromium } from "./chromium.mjs";
import { idleBrowser, idleServer, dispatch } from "./idle.mjs";
import { busySeconds, cpuSeconds, machine } from "./proc.mjs";
import { relay } from "./relay.mjs";
import { buffer, certificate, start, startServer } from "./start.mjs";
import { growth, workloads } from "./workloads.mjs";

/** Rounds: enough for a median that one bad round does not move. */
const ROUNDS = 5;
/** Rounds for a point of a curve. */
const ROUNDS_OF_GROWTH = 3;
/** The share of the machine's time above which other programs spoil a round. */
const NOISE = 0.1;
/** Repetitions of a spoilt round; the last one counts, with a mark. */
const REPEATS = 3;

const root = fileURLToPath(new URL("../", import.meta.url));
const words = process.argv.slice(2);
const quick = words.includes("--quick");
const flag = (name) => words.find((word) => word.startsWith(`--${name}=`))?.slice(name.length + 3);
const named = flag("with")?.split(",");
const through = flag("through");
const [target, ...wanted] = words.filter((word) => !word.startsWith("--"));

const site = await mkdtemp(join(tmpdir(), "manysocket-bench-site-"));
await cp(join(root, "bench/page"), site, { recursive: true });
await cp(join(root, "pkg"), join(site, "pkg"), { recursive: true });

const server = await startServer(target, site, through === "http2" ? await certificate(target, site) : []);
const proxy = through === "buffer" ? await buffer(site, server.port) : null;
let peers = null;
if (!quick && !named) {
  const modules = join(root, "bench/node_modules");
  await cp(join(modules, "websocket-multiplex/multiplex_client.js"), join(site, "peers/multiplex_client.js"));
  await cp(join(modules, "socket.io-client/dist/socket.io.min.js"), join(site, "peers/socket.io.min.js"));
  peers = await start(process.execPath, [join(root, "bench/peers/server.mjs")]);
}
const browser = await Chromium.start();
const relays = new Map();

/** Opens a page whose WebSockets have the given round trip; undefined: no relay, which also counts bytes. */
async function pageWith(delay) {
  let { port } = proxy ?? server;
  if (delay !== undefined) {
    if (!relays.has(delay)) relays.set(delay, await relay(port, delay));
    port = relays.get(delay).port;
  }
  const scheme = through === "http2" ? "https" : "http";
  return browser.page(`${scheme}://127.0.0.1:${port}/?peers=127.0.0.1:${peers?.port ?? 0}`);
}

/** Returns how many bytes the relays have passed on, in both directions. */
const relayed = () => [...relays.values()].reduce((sum, { bytes }) => sum + bytes(), 0);

/** Runs once and adds the operating system's figures; repeats rounds that other programs have spoilt. */
async function measured(page, workload, name, options) {
  for (let attempt = 1; ; attempt++) {
    const pids = await browser.processes();
    const all = [...pids, server.pid, process.pid, ...(peers ? [peers.pid] : [])];
    const before = [cpuSeconds(pids), cpuSeconds(all), busySeconds(), performance.now()];
    const passed = relayed();
    const result = await page.run(workload, name, options);
    const [browserTime, ours, busy, elapsed] = [cpuSeconds(pids), cpuSeconds(all), busySeconds(), performance.now()].map((value, at) => value - before[at]);
    const foreign = (busy - ours) / ((elapsed / 1000) * availableParallelism());
    // A tick is a hundredth of a second: fewer than some tens are too coarse.
    const noisy = elapsed > 300 && foreign > NOISE;
    if (noisy && attempt < REPEATS && !quick) continue;
    if (result.messages) result.cpuPerMessage = (browserTime / result.messages) * 1e6;
    if (result.messages) result.wire = (relayed() - passed) / result.messages;
    return { ...result, noisy };
  }
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

function summary(runs, figure, scale = 1) {
  const values = runs.map((run) => run[figure] * scale);
  return { median: median(values), min: Math.min(...values), max: Math.max(...values), values, noisy: runs.filter((run) => run.noisy).length };
}

async function runWorkload(key) {
  const workload = workloads[key];
  const contestants = named ?? workload.contestants.filter((name) => !quick || name === "native" || name === "manysocket");
  const rounds = quick ? 1 : ROUNDS;
  if (workload.fresh) return runFresh(workload, contestants, rounds);
  const page = await pageWith(workload.delay);
  const runs = Object.fromEntries(contestants.map((name) => [name, []]));
  if (workload.warmUp) for (const name of contestants) await page.run(workload.workload, name, workload.warmUp(name));
  for (let round = 0; round < rounds; round++) {
    for (const name of contestants) runs[name].push(await measured(page, workload.workload, name, workload.options(name)));
  }
  await page.close();
  return runs;
}

/** Runs each measurement in a new page, whose files the browser has in its cache. */
async function runFresh(workload, contestants, rounds) {
  const runs = Object.fromEntries(contestants.map((name) => [name, []]));
  // One more for the cache.
  for (let round = -1; round < rounds; round++) {
    for (const name of contestants) {
      const page = await pageWith();
      const result = await measured(page, workload.workload, name, workload.options(name));
      if (round >= 0) runs[name].push(result);
      await page.close();
    }
  }
  return runs;
}

async function runGrowth(key) {
  const { points, contestants, workload, options, figure, scale } = growth[key];
  const page = await pageWith();
  const series = {};
  for (const point of points) {
    for (let round = 0; round < ROUNDS_OF_GROWTH; round++) {
      for (const name of contestants(point)) {
        const result = await measured(page, workload, name, options(name, point));
        ((series[name] ??= {})[point] ??= []).push(result[figure] * (scale ?? 1));
      }
    }
  }
  await page.close();
  return Object.fromEntries(Object.entries(series).map(([name, at]) => [name, Object.entries(at).map(([point, values]) => [Number(point), median(values)])]));
}

const results = { machine: machine(), browser: await browser.version(), load: loadavg(), date: new Date().toISOString().slice(0, 10), workloads: {}, growth: {} };
const runs = {};
let failed = 0;
try {
  for (const [key, workload] of Object.entries(workloads)) {
    const source = workload.sameRunAs ?? key;
    // Those that measure one aspect run by name only.
    if (wanted.length > 0 ? !wanted.includes(key) : workload.byName) continue;
    if (quick && workloads[source].slow) continue;
    runs[source] ??= await runWorkload(source);
    const figures = Object.fromEntries(Object.entries(runs[source]).map(([name, of]) => [name, summary(of, workload.figure, workload.scale)]));
    const { native, manysocket } = figures;
    const ratio = native && manysocket && (workload.higher ? manysocket.median / native.median : native.median / manysocket.median);
    results.workloads[key] = { ...figures, ratio };
    const show = Object.entries(figures).map(([name, { median: value, min, max }]) => `${name} ${value.toPrecision(4)} (${min.toPrecision(3)}–${max.toPrecision(3)})`).join(", ");
    console.log(`${key}: ${show} ${workload.unit}${ratio ? `; ${ratio.toPrecision(3)} × native` : ""}`);
    // A smoke test of the tool and of gross mistakes: the figures of a busy machine show no more.
    if (quick && ratio && ratio < (workload.reach ?? 0) / 5) {
      failed++;
      console.error(`${key}: ${ratio.toPrecision(3)} is less than a fifth of ${workload.reach}`);
    }
  }
  if (!quick && !named && !through && wanted.length === 0) {
    for (const key of Object.keys(growth)) {
      results.growth[key] = await runGrowth(key);
      console.log(`growth with ${key}: done`);
    }
    results.idleBrowser = await idleBrowser(browser, await pageWith());
    console.log("idle sockets in the browser:", results.idleBrowser);
    results.idleServer = await idleServer(target, site);
    console.log("idle sockets on the server:", results.idleServer);
    results.dispatch = await dispatch(target, site);
    console.log("virtual opens:", results.dispatch);
    await mkdir(join(root, "docs/benchmarks"), { recursive: true });
    await writeFile(join(root, "docs/benchmarks/results.json"), `${JSON.stringify(results, null, 1)}\n`);
    await (await import("./report.mjs")).report(results);
  }
} finally {
  await browser.stop();
  proxy?.stop();
  server.stop();
  peers?.stop();
  for (const { close } of relays.values()) close();
  await rm(site, { recursive: true, force: true });
}
process.exit(failed > 0 ? 1 : 0);

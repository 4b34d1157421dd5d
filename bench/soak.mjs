// The soak: `cargo xtask bench soak [MINUTES]` builds its parts and calls this.
//
// It runs the shipped servers, a client that checks every message (bench/client/src/soak) and a page in Chromium, with relays
// between them whose connections break. It samples the servers every few seconds; in the end they must hold nothing.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { get } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { breakingRelay } from "./breaking.mjs";
import { Chromium } from "./chromium.mjs";
import { cpuSeconds, machine } from "./proc.mjs";
import { reportSoak } from "./soak-report.mjs";
import { start } from "./start.mjs";

/** Average seconds between breaks of connections to the server, to the gateway, and from the gateway to the server. */
const BREAKS = { server: 3, gateway: 6, upstream: 6 };
/** Seconds between samples: some hundred points for a chart of half an hour. */
const SAMPLES = 5;
/** Longer than the minute within which both ends give up a silent connection. */
const AFTERMATH = 75_000;
/** The allowed growth of memory between the second fifth of the time and the last; the first fifth is warming up. */
const FLAT = 1.1;
/** A shorter run shows nothing about memory, and is not recorded. */
const WHOLE = 30 * 60;

const root = fileURLToPath(new URL("../", import.meta.url));
const [target, minutes] = process.argv.slice(2);
const seconds = Math.round(Number(minutes) * 60);

async function freePort() {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  return port;
}

/** Starts a server, with its metrics on a separate port. */
async function startServer(words) {
  const metrics = await freePort();
  const process = await start(join(target, "release/manysocket-server"), ["--listen", "127.0.0.1:0", "--metrics", `127.0.0.1:${metrics}`, ...words]);
  return { ...process, metrics };
}

/** Reads a server's metrics, and the system's figures of its process. */
async function sample({ pid, metrics }) {
  const response = await new Promise((resolve, reject) => get({ port: metrics, path: "/metrics", agent: false }, resolve).on("error", reject));
  let text = "";
  for await (const chunk of response.setEncoding("utf8")) text += chunk;
  const figure = (name) => Number(new RegExp(`^manysocket_${name} (\\d+)`, "m").exec(text)[1]);
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const line = (name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)[1]);
  const files = (await readdir(`/proc/${pid}/fd`)).length;
  return { links: figure("links"), channels: figure("channels"), held: figure("memory_bytes"), rss: line("VmRSS") * 1024, threads: line("Threads"), files };
}

/** Runs the client, passes on each line that it prints, and resolves with its exit code. */
async function runClient(words, onLine) {
  const child = spawn(join(target, "release/manysocket-bench-client"), words, { stdio: ["ignore", "pipe", "inherit"] });
  pids.push(child.pid);
  let pending = "";
  child.stdout.setEncoding("utf8").on("data", (chunk) => {
    pending += chunk;
    const lines = pending.split("\n");
    pending = lines.pop();
    for (const line of lines) onLine(JSON.parse(line));
  });
  const [code] = await once(child, "close");
  return code;
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

/** Returns the ratio of a server's memory in the last fifth of the samples to that in the second. */
function growth(samples, name) {
  const fifth = Math.max(1, Math.floor(samples.length / 5));
  const of = (part) => median(part.map((sample) => sample[name].rss));
  return of(samples.slice(-fifth)) / of(samples.slice(fifth, 2 * fifth));
}

const folder = await mkdtemp(join(tmpdir(), "manysocket-soak-"));
await cp(join(root, "bench/page"), join(folder, "site"), { recursive: true });
await cp(join(root, "pkg"), join(folder, "site/pkg"), { recursive: true });
await mkdir(join(folder, "data"));

const failures = [];
const expect = (holds, what) => holds || failures.push(what);
const pids = [process.pid];
const begun = performance.now();

const server = await startServer(["--static", join(folder, "site"), "--data", join(folder, "data")]);
const relays = { server: await breakingRelay(server.port, BREAKS.server), upstream: await breakingRelay(server.port, BREAKS.upstream) };
const gateway = await startServer(["--upstream", `/up=ws://127.0.0.1:${relays.upstream.port}/demo`]);
relays.gateway = await breakingRelay(gateway.port, BREAKS.gateway);
const servers = { server, gateway };
const samplesOfAll = async () => Object.fromEntries(await Promise.all(Object.entries(servers).map(async ([name, server]) => [name, await sample(server)])));
const before = await samplesOfAll();

let browser = await Chromium.start();
let page;
const samples = [];
let client = {};
try {
  page = await browser.page(`http://127.0.0.1:${relays.server.port}/soak.html`);
  pids.push(server.pid, gateway.pid, ...(await browser.processes()));
  const cpuBefore = [cpuSeconds(pids), cpuSeconds([server.pid, gateway.pid])];
  const heaps = [];
  let isRunning = true;
  const sampling = (async () => {
    while (isRunning) {
      samples.push({ seconds: (performance.now() - begun) / 1000, ...(await samplesOfAll()) });
      if (samples.length % 12 === 1) {
        heaps.push(await page.heap());
        const { received, violations } = await page.run("now");
        const { server, gateway } = samples.at(-1);
        const memory = [server, gateway].map(({ rss }) => (rss / 2 ** 20).toFixed(1));
        console.log(`${Math.round(client.seconds ?? 0)} s: ${client.received} + ${received} messages, ${client.violations} + ${violations.length} violations, ${memory.join(" and ")} MiB`);
      }
      await new Promise((next) => setTimeout(next, SAMPLES * 1000));
    }
  })();
  const code = await runClient(["soak", `127.0.0.1:${relays.server.port}`, `127.0.0.1:${relays.gateway.port}`, String(seconds)], (line) => (client = line));
  expect(code === 0, `the client ended with ${code}`);
  isRunning = false;
  await sampling;
  const [all, ofServers] = [cpuSeconds(pids) - cpuBefore[0], cpuSeconds([server.pid, gateway.pid]) - cpuBefore[1]];
  const elapsed = client.seconds;

  for (const relay of Object.values(relays)) relay.calm();
  const inPage = await page.run("end");
  expect(inPage.violations.length === 0, `in the page: ${inPage.violations.join("; ")}`);
  await page.close();
  await browser.stop();
  browser = null;
  for (const relay of Object.values(relays)) relay.close();

  // The servers must release everything.
  let after = await samplesOfAll();
  const isEmpty = (name) => ["links", "channels", "held"].every((figure) => after[name][figure] === 0) && after[name].files <= before[name].files;
  for (const since = performance.now(); !Object.keys(servers).every(isEmpty) && performance.now() - since < AFTERMATH; ) {
    await new Promise((next) => setTimeout(next, 500));
    after = await samplesOfAll();
  }
  const growths = {};
  for (const name of Object.keys(servers)) {
    const { links, channels, held, files } = after[name];
    expect(isEmpty(name), `${name} has ${links} links, ${channels} channels, ${held} bytes and ${files - before[name].files} open files left`);
    growths[name] = growth(samples, name);
    expect(seconds < WHOLE || growths[name] < FLAT, `the memory of ${name} has grown by ${growths[name]}`);
  }
  for (const [name, { pid }] of Object.entries(servers)) {
    process.kill(pid, "SIGTERM");
    expect((await servers[name].ended) === 0, `${name} did not end well`);
  }
  const broken = Object.fromEntries(Object.entries(relays).map(([name, { broken }]) => [name, broken]));
  const result = {
    machine: machine(), date: new Date().toISOString().slice(0, 10), seconds: elapsed, every: BREAKS, broken, client, page: { ...inPage, heaps },
    cores: { all: all / elapsed, servers: ofServers / elapsed }, growths, before, after, samples, failures,
  };
  await writeFile(join(target, "soak.json"), JSON.stringify(result));
  const { samples: _, ...told } = result;
  console.log(JSON.stringify(told, null, 1));
  if (seconds >= WHOLE && failures.length === 0) await reportSoak(result);
} finally {
  await browser?.stop();
  for (const { stop } of Object.values(servers)) stop();
  for (const relay of Object.values(relays)) relay.close();
  await rm(folder, { recursive: true, force: true });
}
for (const failure of failures) console.error(`FAILED: ${failure}`);
process.exit(failures.length > 0 ? 1 : 0);

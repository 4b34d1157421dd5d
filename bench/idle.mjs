// Measures idle sockets, in the browser and on the server, and the opens that a server answers in a second.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { cpuSeconds, memory } from "./proc.mjs";
import { startServer } from "./start.mjs";

const COUNT = 10_000;
/** Below the 255 native sockets to a host that Chromium allows. */
const NATIVE = 200;

/** Measures the bytes of an idle socket: on the heap, and in all processes of the browser. */
export async function idleBrowser(browser, page) {
  const result = {};
  for (const [name, count] of [["native", NATIVE], ["manysocket", COUNT]]) {
    // The first round compiles code and grows tables.
    await page.run("hold", name, { count });
    await page.run("release", name);
    const before = [await page.heap(), await total(browser)];
    await page.run("hold", name, { count });
    const after = [await page.heap(), await total(browser)];
    await page.run("release", name);
    result[name] = { sockets: count, heap: (after[0] - before[0]) / count, processes: (after[1] - before[1]) / count };
  }
  await page.close();
  return result;
}

async function total(browser) {
  return (await browser.processes()).reduce((sum, pid) => sum + memory(pid), 0);
}

/** Starts a fresh server. */
async function withServer(target, site, use, env) {
  const { pid, port, stop } = await startServer(target, site, [], env);
  try {
    return await use(pid, `127.0.0.1:${port}`);
  } finally {
    stop();
  }
}

/** Runs the client of bench/client; `onLine` gets each line that it prints, as JSON. */
async function client(target, parameters, onLine) {
  const child = spawn(join(target, "release/manysocket-bench-client"), parameters, { stdio: ["pipe", "pipe", "inherit"] });
  let pending = "";
  for await (const chunk of child.stdout.setEncoding("utf8")) {
    pending += chunk;
    const lines = pending.split("\n");
    pending = lines.pop();
    for (const line of lines) {
      onLine(JSON.parse(line));
      child.stdin.write("\n");
    }
  }
}

/** Measures the memory of a server with idle sockets, over links and native; then sends one message to each. */
export async function idleServer(target, site) {
  const rows = [];
  for (const [kind, links, each] of [["native", 2000, 1], ["virtual", 10, 1000], ["virtual", 100, 1000], ["virtual", 100, 10_000]]) {
    rows.push(await withServer(target, site, async (pid, host) => {
      const before = memory(pid);
      const row = { kind, links, sockets: links * each };
      await client(target, ["idle", host, kind, String(links), String(each)], (line) => {
        if (line.opened) Object.assign(row, { openedMs: line.opened, bytesEach: (memory(pid) - before) / row.sockets });
        if (line.answered) row.answeredMs = line.answered;
      });
      return row;
    }));
  }
  return rows;
}

/** Measures virtual opens per second of one core, including link, router, handler and close. One thread is one core. */
export async function dispatch(target, site) {
  return withServer(target, site, async (pid, host) => {
    const rows = {};
    for (const path of ["/test/echo", "/test/echo-axum"]) {
      const before = cpuSeconds([pid]);
      await client(target, ["opens", host, path, "400000"], (line) => {
        rows[path] = { opensPerSecond: line.opens / (line.ms / 1000), opensPerCoreSecond: line.opens / (cpuSeconds([pid]) - before) };
      });
    }
    return rows;
  }, { TOKIO_WORKER_THREADS: "1" });
}

// Drives headless Chromium by the bare DevTools protocol. Playwright and Puppeteer enable its Network domain, which
// reports every WebSocket frame and costs a native socket more than half of its speed.
import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";

const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--remote-debugging-port=0", "--js-flags=--expose-gc",
  // For runs over TLS.
  "--ignore-certificate-errors",
];

/** A connection to one target. */
class Session {
  #socket;
  #waiting = new Map();
  #last = 0;

  static async open(url) {
    const session = new Session();
    session.#socket = new WebSocket(url, { maxPayload: 0 });
    session.#socket.on("message", (data) => {
      const { id, result, error } = JSON.parse(data);
      const waiting = session.#waiting.get(id);
      session.#waiting.delete(id);
      if (error) waiting?.reject(new Error(error.message));
      else waiting?.resolve(result);
    });
    await new Promise((resolve, reject) => session.#socket.once("open", resolve).once("error", reject));
    return session;
  }

  call(method, params = {}) {
    const id = ++this.#last;
    this.#socket.send(JSON.stringify({ id, method, params }));
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  close() {
    this.#socket.terminate();
  }
}

export class Chromium {
  #folder;
  #child;
  #port;

  static async start() {
    const browser = new Chromium();
    browser.#folder = await mkdtemp(join(tmpdir(), "manysocket-bench-"));
    const program = process.env.CHROMIUM ?? "/usr/bin/chromium";
    browser.#child = spawn(program, [...FLAGS, `--user-data-dir=${browser.#folder}`, "about:blank"], { stdio: ["ignore", "ignore", "pipe"] });
    browser.#port = await new Promise((resolve, reject) => {
      let printed = "";
      browser.#child.stderr.on("data", (chunk) => {
        printed += chunk;
        const found = /DevTools listening on ws:\/\/[^:]+:(\d+)/.exec(printed);
        if (found) resolve(Number(found[1]));
      });
      browser.#child.once("error", reject).once("exit", () => reject(new Error(`Chromium ended:\n${printed}`)));
    });
    return browser;
  }

  /** @returns {Promise<string>} such as `Chrome/156.0.1` */
  async version() {
    return (await (await fetch(`http://127.0.0.1:${this.#port}/json/version`)).json()).Browser;
  }

  /** Opens a page and waits until its `bench` function is there. */
  async page(url) {
    const target = await (await fetch(`http://127.0.0.1:${this.#port}/json/new?${encodeURIComponent(url)}`, { method: "PUT" })).json();
    const session = await Session.open(target.webSocketDebuggerUrl);
    const evaluate = async (expression) => {
      const { result, exceptionDetails } = await session.call("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
      if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
      return result.value;
    };
    // The target may still be the initial empty page.
    while (!(await evaluate("typeof bench === 'function'").catch(() => false))) await new Promise((next) => setTimeout(next, 20));
    return {
      /** Runs a workload of bench/page/workloads.js. */
      run: (workload, contestant, options = {}) =>
        evaluate(`bench(${JSON.stringify(workload)}, ${JSON.stringify(contestant)}, ${JSON.stringify(options)})`),
      /** Returns the bytes in use on the page's JavaScript heap, after a collection. */
      heap: async () => {
        await session.call("HeapProfiler.collectGarbage");
        const { usedSize, backingStorageSize = 0 } = await session.call("Runtime.getHeapUsage");
        return usedSize + backingStorageSize;
      },
      close: async () => {
        session.close();
        await fetch(`http://127.0.0.1:${this.#port}/json/close/${target.id}`);
      },
    };
  }

  /** Returns the processes of the browser. @returns {Promise<number[]>} */
  async processes() {
    const all = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
    const ours = await Promise.all(all.map(async (pid) => {
      const line = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      return line.includes(this.#folder) || Number(pid) === this.#child.pid;
    }));
    const direct = all.filter((_, at) => ours[at]).map(Number);
    return descendants(direct, all.map(Number));
  }

  async stop() {
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await ended;
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}

/** Also finds renderers: the process that forks them has no profile folder in its command line. */
async function descendants(roots, all) {
  const parents = new Map();
  for (const pid of all) {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
    parents.set(pid, Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
  }
  const known = new Set(roots);
  for (let grown = true; grown; ) {
    grown = false;
    for (const [pid, parent] of parents) {
      if (!known.has(pid) && known.has(parent)) grown = known.add(pid) !== null;
    }
  }
  return [...known];
}

// Networks that go away without a word, and machines that stand still: docs/faults.md has the promises.
import assert from "node:assert/strict";
import { execFile, execFileSync, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { makeSite, removeSite, runInPage, startBrowser, startServer, until } from "../harness/index.js";

/** How often a link says something, in milliseconds; the default is 25 s. */
const INTERVAL = 300;

const site = await makeSite();
after(() => removeSite(site));

const start = () => startServer(site, { kind: "test", more: ["--ping-interval", String(INTERVAL)] });

/** Opens a socket in a page; records its events in `events` and its messages in `echoes`. */
function openSocket(page) {
  return runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.M ??= new MultiWebSocket("/multiplexer");
    globalThis.socket = new M.WebSocket("/test/echo");
    globalThis.events = [];
    globalThis.echoes = [];
    for (const type of ["open", "error", "close"]) socket.addEventListener(type, ({ code }) => events.push(code ?? type));
    socket.addEventListener("message", ({ data }) => echoes.push(data));
    await new Promise((resolve) => socket.addEventListener("open", resolve));
    socket.send("hello");
    await new Promise((resolve) => socket.addEventListener("message", resolve));
  });
}

/** Makes two machines with a wire between them; `null` where that is impossible. */
function wire() {
  const ends = [1, 2].map((number) => ({ namespace: `manysocket-${process.pid}-${number}`, device: `wire${number}`, address: `10.77.0.${number}` }));
  const ip = (...words) => execFileSync("ip", words, { stdio: "pipe" });
  const inside = ({ namespace }, ...words) => ip("-netns", namespace, ...words);
  const remove = () => ends.forEach(({ namespace }) => execFileSync("ip", ["netns", "delete", namespace], { stdio: "ignore" }));
  const [one, two] = ends;
  try {
    for (const { namespace } of ends) ip("netns", "add", namespace);
    ip("link", "add", one.device, "netns", one.namespace, "type", "veth", "peer", "name", two.device, "netns", two.namespace);
    for (const end of ends) {
      inside(end, "address", "add", `${end.address}/24`, "dev", end.device);
      for (const device of ["lo", end.device]) inside(end, "link", "set", device, "up");
    }
  } catch {
    return null;
  }
  const neighbours = (act) => [[one, two], [two, one]].forEach(([end, other]) => act(end, other));
  return {
    server: one,
    page: two,
    /** Drops everything silently: packets go to a network card that nobody has. */
    cut: () => neighbours((end, other) => inside(end, "neighbour", "replace", other.address, "lladdr", "02:00:00:00:00:09", "dev", end.device, "nud", "permanent")),
    mend: () => neighbours((end, other) => inside(end, "neighbour", "delete", other.address, "dev", end.device)),
    /** The words that run a program there. */
    there: ({ namespace }) => ["ip", "netns", "exec", namespace],
    remove,
  };
}

describe("faults", { concurrency: true }, () => {
  test("a network that goes away is found out at both ends, and once it is back the next socket works", async (t) => {
    const net = wire();
    if (net === null) return t.skip("network namespaces need root and iproute2 (`apt-get install iproute2`)");
    t.after(net.remove);
    const folder = await mkdtemp(join(tmpdir(), "manysocket-faults-"));
    t.after(() => rm(folder, { recursive: true }));
    const server = await startServer(site, {
      kind: "test", listen: `${net.server.address}:0`, more: ["--ping-interval", String(INTERVAL)], within: net.there(net.server),
    });
    t.after(() => server.stop());
    const program = join(folder, "chromium");
    await writeFile(program, `#!/bin/sh\nexec ${net.there(net.page).join(" ")} ${process.env.CHROMIUM ?? "/usr/bin/chromium"} "$@"\n`, { mode: 0o755 });
    const browser = await startBrowser(program);
    t.after(() => browser.close());
    const page = await browser.newPage();
    await page.goto(server.origin);
    await openSocket(page);
    const stats = async () => {
      const code = `fetch("${server.origin}/demo/stats").then((answer) => answer.text()).then(console.log)`;
      const [ip, ...words] = net.there(net.server);
      const { stdout } = await promisify(execFile)(ip, [...words, process.execPath, "--eval", code]);
      return JSON.parse(stdout);
    };
    assert.deepEqual(await stats(), { physical: 1, virtual: 1 });

    net.cut();
    const begun = performance.now();
    await Promise.all([
      until("the page's end", async () => (await runInPage(page, () => events.length)) === 3),
      until("the server's end", async () => (await stats()).virtual === 0),
    ]);
    assert.ok(performance.now() - begun > 10_000, "not before it was certain");
    assert.deepEqual(await runInPage(page, () => events), ["open", "error", 1006]);
    // It waits for the answer to its close, for five seconds.
    await until("the link's end", async () => (await stats()).physical === 0);

    net.mend();
    await openSocket(page);
    assert.deepEqual(await runInPage(page, () => [events, echoes]), [["open"], ["hello"]]);
  });

  test("a server that stands still for some intervals, and goes on, has lost nothing", async (t) => {
    const server = await start();
    t.after(() => server.stop());
    const browser = await startBrowser();
    t.after(() => browser.close());
    const page = await browser.newPage();
    await page.goto(server.origin);
    await openSocket(page);
    server.pause();
    await runInPage(page, () => ["a", "b", "c"].forEach((text) => socket.send(text)));
    await page.waitForTimeout(10 * INTERVAL);
    server.resume();
    await until("the echoes", () => runInPage(page, () => echoes.length === 4));
    // It has found its timers long overdue, and asks before it believes them.
    await page.waitForTimeout(10 * INTERVAL);
    assert.deepEqual(await runInPage(page, () => [events, echoes]), [["open"], ["hello", "a", "b", "c"]]);
  });

  test("a client that stands still for long finds its sockets lost when it goes on, and opens others", async (t) => {
    const server = await start();
    t.after(() => server.stop());
    const code = `
      import { WebSocket } from "ws";
      globalThis.WebSocket = class extends WebSocket {
        constructor(url, protocols) {
          super(url, protocols, { headers: { Origin: "${server.origin}" } });
        }
      };
      const { MultiWebSocket } = await import(${JSON.stringify(new URL("../../pkg/index.js", import.meta.url))});
      const M = new MultiWebSocket("${server.origin.replace("http", "ws")}/multiplexer", { idleTimeout: 0 });
      for (const word of ["first", "second"]) {
        const socket = new M.WebSocket("${server.origin.replace("http", "ws")}/test/echo");
        socket.onopen = () => socket.send(word);
        socket.onmessage = ({ data }) => (console.log(data), word === "second" && socket.close());
        console.log((await new Promise((resolve) => (socket.onclose = resolve))).code);
      }`;
    const client = spawn(process.execPath, ["--input-type=module", "--eval", code], { cwd: fileURLToPath(new URL("..", import.meta.url)), stdio: ["ignore", "pipe", "inherit"] });
    t.after(() => client.kill("SIGKILL"));
    let output = "";
    client.stdout.setEncoding("utf8").on("data", (chunk) => (output += chunk));
    await until("the first echo", () => output === "first\n");
    client.kill("SIGSTOP");
    await until("the server's end", async () => (await server.stats()).virtual === 0);
    client.kill("SIGCONT");
    await until("the end", () => client.exitCode !== null);
    assert.equal(output, "first\n1006\nsecond\n1005\n");
    await until("the line in the log", () => server.output().includes("link closed"));
  });
});

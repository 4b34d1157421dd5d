// Networks that go away without a word, and machines that stand still: docs/faults.md has the promises.
import assert from "node:assert/strict";
import { execFile, execFileSync, spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
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
function openSocket(page, options = { resume: false }) {
  return runInPage(page, async (options) => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    globalThis.M ??= new MultiWebSocket("/multiplexer", options);
    globalThis.socket = new M.WebSocket("/test/echo");
    globalThis.events = [];
    globalThis.echoes = [];
    for (const type of ["open", "error", "close"]) socket.addEventListener(type, ({ code }) => events.push(code ?? type));
    socket.addEventListener("message", ({ data }) => echoes.push(data));
    await new Promise((resolve) => socket.addEventListener("open", resolve));
    socket.send("hello");
    await new Promise((resolve) => socket.addEventListener("message", resolve));
  }, options);
}

let wires = 0;

/** Makes two machines with a wire between them; `null` where that is impossible. */
function wire() {
  wires++;
  const ends = [1, 2].map((number) => ({ namespace: `manysocket-${process.pid}-${wires}-${number}`, device: `wire${number}`, address: `10.77.0.${number}` }));
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
    /** Gives the page's machine another address, as another network does. */
    move() {
      inside(two, "address", "delete", `${two.address}/24`, "dev", two.device);
      inside(two, "address", "add", "10.77.0.3/24", "dev", two.device);
    },
    mend: () => neighbours((end, other) => inside(end, "neighbour", "delete", other.address, "dev", end.device)),
    /** The words that run a program there. */
    there: ({ namespace }) => ["ip", "netns", "exec", namespace],
    remove,
  };
}

/** Starts a server and a page on two machines; `null` where that is impossible. */
async function apart(t) {
  const net = wire();
  if (net === null) {
    t.skip("network namespaces need root and iproute2 (`apt-get install iproute2`)");
    return null;
  }
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
  return { net, server, page };
}

/** Waits until the link has been interrupted, or resumed, so many times. */
const awaitLink = (page, type, times) => until(type, () => runInPage(page, ([type, times]) => happened.filter((event) => event === type).length >= times, [type, times]));

const listen = (page) =>
  runInPage(page, () => {
    globalThis.happened = [];
    for (const type of ["open", "interrupted", "resumed", "close", "online"]) {
      (type === "online" ? globalThis : M).addEventListener(type, () => happened.push(type));
    }
  });

describe("faults", { concurrency: true }, () => {
  test("a network that goes away and comes back in time loses nothing, also under another address", async (t) => {
    const machines = await apart(t);
    if (machines === null) return;
    const { net, page } = machines;
    await openSocket(page, {});
    await listen(page);
    net.cut();
    await runInPage(page, () => socket.send("into nothing"));
    await awaitLink(page, "interrupted", 1);
    await runInPage(page, () => socket.send("meanwhile"));
    net.mend();
    await until("both echoes", () => runInPage(page, () => echoes.length >= 3));

    net.move();
    await runInPage(page, () => socket.send("from elsewhere"));
    await until("the echo", () => runInPage(page, () => echoes.length >= 4));
    const seen = await runInPage(page, () => [events, echoes, happened.includes("close")]);
    assert.deepEqual(seen, [["open"], ["hello", "into nothing", "meanwhile", "from elsewhere"], false]);
  });

  test("a network that goes away is found out at both ends, and once it is back the next socket works", async (t) => {
    const machines = await apart(t);
    if (machines === null) return;
    const { net, server, page } = machines;
    await openSocket(page);
    const stats = async () => {
      const code = `fetch("${server.origin}/demo/stats").then((answer) => answer.text()).then(console.log)`;
      const [ip, ...words] = net.there(net.server);
      const { stdout } = await promisify(execFile)(ip, [...words, process.execPath, "--eval", code]);
      return JSON.parse(stdout);
    };
    assert.deepEqual(await stats(), { physical: 1, virtual: 1, parked: 0 });

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

  test("a browser that is suspended goes on where it was, or finds its sockets lost after the time that the server has announced", async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "manysocket-faults-"));
    t.after(() => rm(folder, { recursive: true }));
    const server = await startServer(site, { kind: "test", more: ["--ping-interval", String(INTERVAL), "--resume", "5"] });
    t.after(() => server.stop());
    // Playwright does not say which process it has started.
    const [program, note] = [join(folder, "chromium"), join(folder, "process")];
    await writeFile(program, `#!/bin/sh\necho $$ > ${note}\nexec ${process.env.CHROMIUM ?? "/usr/bin/chromium"} "$@"\n`, { mode: 0o755 });
    const browser = await startBrowser(program);
    t.after(() => browser.close());
    // Playwright starts it in a separate process group, with all its processes.
    const group = -Number(await readFile(note, "utf8"));
    const page = await browser.newPage();
    await page.goto(server.origin);
    await openSocket(page, {});
    await listen(page);

    process.kill(group, "SIGSTOP");
    await until("the link waits for its client", async () => (await server.stats()).parked === 1);
    process.kill(group, "SIGCONT");
    await runInPage(page, () => socket.send("after a nap"));
    await until("the echo", () => runInPage(page, () => echoes.length === 2));
    assert.deepEqual(await runInPage(page, () => [events, echoes, happened.includes("resumed")]), [["open"], ["hello", "after a nap"], true]);

    process.kill(group, "SIGSTOP");
    await until("the server's end", async () => (await server.stats()).virtual === 0);
    process.kill(group, "SIGCONT");
    await until("the end", () => runInPage(page, () => events.length > 1));
    assert.deepEqual(await runInPage(page, () => events), ["open", 1006]);
    await openSocket(page, {});
    assert.deepEqual(await runInPage(page, () => [events, echoes]), [["open"], ["hello"]]);
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
      const M = new MultiWebSocket("${server.origin.replace("http", "ws")}/multiplexer", { idleTimeout: 0, resume: false });
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

// Each package below examples/ runs, and its page works.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { startBrowser } from "../harness/browser.js";
import { repository, startProgram } from "../harness/index.js";

const folder = process.env.MANYSOCKET_EXAMPLES ?? `${repository}target/debug`;
const browser = await startBrowser();
after(() => browser.close());

/** Starts an example, and opens its page as often as is wanted; the pages count the WebSockets that the browser made. */
async function open(t, name, { pages = 1, words = [] } = {}) {
  const server = await startProgram(`${folder}/example-${name}`, ["127.0.0.1:0", ...words]);
  t.after(() => server.kill());
  return Promise.all(Array.from({ length: pages }, async () => {
    const page = await browser.newPage();
    page.sockets = 0;
    page.on("websocket", () => page.sockets++);
    await page.goto(server.origin);
    return page;
  }));
}

const TIMEOUT = { timeout: 60_000 };

test("echo", TIMEOUT, async (t) => {
  const [page] = await open(t, "echo");
  await page.waitForFunction(() => document.querySelector("#log").textContent.split("\n").length > 200);
  const log = await page.textContent("#log");
  for (const line of ["1: this is 1", "100: this is 100", "100: hello"]) assert.ok(log.split("\n").includes(line), line);
  assert.equal(page.sockets, 1);
});

test("chat", TIMEOUT, async (t) => {
  const [ada, bob] = await open(t, "chat", { pages: 2 });
  const isOpen = (page) => page.waitForSelector("button:enabled");
  await Promise.all([isOpen(ada), isOpen(bob)]);
  await ada.fill("#text", "hello");
  await ada.press("#text", "Enter");
  await bob.waitForSelector("li:text-is('hello')");
  await bob.fill("#room", "another");
  await bob.press("#room", "Tab");
  await isOpen(bob);
  await bob.fill("#text", "anybody?");
  await bob.press("#text", "Enter");
  await bob.waitForSelector("li:text-is('anybody?')");
  assert.deepEqual(await ada.locator("li").allTextContents(), ["hello"]);
  assert.equal(bob.sockets, 1);
});

test("spreadsheet", TIMEOUT, async (t) => {
  const [ada, bob] = await open(t, "spreadsheet", { pages: 2 });
  await bob.waitForSelector("[aria-label='plans B2']");
  await ada.fill("[aria-label='plans B2']", "42");
  await ada.press("[aria-label='plans B2']", "Tab");
  await bob.waitForFunction(() => document.querySelector("[aria-label='plans B2']").value === "42");
  assert.equal(await bob.inputValue("[aria-label='costs B2']"), "");
  assert.equal(bob.sockets, 1);
});

test("typed-calls", TIMEOUT, async (t) => {
  const [page] = await open(t, "typed-calls");
  await page.click("text=Add");
  await page.waitForSelector("#log:text('a task needs a title')");
  await page.fill("#title", "sleep");
  await page.check("#high");
  await page.press("#title", "Enter");
  await page.waitForSelector("li:text-is('sleep!')");
  await page.click("#countdown");
  await page.waitForSelector("#log:text-is('0')");
  assert.equal(page.sockets, 1);
});

test("behind-auth", TIMEOUT, async (t) => {
  const [page] = await open(t, "behind-auth");
  await page.waitForSelector("#log:text-is('not logged in')");
  await page.fill("#name", "ada");
  await page.press("#name", "Enter");
  await page.waitForSelector("#log:text-is('hello ada')");
  assert.equal(page.sockets, 2);
});

test("gateway", TIMEOUT, async (t) => {
  // The example's own backend, in a folder where it finds the package `ws`, on a free port.
  const program = await readFile(`${repository}examples/gateway/backend.mjs`, "utf8");
  const words = ["--input-type=module", "--eval", program, "--", "backend.mjs", "0"];
  const backend = await startProgram(process.execPath, words, { cwd: `${repository}tests` });
  t.after(() => backend.kill());
  const [page] = await open(t, "gateway", { words: [backend.origin] });
  await page.waitForFunction(() => document.querySelector("#log").textContent.split("\n").length > 3);
  assert.deepEqual((await page.textContent("#log")).trim().split("\n").sort(), ["ada", "bob", "cyd"].map((name) => `${name} got: ${name} says hello`));
  assert.equal(page.sockets, 1);
});

/** A nats-server on a free port; its URL. */
/** Starts a nats-server: returns its URL, and functions that kill it and start it again with its data. */
async function startNats(t) {
  const folder = await mkdtemp(join(tmpdir(), "manysocket-nats-"));
  let nats;
  const start = async (port) => {
    nats = spawn("nats-server", ["--addr", "127.0.0.1", "--port", port, "-js", "-sd", folder], { stdio: ["ignore", "ignore", "pipe"] });
    let log = "";
    for (;;) {
      const [chunk] = await once(nats.stderr, "data");
      const address = /Listening for client connections on (\S+)/.exec(log += chunk)?.[1];
      if (address) return address;
    }
  };
  const kill = async () => {
    nats.kill("SIGKILL");
    await once(nats, "exit");
  };
  t.after(async () => {
    await kill();
    await rm(folder, { recursive: true });
  });
  const address = await start("-1");
  const restart = async () => {
    await kill();
    await start(new URL(`tcp://${address}`).port);
  };
  return { url: `nats://${address}`, restart };
}

const noNats = spawnSync("nats-server", ["--version"]).error && "there is no nats-server here";

test("two-nodes", { ...TIMEOUT, skip: noNats }, async (t) => {
  const nats = await startNats(t);
  const [[ada], [bob]] = [await open(t, "two-nodes", { words: [nats.url, "counter"] }), await open(t, "two-nodes", { words: [nats.url] })];
  for (const round of ["at first", "after NATS was killed"]) {
    // Each page is at another server: the offer needs time to be known there, and is made again after a restart.
    const counted = await bob.evaluate(() => Number(document.querySelector("#answer").value));
    await bob.waitForFunction((counted) => {
      const answer = Number(document.querySelector("#answer").value);
      if (!(answer > counted)) document.querySelector("#count").click();
      return answer > counted;
    }, counted || 0, { polling: 20 });
    await ada.waitForSelector("li:text-matches('somebody counted to')");
    await ada.fill("#text", `hello ${round}`);
    await ada.press("#text", "Enter");
    await bob.waitForSelector(`li:text-is('hello ${round}')`);
    await ada.click("#count");
    await ada.waitForFunction((counted) => Number(document.querySelector("#answer").value) > counted, counted || 0);
    await ada.fill("#note", `for both ${round}`);
    await bob.waitForFunction((note) => document.querySelector("#note").value === note, `for both ${round}`);
    await bob.fill("#note", `for all ${round}`);
    await ada.waitForFunction((note) => document.querySelector("#note").value === note, `for all ${round}`);
    if (round === "at first") await nats.restart();
  }
  assert.equal(ada.sockets + bob.sockets, 2);
});

// Replicas in Rust programs and in a page share a document, over connections that a relay cuts: they converge.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { repository, runInPage, startRelay, startWorld, until } from "../harness/index.js";

const folder = process.env.MANYSOCKET_EXAMPLES ?? `${repository}target/debug`;
const LINES = 20;

// Links end with their connections, so that replicas must resume.
const world = await startWorld({ more: ["--resume", "0"] });
after(() => world.close());

/** Starts the example; `lines` is the list that it has printed last. */
function startProgram(t, origin, name) {
  const words = [`${origin.replace("http", "ws")}/multiplexer`, "/demo/state/replicas", name, String(LINES)];
  const child = spawn(`${folder}/example-replica`, words, { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill());
  const program = { lines: [] };
  createInterface(child.stdout).on("line", (line) => (program.lines = JSON.parse(line)));
  return program;
}

test("two Rust programs and a page converge, whatever is cut", { timeout: 60_000 }, async (t) => {
  const relay = await startRelay(world.server.origin);
  t.after(() => relay.close());
  const page = await world.browser.newPage();
  const uncaught = [];
  page.on("pageerror", (error) => uncaught.push(error.message));
  await page.goto(relay.origin);
  await runInPage(page, async () => {
    const { state } = await import("/pkg/state.js");
    globalThis.list = await state("/demo/state/replicas", { WebSocket });
    list.data.lines = [];
    await list.commit();
  });
  const programs = ["Ada", "Bob"].map((name) => startProgram(t, relay.origin, name));
  for (let number = 0; number < LINES; number++) {
    await runInPage(page, async (line) => {
      list.data.lines = [...list.data.lines, line];
      await list.commit();
    }, `page ${number}`);
    if (number % 5 === 0) relay.cut();
  }
  await until("all lines", () => programs.every(({ lines }) => lines.length === 3 * LINES));
  const lines = await runInPage(page, () => list.data.lines);
  for (const program of programs) assert.deepEqual(program.lines, lines);
  const expected = ["Ada", "Bob", "page"].flatMap((name) => Array.from({ length: LINES }, (_, number) => `${name} ${number}`));
  assert.deepEqual([...lines].sort(), expected.sort());
  assert.ok(relay.cuts > 0);
  assert.deepEqual(uncaught, []);
});

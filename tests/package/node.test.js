// The package in Node.js, over its own WebSocket (a global from version 22 on) and over that of the package `ws`.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { makeSite, removeSite, startServer } from "../harness/index.js";

const site = await makeSite();
after(() => removeSite(site));

const PROGRAM = fileURLToPath(new URL("client.mjs", import.meta.url));
// Longer than any of the programs runs, shorter than the suite's timeout.
const PATIENCE = 60_000;

/** Runs the program; `onLine` sees each of its lines. Resolves with all of them when the program has ended. */
async function run(words, onLine = () => {}) {
  const flags = typeof WebSocket === "undefined" ? ["--experimental-websocket"] : [];
  const child = spawn(process.execPath, [...flags, ...words], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (chunk) => {
      output += chunk;
      chunk.split("\n").forEach(onLine);
    });
  }
  const late = setTimeout(() => child.kill("SIGKILL"), PATIENCE);
  const [code, signal] = await once(child, "close");
  clearTimeout(late);
  assert.deepEqual([code, signal], [0, null], output);
  return output.split("\n").filter((line) => line !== "" && !line.includes("ExperimentalWarning") && !line.includes("--trace-warnings"));
}

const ROUND = ["grüße", "1,2,3", "2100000", "blob", "49", "CloseEvent true 3000 bye true", "CloseEvent true 3001 bye true"];

for (const [name, which] of [["Node's own WebSocket", "global"], ["the package ws", "ws"]]) {
  test(`over ${name}: opens, sends, receives, closes, and the process ends`, async (t) => {
    const server = await startServer(site);
    t.after(() => server.stop());
    // The second round goes to another origin, natively, and the console has a note about it.
    const lines = await run([PROGRAM, server.origin, which, "echo"]);
    const [note] = lines.splice(ROUND.length, 1);
    assert.match(note, /^manysocket: sockets outside of ws:\/\/127\.0\.0\.1:\d+\/ are native\. /);
    assert.deepEqual(lines, [...ROUND, ...ROUND, "end of the program"]);
  });

  test(`over ${name}: JSON, and relative to a base`, async (t) => {
    const server = await startServer(site);
    t.after(() => server.stop());
    const lines = await run([PROGRAM, server.origin, which, "json"]);
    assert.deepEqual(lines, [...Array(2).fill('message {"a":["ü"]}'), "error SyntaxError {", "close 3000 true", "end of the program"]);
  });

  test(`over ${name}: a process whose server has gone sees \`close\` before it ends`, async (t) => {
    const server = await startServer(site);
    t.after(() => server.stop());
    const lines = await run([PROGRAM, server.origin, which, "cut"], (line) => line === "open" && server.kill());
    assert.deepEqual(lines, ["open", "close 1006 false", "end of the program"]);
  });
}

test("without a WebSocket it can be imported, and its errors name the missing class", async () => {
  const entry = new URL("../../pkg/index.js", import.meta.url);
  const code = `delete globalThis.WebSocket;
    const { JsonWebSocket, MultiWebSocket, RelativeWebSocket } = await import(${JSON.stringify(entry)});
    for (const Class of [MultiWebSocket, RelativeWebSocket, JsonWebSocket]) {
      try { new Class("ws://localhost/"); } catch (error) { console.log(String(error)); }
    }
    try { new RelativeWebSocket("chat"); } catch (error) { console.log(error.message); }`;
  const [multi, relative, json, base] = await run(["--input-type=module", "--eval", code]);
  assert.match(multi, /^TypeError: Failed to construct 'MultiWebSocket': No WebSocket: set globalThis/);
  for (const line of [relative, json]) assert.match(line, /^TypeError: Failed to construct 'WebSocket': There was no WebSocket when this/);
  assert.match(base, /The URL 'chat' is not absolute, and 'undefined' cannot be the base of a relative one/);
});

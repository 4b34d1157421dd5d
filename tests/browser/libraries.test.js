// Well-known libraries run unmodified over `M.WebSocket`, through the gateway, with their own servers.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { build } from "esbuild";
import { makeSite, repository, startServer } from "../harness/index.js";
import { startBrowser } from "../harness/browser.js";

const site = await makeSite();
await build({
  entryPoints: [fileURLToPath(new URL("../libraries/page.js", import.meta.url))],
  outdir: join(site, "libraries"),
  bundle: true,
  splitting: true,
  format: "esm",
  external: ["/pkg/index.js"],
  define: { "process.env.NODE_ENV": '"production"' },
  logLevel: "warning",
});
const program = fileURLToPath(new URL("../libraries/servers.js", import.meta.url));
const upstreams = spawn(process.execPath, [program], { stdio: ["ignore", "pipe", "inherit"] });
const [options] = await once(upstreams.stdout, "data");
const server = await startServer(site, { more: JSON.parse(options) });
const browser = await startBrowser();
after(async () => {
  await browser.close();
  await server.stop();
  upstreams.kill();
});

const EXPECTED = {
  "reconnecting-websocket": ["connection 1", 4000, "connection 2"],
  "graphql-ws": [[{ count: 1 }, { count: 2 }, { count: 3 }, { count: 4 }], [{ hello: "world" }]],
  "y-websocket": [true, 12],
  "@hocuspocus/provider": [true, 12],
  "@trpc/client": ["world", [1, 2, 3, 4]],
  partysocket: ["connection 1", 4000, "connection 2"],
  mqtt: ["rooms/1", "hello"],
  "@stomp/stompjs": "hello",
  phoenix: [{ text: "hello" }, { text: "hello" }],
  centrifuge: { text: "hello" },
  "@microsoft/signalr": [5, "Add"],
  rxjs: [{ n: 1 }, { n: 2 }, { n: 3 }],
  "socket.io-client": ["hello", 5, [1, 2, 3]],
};

for (const [library, expected] of Object.entries(EXPECTED)) {
  test(library, { timeout: 60_000 }, async () => {
    const page = await browser.newPage();
    const physical = [];
    page.on("websocket", (socket) => physical.push(new URL(socket.url()).pathname));
    await page.goto(server.origin);
    const result = await page.evaluate(async (library) => {
      const { jobs } = await import("/libraries/page.js");
      return jobs[library]();
    }, library);
    assert.deepEqual(result, expected);
    assert.deepEqual(physical, ["/multiplexer"], "all of it over one connection");
    await page.close();
  });
}

test("docs/adopt.md names these libraries", async () => {
  const text = await readFile(join(repository, "docs/adopt.md"), "utf8");
  const named = [...text.matchAll(/^\| \[([^\]]+)\]\(https:\/\/www\.npmjs\.com\/package\/\1\)/gm)].map(([, name]) => name);
  assert.deepEqual(named.sort(), Object.keys(EXPECTED).sort());
});

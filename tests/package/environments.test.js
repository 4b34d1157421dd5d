// The packed package in the environments that its users have: built by each bundler, run in Chromium against the real server.
// docs/environments.md has the table of passed environments; `MANYSOCKET_WRITE=1` writes it.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import * as vite from "vite";
import { BLANK_PAGE, repository, startWorld } from "../harness/index.js";
import { bundlers } from "./bundlers.js";
import { makeProject, run } from "./project.js";

const { folder } = await makeProject();
await cp(fileURLToPath(new URL("app", import.meta.url)), join(folder, "app"), { recursive: true });
const world = await startWorld({ site: folder });
after(() => world.close());
await writeFile(join(folder, "blank.html"), BLANK_PAGE);
const { origin } = world.server;

// ---- the table ----

const table = [];
let missing = false;
let wanted = 0;

/** A test that is a row of the table; `how` is the way the package is taken in. */
function environment(name, how, code, skip = false) {
  if (skip) missing = skip;
  wanted++;
  test(`${name}: ${how}`, { timeout: 120_000, skip }, async (t) => {
    await code(t);
    table.push(`| ${name} | ${how} |`);
  });
}

const modules = fileURLToPath(new URL("node_modules", import.meta.url));
const version = (name, among = modules) => JSON.parse(readFileSync(join(among, name, "package.json"))).version;

// ---- pages ----

const RESULT = { echoes: ["one", "zwölf"], json: { a: [1] }, sum: 5, state: true };

/** Writes a page with a script, and opens it; `init` runs before the page's own scripts. */
async function open(script, { head = "", type = "module", init } = {}) {
  const file = `${script.replaceAll("/", "-")}-${++pages}.html`;
  const how = type === "module" ? 'type="module"' : type;
  await writeFile(join(folder, file), `<!doctype html><html lang=en><meta charset=utf-8><title>${file}</title>${head}\n<script ${how} src="${script}"></script>`);
  return visit(`${origin}/${file}`, init);
}
let pages = 0;

async function visit(url, init = () => {}) {
  const page = await world.browser.newPage();
  page.uncaught = [];
  page.sockets = 0;
  page.on("pageerror", (error) => page.uncaught.push(error.message));
  page.on("websocket", (socket) => new URL(socket.url()).pathname === "/multiplexer" && page.sockets++);
  await page.addInitScript(init);
  await page.goto(url);
  return page;
}

/** Checks that the page's job ended well; `virtual`: over the multiplexer, `isShared`: over a shared worker. */
async function works(page, { virtual = true, isShared = false } = {}) {
  const { virtual: count, ...rest } = await page
    .waitForFunction(() => globalThis.result, undefined, { timeout: 60_000 })
    .then(() => page.evaluate(() => globalThis.result))
    .catch((error) => assert.fail(`${error.message}\n${page.uncaught}`));
  assert.deepEqual(rest, RESULT);
  assert.equal(count > 0, virtual, "whether the sockets are virtual");
  // A worker's are not the page's.
  if (isShared) assert.equal(page.sockets, 0, "the connection is in a shared worker");
  await page.close();
}

const SHARED = { "shared.js": "default entry, `{ shared: true }`" };
const NAMES = ["index", "manual", "rpc", "state"];
const imports = Object.fromEntries(NAMES.map((name) => [name === "index" ? "manysocket" : `manysocket/${name}`, `/node_modules/manysocket/${name}.js`]));
const map = `<script type="importmap">${JSON.stringify({ imports })}</script>`;

environment("a page without a bundler", "default entry, import map", async () => works(await open("app/main.js", { head: map })));
environment("a page without a bundler", "manual entry, wasm by `fetch`", async () => works(await open("app/manual-fetch.js", { head: map })));
environment("a page without a bundler", SHARED["shared.js"], async () => works(await open("app/shared.js", { head: map }), { isShared: true }));

/** The builds of each bundler: the pages, their way to import the package, and the files that other tests need. */
const BUNDLED = {
  vite: { pages: { "main.js": "default entry", "manual-url.js": "manual entry, wasm by `?url`", "dedicated.js": "default entry, in a worker", ...SHARED } },
  webpack: {
    pages: { "main.js": "default entry", "manual-asset.js": "manual entry, wasm by `new URL(…)`", "dedicated.js": "default entry, in a worker", ...SHARED },
    type: "defer",
  },
  rollup: { pages: { "main.js": "default entry" } },
  esbuild: { pages: { "main.js": "default entry", "manual-bytes.js": "manual entry, wasm by the loader `binary`" }, others: ["fallback.js", "worker.js"] },
  parcel: { pages: { "main.js": "default entry", "dedicated.js": "default entry, in a worker", ...SHARED } },
};

for (const [name, { pages, others = [], type }] of Object.entries(BUNDLED)) {
  // Once for all its pages, in the first test that wants it.
  let built;
  const build = () => (built ??= bundlers[name]({ folder, entries: [...Object.keys(pages), ...others], out: name }));
  const among = name === "esbuild" ? join(repository, "tests/node_modules") : modules;
  for (const [file, how] of Object.entries(pages)) {
    environment(`${name} ${version(name, among)}`, how, async () => {
      await build();
      await works(await open(`${name}/${file}`, { type }), { isShared: file in SHARED });
    });
  }
}

/** Starts the development server after the pages exist: files that it finds later make it reload pages. */
let development;
after(async () => (await development)?.close());
async function develop() {
  for (const file of Object.keys(BUNDLED.vite.pages)) await writeFile(join(folder, `dev-${file}.html`), `<!doctype html><meta charset=utf-8><script type="module" src="/app/${file}"></script>`);
  const proxy = Object.fromEntries(["/multiplexer", "/demo"].map((path) => [path, { target: origin, ws: true }]));
  const server = await vite.createServer({
    configFile: false, root: folder, logLevel: "silent", optimizeDeps: { entries: ["dev-*.html"] },
    server: { host: "127.0.0.1", port: 0, proxy },
  });
  return server.listen();
}
for (const [file, how] of Object.entries(BUNDLED.vite.pages)) {
  // It moves packages, and not their workers (docs/shared.md).
  if (file in SHARED) continue;
  environment(`vite ${version("vite")}, development server`, how, async () => {
    const { resolvedUrls } = await (development ??= develop());
    await works(await visit(`${resolvedUrls.local[0]}dev-${file}.html`));
  });
}

// ---- places in a browser ----

environment("a shared worker", "default entry", async () => {
  const page = await visit(`${origin}/blank.html`);
  await page.evaluate(() => {
    const worker = new SharedWorker("/esbuild/worker.js", { type: "module" });
    globalThis.result = new Promise((resolve) => (worker.port.onmessage = ({ data }) => resolve(data)));
    worker.port.postMessage("go");
  });
  await works(page);
});

environment("a service worker", "default entry", async () => {
  const page = await visit(`${origin}/blank.html`);
  await page.evaluate(async () => {
    const { active, waiting, installing } = await navigator.serviceWorker.register("/esbuild/worker.js", { type: "module" });
    const { port1, port2 } = new MessageChannel();
    (active ?? waiting ?? installing).postMessage("go", [port2]);
    globalThis.result = new Promise((resolve) => (port1.onmessage = ({ data }) => resolve(data)));
  });
  await works(page);
});

// No inline script, no `eval`, nothing from elsewhere.
const policy = (scripts) =>
  `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; connect-src 'self'; script-src ${scripts}">`;

environment("a strict Content Security Policy", "`script-src 'self' 'wasm-unsafe-eval'`", async () =>
  works(await open("esbuild/main.js", { head: policy("'self' 'wasm-unsafe-eval'") })));

const WITHOUT = {
  "a policy without `'wasm-unsafe-eval'`": { head: policy("'self'") },
  "an engine without WebAssembly": { init: () => delete globalThis.WebAssembly },
};

for (const [name, options] of Object.entries(WITHOUT)) {
  environment(name, "an error says what to do", async () => {
    const page = await open("esbuild/main.js", options);
    const [error, cause] = await page.evaluate(() => result.catch((error) => [String(error), String(error.cause)]));
    assert.match(error, /^TypeError: Failed to construct 'MultiWebSocket': No WebAssembly: .*'wasm-unsafe-eval'.*fallback/);
    assert.match(cause, /Content Security Policy|WebAssembly is not defined/);
    await page.close();
  });

  environment(name, "`{ fallback: true }`: native sockets", async () => works(await open("esbuild/fallback.js", options), { virtual: false }));
}

// ---- outside of one ----

const RENDERED = "function function function function function";

environment("rendering on a server", "imported without a global `WebSocket`", () => {
  const without = ["--import", "data:text/javascript,delete globalThis.WebSocket"];
  assert.equal(run(folder, process.execPath, ...without, "app/server.js").trim(), RENDERED);
});

environment("rendering on a server", "bundled by vite (`ssr`)", async () => {
  await vite.build({ configFile: false, root: folder, logLevel: "error", ssr: { noExternal: true }, build: { ssr: "app/server.js", outDir: "vite-server" } });
  assert.equal(run(folder, process.execPath, "vite-server/server.js").trim(), RENDERED);
});

environment("rendering on a server", "bundled by webpack (`target: \"node\"`)", async () => {
  await bundlers.webpack({ folder, entries: ["server.js"], out: "webpack-server", target: "node" });
  // webpack writes a script; the project's files are modules.
  await writeFile(join(folder, "webpack-server/package.json"), "{}");
  assert.equal(run(folder, process.execPath, "webpack-server/server.js").trim(), RENDERED);
});

/** Runs the job in a Node.js; over its own WebSocket, or that of the package `ws`. */
function node(program, ...words) {
  const { virtual, ...rest } = JSON.parse(run(folder, program, "app/node.js", new URL(origin).host, ...words));
  assert.deepEqual(rest, RESULT);
  assert.ok(virtual > 0);
}

const NODE_20 = process.versions.node.startsWith("20.");
environment("Node.js 20", "the package `ws` as the global", () => node(process.execPath, import.meta.resolve("ws")), !NODE_20 && "this is not Node.js 20");

for (const name of ["node22", "node26"]) {
  const program = join(modules, name, "bin/node");
  const skip = !existsSync(program) && `npm has no ${name} for this machine`;
  environment(`Node.js ${name.slice(4)}`, "its own WebSocket", () => node(program), skip);
}

test("docs/environments.md has this table", { skip: missing }, async () => {
  assert.equal(table.length, wanted, "all of the tests above have passed");
  const file = join(repository, "docs/environments.md");
  const text = await readFile(file, "utf8");
  const rows = ["| environment | how |", "| --- | --- |", ...table].join("\n");
  const now = text.replace(/\| environment \|[^]*?(?=\n\n)/, () => rows);
  if (process.env.MANYSOCKET_WRITE) await writeFile(file, now);
  else assert.equal(text, now, "run it with MANYSOCKET_WRITE=1, and read the difference");
});

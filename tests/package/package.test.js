// The npm package as a user gets it: packed, installed in an empty project, loaded by a page with no bundler.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { publint } from "publint";
import { repository, startWorld } from "../harness/index.js";

// Errors carry what the program printed; npm's warnings about the machine's own configuration are not the test's business.
const run = (folder, program, ...words) =>
  execFileSync(program, words, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

// A name such as a page's import map would have; the folder is the server's site, so that the page has its origin.
const IMPORT_MAP = {
  imports: {
    manysocket: "./node_modules/manysocket/index.js",
    "manysocket/manual": "./node_modules/manysocket/manual.js",
  },
};

const page = (code) => `<!doctype html><html lang=en><title>manysocket</title>
<script type="importmap">${JSON.stringify(IMPORT_MAP)}</script>
<script type="module">${code}</script>`;

const ECHO = `
  const M = new MultiWebSocket("/multiplexer");
  const echo = (text) => new Promise((resolve, reject) => {
    const socket = new M.WebSocket("/demo/echo");
    socket.onopen = () => socket.send(text);
    socket.onmessage = (event) => resolve(event.data);
    socket.onclose = (event) => reject(new Error("closed with " + event.code));
  });
  globalThis.result = Promise.all(["one", "two", "three"].map(echo));`;

const project = await mkdtemp(join(tmpdir(), "manysocket-project-"));
const [{ filename, files }] = JSON.parse(
  run(project, "npm", "pack", "--json", "--pack-destination", project, join(repository, "pkg")),
);
await writeFile(join(project, "package.json"), '{ "private": true, "type": "module" }');
run(project, "npm", "install", "--no-audit", "--no-fund", `./${filename}`);
const installed = join(project, "node_modules/manysocket");

await writeFile(join(project, "index.html"), page(`import { MultiWebSocket } from "manysocket"; ${ECHO}`));
await writeFile(
  join(project, "manual.html"),
  page(`import { MultiWebSocket, initialise } from "manysocket/manual";
  const wasm = await fetch("./node_modules/manysocket/manysocket_bg.wasm");
  initialise(await wasm.arrayBuffer()); ${ECHO}`),
);
const world = await startWorld({ site: project });
after(() => world.close());

for (const [name, path] of [["default", "/index.html"], ["manual", "/manual.html"]]) {
  test(`a page imports the ${name} entry by name and opens virtual sockets`, async () => {
    const opened = await world.openPage(path);
    await opened.waitForFunction(() => globalThis.result);
    assert.deepEqual(await opened.evaluate(() => globalThis.result), ["one", "two", "three"]);
    const { physical, virtual } = await world.server.stats();
    assert.deepEqual({ physical, virtual }, { physical: 1, virtual: 3 });
    await opened.close();
    // The server sees the page go a moment later; the next test counts anew.
    while ((await world.server.stats()).physical > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  });
}

test("importing it in Node throws nothing", () => {
  const names = run(project, process.execPath, "--input-type=module", "--eval",
    'import * as manysocket from "manysocket"; console.log(Object.keys(manysocket).join(" "));');
  for (const name of ["MultiWebSocket", "JsonWebSocket", "RelativeWebSocket"]) assert.match(names, new RegExp(`\\b${name}\\b`));
});

test("it ships what is needed and nothing else", () => {
  const names = files.map((file) => file.path);
  assert.deepEqual(names.filter((name) => name.endsWith(".wasm")), ["manysocket_bg.wasm"]);
  for (const name of ["README.md", "LICENSE-MIT", "LICENSE-APACHE", "index.js", "index.d.ts", "manual.js", "manual.d.ts"]) {
    assert.ok(names.includes(name), `${name} is missing`);
  }
  const strange = names.filter((name) => !/^(shared-)?[\w.]+\.(js|js\.map|d\.ts|wasm)$|^(package\.json|README\.md|LICENSE-\w+)$/.test(name));
  assert.deepEqual(strange, []);
});

test("its manifest names files that exist, types first, and takes its version from Cargo", async () => {
  const manifest = JSON.parse(await readFile(join(installed, "package.json"), "utf8"));
  for (const [entry, target] of Object.entries(manifest.exports)) {
    const conditions = typeof target === "string" ? { default: target } : target;
    if (typeof target !== "string") assert.equal(Object.keys(target)[0], "types", `${entry} has types first`);
    for (const file of Object.values(conditions)) assert.ok(existsSync(join(installed, file)), `${entry}: ${file}`);
  }
  assert.equal(manifest.dependencies, undefined);
  const cargo = await readFile(join(repository, "Cargo.toml"), "utf8");
  assert.equal(manifest.version, /^version = "(.+)"$/m.exec(cargo)[1]);
  const { messages } = await publint({ pkgDir: installed, strict: true });
  assert.deepEqual(messages.map((message) => message.code), []);
});

for (const module of ["nodenext", "preserve"]) {
  test(`the types compile, and refuse wrong uses, with module ${module}`, async () => {
    await copyFile(join(repository, "tests/types/check.ts"), join(project, "check.ts"));
    const compiler = join(repository, "tests/node_modules/typescript/bin/tsc");
    const options = ["--noEmit", "--strict", "--target", "es2023", "--lib", "es2023,dom,esnext.disposable", "--types", "", "--module", module];
    // It throws with what the compiler printed.
    assert.equal(run(project, "node", compiler, ...options, "check.ts"), "");
  });
}

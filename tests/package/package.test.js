// The contents of the npm package, and the results of tools that check packages.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { copyFile, readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { build } from "esbuild";
import { publint } from "publint";
import { removeSite, repository } from "../harness/index.js";
import { weighEntry } from "../../xtask/weigh.mjs";
import { makeProject, run } from "./project.js";

const { folder: project, tarball, files, installed } = await makeProject();
after(() => removeSite(project));

test("importing it in Node throws nothing", () => {
  const names = run(project, process.execPath, "--input-type=module", "--eval",
    'import * as manysocket from "manysocket"; console.log(Object.keys(manysocket).join(" "));');
  for (const name of ["MultiWebSocket", "JsonWebSocket", "RelativeWebSocket"]) assert.match(names, new RegExp(`\\b${name}\\b`));
});

test("it ships the needed files and no others", () => {
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

test("its README tells what each entry weighs", async () => {
  const readme = await readFile(join(installed, "README.md"), "utf8");
  for (const [name, entry] of [["manysocket", "index"], ["manysocket/manual", "manual"], ["manysocket/rpc", "rpc"], ["manysocket/state", "state"], ["manysocket/topic", "topic"], ["manysocket/mock", "mock"], ["manysocket/devtools", "devtools"]]) {
    const [, told] = new RegExp(`^\\| \`${name}\` .*\\| ([\\d.]+) KB \\|$`, "m").exec(readme) ?? [];
    assert.equal(told, (weighEntry(installed, entry)[2] / 1000).toFixed(1), name);
  }
});

test("its types are what its modules are, in every way of resolving them", async () => {
  const { problems } = await checkPackage(createPackageFromTarballData(await readFile(tarball)));
  // The wasm has no types, and only bundlers import it. All modules are ESM: a CommonJS module loads them by `import()`.
  const others = problems.filter(({ kind, entrypoint }) => kind !== "CJSResolvesToESM" && entrypoint !== "./manysocket_bg.wasm");
  assert.deepEqual(others, []);
});

/** How much of the package a bundler keeps of a page's code, without the code that is loaded on first use. */
async function kept(code) {
  const { metafile } = await build({
    stdin: { contents: code, resolveDir: project },
    bundle: true,
    splitting: true,
    outdir: project,
    minify: true,
    format: "esm",
    write: false,
    metafile: true,
    logLevel: "silent",
  });
  const outputs = new Map(Object.entries(metafile.outputs));
  const first = [...outputs.values()].find(({ entryPoint }) => entryPoint === "<stdin>");
  const shared = first.imports.filter(({ kind }) => kind === "import-statement");
  return shared.reduce((bytes, { path }) => bytes + outputs.get(path).bytes, first.bytes);
}

test("bundlers leave out what a page does not use", async () => {
  // Compiling the wasm is the default entry's one side effect.
  assert.ok((await kept('import "manysocket";')) > 30_000);
  for (const entry of ["manual", "rpc", "state", "topic", "mock", "devtools"]) assert.equal(await kept(`import "manysocket/${entry}";`), 0, entry);
  const calls = await kept('export { rpc } from "manysocket/rpc";');
  assert.ok(calls < 5_000, `calls do without the multiplexer: ${calls} bytes`);
});

test("its source maps lead back to the sources, which they carry", async () => {
  for (const file of (await readdir(installed)).filter((name) => name.endsWith(".js"))) {
    const code = await readFile(join(installed, file), "utf8");
    const [, name] = /\n\/\/# sourceMappingURL=(\S+)\n$/.exec(code);
    const { version, sources, sourcesContent, mappings } = JSON.parse(await readFile(join(installed, name), "utf8"));
    assert.equal(version, 3);
    assert.equal(sourcesContent.length, sources.length);
    assert.equal(mappings === "", sources.length === 0, file);
    for (const source of sources) assert.doesNotMatch(source, /^\/|home|tmp/, "no path of the machine that built it");
  }
});

test("everything that a user meets has its documentation", async () => {
  const folder = join(repository, "tests/package");
  // It throws an error that names the missing part.
  run(folder, process.execPath, "node_modules/typedoc/bin/typedoc", "--emit", "none", "--treatWarningsAsErrors", "--treatValidationWarningsAsErrors");
});

const compiler = join(repository, "tests/node_modules/typescript/bin/tsc");

for (const module of ["nodenext", "preserve"]) {
  test(`the types compile, and refuse wrong uses, with module ${module}`, async () => {
    await copyFile(join(repository, "tests/types/check.ts"), join(project, "check.ts"));
    const options = ["--noEmit", "--strict", "--target", "es2023", "--lib", "es2023,dom,esnext.disposable", "--types", "", "--module", module];
    // It throws an error with the compiler's output.
    assert.equal(run(project, "node", compiler, ...options, "check.ts"), "");
  });

  test(`types that the server writes refuse wrong calls, with module ${module}`, async () => {
    for (const file of ["functions.d.ts", "page.js"]) await copyFile(join(repository, "examples/typed-calls", file), join(project, file));
    await copyFile(join(repository, "tests/types/functions.ts"), join(project, "calls.ts"));
    const resolution = module === "preserve" ? ["--moduleResolution", "bundler"] : [];
    const options = ["--noEmit", "--strict", "--checkJs", "--target", "es2023", "--lib", "es2023,dom,dom.iterable,dom.asynciterable", "--types", ""];
    const check = (...files) => run(project, "node", compiler, ...options, "--module", module, ...resolution, ...files);
    assert.equal(check("calls.ts", "page.js"), "");
  });
}

// The code of docs/recipes.md, as it stands there, with the frameworks that it is for, in Vitest and jsdom.
import assert from "node:assert/strict";
import { cp, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { removeSite, repository } from "../harness/index.js";
import { makeProject, run } from "./project.js";

const { folder: project } = await makeProject();
after(() => removeSite(project));

const modules = fileURLToPath(new URL("node_modules", import.meta.url));

test("the recipes work as they stand in the documentation", async () => {
  for (const name of ["react", "react-dom", "svelte", "vitest", "vue"]) {
    await symlink(join(modules, name), join(project, "node_modules", name));
  }
  await cp(fileURLToPath(new URL("recipes", import.meta.url)), join(project, "recipes"), { recursive: true });
  const page = await readFile(join(repository, "docs/recipes.md"), "utf8");
  const blocks = [...page.matchAll(/^```js (\S+)\n(.*?)^```$/gms)];
  assert.ok(blocks.length >= 6, "the page has its blocks");
  await mkdir(join(project, "recipe"));
  for (const [, name, code] of blocks) await writeFile(join(project, "recipe", name), code);
  await writeFile(join(project, "vitest.config.js"), 'export default { test: { environment: "jsdom" } };\n');
  run(project, process.execPath, join(modules, "vitest/vitest.mjs"), "run", "--reporter=json", "--outputFile=results.json");
  const { numPassedTests, numTotalTests, testResults } = JSON.parse(await readFile(join(project, "results.json"), "utf8"));
  const files = testResults.map(({ name }) => name.slice(project.length + 1)).sort();
  assert.deepEqual(files, ["recipe/chat.test.js", "recipes/react.test.js", "recipes/svelte.test.js", "recipes/vue.test.js"]);
  assert.equal(numPassedTests, numTotalTests);
});

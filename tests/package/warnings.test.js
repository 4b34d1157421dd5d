// A bundler prints nothing about the package.
import assert from "node:assert/strict";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { build } from "../node_modules/esbuild/lib/main.js";
import { repository } from "../harness/index.js";

test("esbuild has no warning, whichever entries a project imports", async (t) => {
  const project = await mkdtemp(join(tmpdir(), "manysocket-project-"));
  t.after(() => rm(project, { recursive: true, force: true }));
  await cp(join(repository, "pkg"), join(project, "node_modules/manysocket"), { recursive: true });
  const entries = ["manysocket", "manysocket/manual", "manysocket/rpc", "manysocket/state", "manysocket/devtools"];
  for (const chosen of [...entries.map((entry) => [entry]), entries]) {
    const lines = chosen.map((entry, n) => `import * as used${n} from "${entry}"; console.log(used${n}); import "${entry}";`);
    await writeFile(join(project, "app.js"), lines.join("\n"));
    for (const splitting of [false, true]) {
      const { warnings } = await build({
        entryPoints: [join(project, "app.js")], bundle: true, format: "esm", splitting, outdir: join(project, "out"), logLevel: "silent",
      });
      // The page imports an entry without side effects for nothing, and that is its own line.
      assert.deepEqual(warnings.filter(({ location }) => location.file.includes("node_modules")).map(({ text }) => text), [], `${chosen}`);
    }
  }
});

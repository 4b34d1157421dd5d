// The npm package as a user gets it: packed, and installed from the tarball in an empty project.
import { execFileSync } from "node:child_process";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { repository } from "../harness/index.js";

/** Errors carry the program's output; npm's warnings about the machine's own configuration are not the tests' business. */
export const run = (folder, program, ...words) =>
  execFileSync(program, words, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

/** Makes the project: returns its folder, the tarball's path and contents, and the folder where npm installed it. */
export async function makeProject() {
  const folder = await mkdtemp(join(tmpdir(), "manysocket-project-"));
  const [{ filename, files }] = JSON.parse(
    run(folder, "npm", "pack", "--json", "--pack-destination", folder, join(repository, "pkg")),
  );
  await writeFile(join(folder, "package.json"), '{ "private": true, "type": "module" }');
  run(folder, "npm", "install", "--no-audit", "--no-fund", `./${filename}`);
  return { folder, tarball: join(folder, filename), files, installed: join(folder, "node_modules/manysocket") };
}

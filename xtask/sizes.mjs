// Prints the sizes of the npm package: every wasm and JavaScript file, and the download of each entry.
// Usage: `node sizes.mjs FOLDER`; `node sizes.mjs FOLDER --readme` puts the figures into the package's README in place of
// `{{index}}` and the like, and prints nothing.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { weighEntry, weighFile } from "./weigh.mjs";

const [folder, mode] = process.argv.slice(2);

if (mode === "--readme") {
  const readme = join(folder, "README.md");
  const kilobytes = (_, entry) => (weighEntry(folder, entry)[2] / 1000).toFixed(1);
  writeFileSync(readme, readFileSync(readme, "utf8").replace(/\{\{(\w+)\}\}/g, kilobytes));
} else {
  const print = (name, values) => console.log(name.padEnd(34) + values.map((value) => String(value).padStart(9)).join(""));
  print("bytes", ["raw", "gzip", "brotli"]);
  for (const file of readdirSync(folder).filter((file) => /\.(wasm|js)$/.test(file)).sort()) print(file, weighFile(folder, file));
  print('a page with import "manysocket"', weighEntry(folder, "index"));
  print("a page with the manual entry", weighEntry(folder, "manual"));
}

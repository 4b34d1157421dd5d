// Prints what the npm package weighs: every wasm and JavaScript file, and what a page downloads that imports the
// default entry. Usage: node sizes.mjs FOLDER. Node.js has both compressors built in.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";

const folder = process.argv[2];

/** The sizes of one file: raw, and compressed each on its own, as a server would send it. */
function sizes(file) {
  const bytes = readFileSync(join(folder, file));
  return [bytes.length, gzipSync(bytes, { level: 9 }).length, brotliCompressSync(bytes).length];
}

/** The entry and everything that it imports statically. */
function download(entry, seen = new Set()) {
  if (seen.has(entry)) return seen;
  seen.add(entry);
  const source = readFileSync(join(folder, entry), "utf8");
  for (const [, file] of source.matchAll(/\b(?:import|from)\s*["']\.\/([^"']+)["']/g)) download(file, seen);
  return seen;
}

const sum = (rows) => rows.reduce((total, row) => total.map((value, index) => value + row[index]), [0, 0, 0]);
const print = (name, values) =>
  console.log(name.padEnd(34) + values.map((value) => String(value).padStart(9)).join(""));

const files = readdirSync(folder).filter((file) => /\.(wasm|js)$/.test(file)).sort();
print("bytes", ["raw", "gzip", "brotli"]);
for (const file of files) print(file, sizes(file));
print('a page with import "manysocket"', sum([...download("index.js")].map(sizes)));
// The other way to load the package: the wasm as a file of its own, which the page fetches.
print("a page with the manual entry", sum([...download("manual.js"), "manysocket_bg.wasm"].map(sizes)));

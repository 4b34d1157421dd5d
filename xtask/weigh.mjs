// Measures files of the npm package. Node.js has both compressors built in.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";

const sum = (rows) => rows.reduce((total, row) => total.map((value, index) => value + row[index]), [0, 0, 0]);

/** The sizes of one file: raw, by gzip and by brotli, compressed on its own, as a server would send it. */
export function weighFile(folder, file) {
  const bytes = readFileSync(join(folder, file));
  return [bytes.length, gzipSync(bytes, { level: 9 }).length, brotliCompressSync(bytes).length];
}

/** The entry and everything that it imports statically. */
function download(folder, entry, seen) {
  if (seen.has(entry)) return;
  seen.add(entry);
  const source = readFileSync(join(folder, entry), "utf8");
  for (const [, file] of source.matchAll(/\b(?:import|from)\s*["']\.\/([^"']+)["']/g)) download(folder, file, seen);
}

/** Measures the download of a page that imports an entry; that of `manual` includes its separate wasm file. */
export function weighEntry(folder, entry) {
  const files = new Set();
  download(folder, `${entry}.js`, files);
  if (entry === "manual") files.add("manysocket_bg.wasm");
  return sum([...files].map((file) => weighFile(folder, file)));
}

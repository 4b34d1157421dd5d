// Prints the SHA-256 of every file of a folder, in the form that `sha256sum --check` reads. Usage: node checksums.mjs FOLDER
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const folder = process.argv[2];
for (const file of readdirSync(folder).sort()) {
  console.log(`${createHash("sha256").update(readFileSync(join(folder, file))).digest("hex")}  ${file}`);
}

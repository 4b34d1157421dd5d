// The sites that tests serve: folders with the npm package and a few pages.
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The root of the repository, with a slash at its end. */
export const repository = fileURLToPath(new URL("../../", import.meta.url));

/** An empty page, for tests that bring their own code. */
export const BLANK_PAGE = "<!doctype html><html lang=en><title>manysocket test</title>";

/**
 * Makes a folder to serve: the package under `pkg/`, an empty `index.html`, and extra files.
 * @param {{ folders?: string[], files?: Record<string, string> }} [extra] folders of the repository whose contents are
 *   copied in, and files by name
 * @returns {Promise<string>} the folder; the caller removes it with `removeSite`
 */
export async function makeSite({ folders = [], files = {} } = {}) {
  const site = await mkdtemp(join(tmpdir(), "manysocket-site-"));
  await cp(join(repository, "pkg"), join(site, "pkg"), { recursive: true });
  await writeFile(join(site, "index.html"), BLANK_PAGE);
  for (const folder of folders) await cp(join(repository, folder), site, { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(join(site, name), text);
  return site;
}

/** Removes a folder from `makeSite`. */
export const removeSite = (site) => rm(site, { recursive: true, force: true });

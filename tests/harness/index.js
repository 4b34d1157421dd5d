// Starts everything for a browser test in one call: a site, the real server on it, and Chromium.
//
//   const world = await startWorld();
//   after(() => world.close());
//   const page = await world.openPage();
//   const data = await runInPage(page, async () => { … });
import { startBrowser } from "./browser.js";
import { startServer } from "./server.js";
import { makeSite, removeSite } from "./site.js";

export { runInPage, startBrowser, until } from "./browser.js";
export { startFront } from "./front.js";
export { startRelay } from "./relay.js";
export { makeCertificate, startProgram, startServer } from "./server.js";
export { BLANK_PAGE, makeSite, removeSite, repository } from "./site.js";

/**
 * Starts everything.
 * @param {{ site?: string, kind?: "shipped" | "test", more?: string[] }} [options] `site`: a folder to serve in place of a
 *   fresh site, also removed at the end; `kind`: the server; `more`: further arguments of its command line
 */
export async function startWorld({ site, kind, more } = {}) {
  site ??= await makeSite();
  let server;
  let browser;
  try {
    server = await startServer(site, { kind, more });
    browser = await startBrowser();
  } catch (error) {
    await server?.stop();
    await removeSite(site);
    throw error;
  }
  return {
    site,
    server,
    browser,
    /** Opens a page of the site in a separate profile. `page.uncaught` lists its uncaught exceptions. */
    async openPage(path = "/") {
      const page = await browser.newPage();
      page.uncaught = [];
      page.on("pageerror", (error) => page.uncaught.push(error.message));
      await page.goto(server.origin + path);
      return page;
    },
    async close() {
      await browser.close();
      // A test may have replaced the server.
      await this.server.stop();
      await removeSite(site);
    },
  };
}

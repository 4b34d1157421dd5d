// All pages of the demo: one header with the way to the others, and nothing that is wider than the window.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { makeSite, runInPage, startWorld } from "../harness/index.js";

const world = await startWorld({ site: await makeSite({ folders: ["www"] }) });
after(() => world.close());

const WIDTHS = [1280, 390];

/** The page at a path, with what is on it. */
async function look(path, width) {
  const page = await world.browser.newPage({ viewport: { width, height: 800 } });
  const uncaught = [];
  page.on("pageerror", ({ message }) => uncaught.push(message));
  await page.goto(world.server.origin + path);
  const seen = await runInPage(page, () => ({
    links: [...document.querySelectorAll(".site nav a")].map(({ pathname }) => pathname),
    current: [...document.querySelectorAll(".site [aria-current=page]")].map(({ pathname }) => pathname),
    headings: document.querySelectorAll("h1").length,
    tooWide: document.documentElement.scrollWidth - innerWidth,
  }));
  await page.close();
  return { ...seen, uncaught };
}

const { links } = await look("/", WIDTHS[0]);

test("the header leads to every page, and each has it", async () => {
  assert.ok(links.length >= 8, `${links}`);
  for (const path of links) {
    for (const width of WIDTHS) {
      const expected = { links, current: [path], headings: 1, tooWide: 0, uncaught: [] };
      assert.deepEqual(await look(path, width), expected, `${path} at ${width} pixels`);
    }
  }
});

test("a game room has it, too, but not in a frame", async () => {
  assert.deepEqual((await look("/games/Zx81/", 390)).current, ["/games/"]);
  const page = await world.openPage("/games/");
  for (const frame of page.frames().slice(1)) {
    await frame.waitForSelector("#url");
    assert.equal(await frame.locator(".site").count(), 0);
  }
  await page.close();
});

// All pages of the demo: one header with the way to the others, and nothing that is wider than the window.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { makeSite, runInPage, startWorld } from "../harness/index.js";

const world = await startWorld({ site: await makeSite({ folders: ["www"] }) });
after(() => world.close());

const WIDTHS = [1280, 390];

/** Opens the page at a path. */
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

test("an endpoint's page lets a reader talk to it", async () => {
  const path = "/demo/topics/tried";
  for (const width of WIDTHS) assert.equal((await look(path, width)).tooWide, 0, `${width} pixels`);
  const page = await world.openPage(path);
  const bystander = await world.openPage(path);
  for (const each of [page, bystander]) {
    await each.click('button:text-is("Connect")');
    await each.waitForSelector('p:text-is("Open.")');
  }
  await page.keyboard.type("<b>hello</b>");
  await page.keyboard.press("Enter");
  await bystander.waitForFunction(() => document.querySelector("li")?.textContent === "↓ <b>hello</b>");
  await page.waitForFunction(() => document.querySelectorAll("li").length === 2);
  assert.deepEqual((await page.locator("li").allTextContents()).sort(), ["↑ <b>hello</b>", "↓ <b>hello</b>"]);
  await page.click('button:text-is("Close")');
  await page.waitForSelector("text=Closed with 1005.");
  for (const each of [page, bystander]) {
    assert.deepEqual(each.uncaught, []);
    await each.close();
  }
});

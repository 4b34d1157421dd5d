// The shared spreadsheet: two windows edit it at once.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { makeSite, startWorld } from "../harness/index.js";

const world = await startWorld({ site: await makeSite({ folders: ["www"] }) });
after(() => world.close());

async function openSheet(name) {
  const page = await world.openPage(`/spreadsheet.html?sheet=${name}`);
  await page.waitForFunction(() => globalThis.sheet?.version > 0);
  return page;
}

const shows = (page, cell, value) =>
  page.waitForFunction(([cell, value]) => document.getElementById(cell).value === value, [cell, value]);

test("what one window types the other shows, its formulas too", async () => {
  const [ada, bob] = [await openSheet("both"), await openSheet("both")];
  await ada.fill("#B3", "5");
  await ada.press("#B3", "Enter");
  for (const page of [ada, bob]) await shows(page, "D3", "16");
  await bob.fill("#E1", "=SUM(B2:B4) - (2 + -1) / 2");
  await bob.press("#E1", "Enter");
  await shows(ada, "E1", "17.5");
  await bob.fill("#E1", "=E1");
  await bob.press("#E1", "Enter");
  await shows(ada, "E1", "#!");
  assert.deepEqual([...ada.uncaught, ...bob.uncaught], []);
  await Promise.all([ada.close(), bob.close()]);
});

for (const [choice, expected] of [["mine", "1.5"], ["theirs", "2.5"]]) {
  test(`two windows that type in the same cell are shown both sides, and take ${choice}`, async () => {
    const [ada, bob] = [await openSheet(choice), await openSheet(choice)];
    await ada.focus("#C2");
    await ada.fill("#C2", "1.5");
    await bob.fill("#C2", "2.5");
    await bob.press("#C2", "Enter");
    await ada.waitForFunction(() => sheet.version === 2);
    assert.equal(await ada.inputValue("#C2"), "1.5", "nobody's typing is overwritten");
    await ada.waitForFunction(() => /another window has set C2 to 2.5.*you have typed 1.5/i.test(document.getElementById("news").textContent));
    await ada.press("#C2", "Escape");
    await ada.waitForSelector("td.conflict #C2");
    assert.match(await ada.textContent("#choices"), /C2.*You: 1\.5.*other window: 2\.5/);
    // The keyboard is led to the choice.
    assert.equal(await ada.evaluate(() => document.activeElement.dataset.side), "mine");
    await ada.click(`[data-side=${choice}]`);
    assert.match(await ada.textContent("#news"), choice === "mine" ? /C2 is 1\.5: yours replaced 2\.5/ : /C2 is 2\.5: you gave up 1\.5/);
    if (choice === "mine") await bob.waitForFunction(() => /another window has set C2 to 1.5/i.test(document.getElementById("news").textContent));
    for (const page of [ada, bob]) await shows(page, "C2", expected);
    assert.equal(await ada.locator(".uncommitted").count(), 0);
    assert.deepEqual([...ada.uncaught, ...bob.uncaught], []);
    await Promise.all([ada.close(), bob.close()]);
  });
}

test("each of several cells has its choice, and nothing is committed before the last", async () => {
  const [ada, bob] = [await openSheet("several"), await openSheet("several")];
  await ada.fill("#B2", "1");
  await ada.evaluate(() => {
    // Typed without leaving the first cell in between.
    const other = document.getElementById("B3");
    other.value = "7";
    other.dispatchEvent(new Event("input"));
  });
  for (const [cell, text] of [["#B2", "10"], ["#B3", "20"]]) {
    await bob.fill(cell, text);
    await bob.press(cell, "Enter");
  }
  await ada.waitForFunction(() => sheet.version === 3);
  await ada.press("#B2", "Escape");
  await ada.waitForFunction(() => document.querySelectorAll("#choices li").length === 2);
  await ada.click("#choices li:first-child [data-side=mine]");
  // Another edit does not commit over an open question.
  await ada.fill("#F1", "x");
  await ada.press("#F1", "Enter");
  assert.equal(await ada.evaluate(() => sheet.version), 3);
  await ada.click("#choices [data-side=theirs]");
  for (const page of [ada, bob]) for (const [cell, text] of [["B2", "1"], ["B3", "20"], ["F1", "x"]]) await shows(page, cell, text);
  assert.equal(await ada.locator(":is(.uncommitted, .conflict)").count(), 0);
  assert.deepEqual([...ada.uncaught, ...bob.uncaught], []);
  await Promise.all([ada.close(), bob.close()]);
});

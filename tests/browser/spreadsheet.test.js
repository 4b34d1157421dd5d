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
    await ada.press("#C2", "Escape");
    await ada.click(`#${choice}`);
    for (const page of [ada, bob]) await shows(page, "C2", expected);
    assert.equal(await ada.locator(".uncommitted").count(), 0);
    assert.deepEqual([...ada.uncaught, ...bob.uncaught], []);
    await Promise.all([ada.close(), bob.close()]);
  });
}

// The demo of game rooms: one page at two paths, each with its chat on a relative URL.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { makeSite, startWorld } from "../harness/index.js";

const world = await startWorld({ site: await makeSite({ folders: ["www"] }) });
after(() => world.close());

test("one page serves every room, and the URL of its chat follows its path", async () => {
  const { host } = new URL(world.server.origin);
  for (const room of ["Af354BGq", "Zx81"]) {
    const page = await world.openPage(`/games/${room}/?name=Ada`);
    assert.equal(await page.textContent("#url"), `ws://${host}/games/${room}/chat`);
    assert.equal(await page.textContent("#room"), room);
    await page.fill("#text", `hello <b>${room}</b>`);
    await page.click("button:not(:disabled)");
    await page.waitForSelector("#lines li.message");
    assert.match(await page.textContent("#lines"), new RegExp(`\\d:\\d\\d.*Adahello <b>${room}</b>$`));
    assert.deepEqual(page.uncaught, []);
    await page.close();
  }
});

test("the lobby has both rooms, with one connection for each frame", async () => {
  const page = await world.openPage("/games/");
  for (const frame of page.frames().slice(1)) await frame.waitForSelector("button:not(:disabled)");
  assert.equal(page.frames().length, 5);
  assert.deepEqual(await world.server.stats(), { physical: 4, native: 0, virtual: 4 });
  assert.deepEqual(page.uncaught, []);
  await page.close();
});

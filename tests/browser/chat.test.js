// The chat of the demo: its members, and a history that outlives the server.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { makeSite, startFront, startServer, startWorld } from "../harness/index.js";

const data = await mkdtemp(join(tmpdir(), "manysocket-chat-"));
const more = ["--data", data];
const world = await startWorld({ site: await makeSite({ folders: ["www"] }), more });
after(async () => {
  await world.close();
  await rm(data, { recursive: true });
});

const stateIs = (page, text) => page.waitForFunction((text) => document.getElementById("state").textContent.startsWith(text), text);

async function openChat(name, room) {
  const page = await world.openPage(`/chat.html?room=${room}`);
  await page.fill("#name", name);
  await page.press("#name", "Tab");
  await stateIs(page, "connected");
  return page;
}

async function say(page, text) {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}

/** Waits until the page shows exactly these texts, or members, in this order. */
const shows = (page, selector, expected) =>
  page.waitForFunction(([selector, expected]) => {
    const shown = [...document.querySelectorAll(selector)].map((item) => [...item.childNodes].filter(({ nodeName }) => nodeName !== "B").map(({ textContent }) => textContent).join(""));
    return JSON.stringify(shown) === JSON.stringify(expected);
  }, [selector, expected]);

const LINES = "#lines li:not(.pending)";
const MEMBERS = "#members li";

async function done(...pages) {
  for (const page of pages) {
    assert.deepEqual(page.uncaught, []);
    await page.close();
  }
}

test("an empty room has a hint, and the first message replaces it", async () => {
  const page = await openChat("Ada", "empty");
  assert.ok(await page.isVisible(".empty"));
  await say(page, "first");
  await shows(page, LINES, ["first"]);
  assert.ok(!(await page.isVisible(".empty")));
  await done(page);
});

test("each window shows the members: they join, leave, and change their names", async () => {
  const ada = await openChat("Ada", "presence");
  await shows(ada, MEMBERS, ["Ada"]);
  const bob = await openChat("Bob", "presence");
  for (const page of [ada, bob]) await shows(page, MEMBERS, ["Ada", "Bob"]);
  await bob.fill("#name", "Bert");
  await bob.press("#name", "Tab");
  for (const page of [ada, bob]) await shows(page, MEMBERS, ["Ada", "Bert"]);
  // Under the new name it goes on where it was.
  await say(ada, "hello Bert");
  await shows(bob, LINES, ["hello Bert"]);
  await done(bob);
  await shows(ada, MEMBERS, ["Ada"]);
  await done(ada);
});

test("a window whose connection is lost is away, until it is back", async () => {
  const ada = await openChat("Ada", "away");
  const front = await startFront(world.server.origin);
  const bob = await world.browser.newPage();
  bob.uncaught = [];
  await bob.goto(`${front.origin}/chat.html?room=away`);
  await bob.fill("#name", "Bob");
  await bob.press("#name", "Tab");
  await shows(ada, MEMBERS, ["Ada", "Bob"]);
  // New connections get no answer.
  Object.assign(front.network, { websockets: "swallow", posts: "swallow" });
  front.cut();
  await shows(ada, MEMBERS, ["Ada", "Bob (away)"]);
  Object.assign(front.network, { websockets: "pass", posts: "pass" });
  front.cut();
  await shows(ada, MEMBERS, ["Ada", "Bob"]);
  await done(ada, bob);
  await front.stop();
});

test("when the server restarts, the windows come back: nothing is lost or doubled, and the members are right", async () => {
  const [ada, bob] = [await openChat("Ada", "restart"), await openChat("Bob", "restart")];
  await say(ada, "before");
  for (const page of [ada, bob]) await shows(page, LINES, ["before"]);
  const listen = new URL(world.server.origin).host;
  await world.server.kill();
  for (const page of [ada, bob]) await stateIs(page, "connection lost");
  // Either the page has sent it and has no answer, or it waits for the next connection.
  await say(bob, "meanwhile");
  await shows(bob, "#lines li.pending", ["meanwhile"]);
  world.server = await startServer(world.site, { listen, more });
  for (const page of [ada, bob]) {
    await stateIs(page, "connected");
    await shows(page, MEMBERS, ["Ada", "Bob"]);
  }
  await bob.waitForFunction(() => document.querySelector("#lines .pending") === null);
  if ((await bob.locator(".failed").count()) > 0) await bob.click("text=Send again");
  for (const page of [ada, bob]) await shows(page, LINES, ["before", "meanwhile"]);
  assert.equal(await bob.locator("#lines .pending").count(), 0);
  // A page that was not there gets the history from the disk.
  const eve = await openChat("Eve", "restart");
  await shows(eve, LINES, ["before", "meanwhile"]);
  await done(ada, bob, eve);
});

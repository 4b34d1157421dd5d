// `M.inspect()` and the panel of `manysocket/devtools`: they report the messages on the wire.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { Decoder } from "../../js/inspect/decode.js";
import { makeSite, repository, runInPage, startRelay, startWorld, until } from "../harness/index.js";

const world = await startWorld({ site: await makeSite({ folders: ["www"] }) });
after(() => world.close());

test("its decoder reads the vectors that both ends replay", () => {
  const { frames } = JSON.parse(readFileSync(`${repository}tests/vectors/frames.json`));
  for (const { hex, kind, channel = 0, ...fields } of frames) {
    const headers = Buffer.from(hex, "hex");
    const isBinary = kind.startsWith("BINARY");
    const strings = isBinary ? [] : [fields.length, fields.target, fields.protocols, fields.headers, fields.protocol, fields.reason];
    const text = "x".repeat(strings.reduce((sum, length) => sum + (length ?? 0), 0));
    const integer = (value) => (value < 128 ? [value] : [(value & 127) | 128, ...integer(value >>> 7)]);
    const batch = Buffer.concat([Buffer.from([...integer(headers.length), ...integer(text.length)]), headers, Buffer.from(text)]);
    const { form, bytes, frames: [frame, ...more] } = new Decoder().decode(batch);
    assert.deepEqual([form, bytes, more], ["batch", batch.length, []], hex);
    assert.deepEqual([frame.kind, frame.channel], [kind, channel], hex);
    if (fields.length !== undefined) assert.equal(frame.units, fields.length, hex);
    const string = fields.target ?? fields.protocol ?? fields.reason;
    if (string !== undefined) assert.equal(frame.text.length, string, hex);
    if (fields.protocols !== undefined) assert.equal(frame.protocols.length, fields.protocols, hex);
    if (fields.headers !== undefined) assert.equal(frame.headers.length, fields.headers, hex);
    if (kind === "GRANT") assert.equal(frame.credit, fields.units, hex);
    const code = fields.code ?? fields.status;
    if (code !== undefined) assert.equal(frame.code, code, hex);
  }
});

test("it counts messages, frames and credit, and spells out the frames", async () => {
  const page = await world.openPage();
  const seen = await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer");
    const inspector = await M.inspect();
    const log = [];
    inspector.addEventListener("physical", ({ detail: { direction, form, frames } }) =>
      log.push(`${direction} ${form} ${frames.map(({ kind, channel, text }) => [kind, channel, text].filter((part) => part !== undefined && part !== "").join(" "))}`));
    const socket = new M.WebSocket("/demo/echo");
    socket.binaryType = "arraybuffer";
    const next = () => new Promise((resolve) => socket.addEventListener("message", resolve, { once: true }));
    await new Promise((resolve) => (socket.onopen = resolve));
    socket.send("hello");
    await next();
    const [channel] = inspector.channels;
    // Two small messages, and a larger one that travels alone.
    socket.send("zwölf");
    socket.send(new Uint8Array(100));
    await next();
    await next();
    socket.send(new Uint8Array(150_000));
    await next();
    const [later] = inspector.channels;
    const { sent, received } = inspector;
    const closed = new Promise((resolve) => (socket.onclose = resolve));
    socket.close(1000, "enough");
    await closed;
    return { log, channel, later, sent, received, left: inspector.channels, same: (await M.inspect()) === inspector };
  });
  assert.deepEqual(seen.log.slice(0, 1), ["sent batch HELLO 0,PATH 0 /multiplexer,OPEN 1 /demo/echo"]);
  for (const line of ["sent text TEXT 1 hello", "received text TEXT 1 hello", "sent payload PAYLOAD 1", "received payload PAYLOAD 1"]) {
    assert.ok(seen.log.includes(line), `${line} in\n${seen.log.join("\n")}`);
  }
  assert.match(seen.log.join("\n"), /sent batch .*CLOSE 1 enough/);
  // Together, or the first at once.
  assert.match(seen.log.join("\n"), /sent (batch|text) TEXT 1 zwölf(\n(.*\n)*sent batch |,)BINARY 1/);
  assert.equal(new URL(seen.channel.url).pathname, "/demo/echo");
  assert.deepEqual([seen.channel.number, seen.channel.readyState], [1, 1]);
  // docs/protocol.md §6: a window of 262,144, and 64 for each piece.
  const first = { messages: 1, units: 5, credit: 262_144 - 5 - 64 };
  assert.deepEqual([seen.channel.sent, seen.channel.received], [first, first]);
  const all = { messages: 4, units: 5 + 5 + 100 + 150_000 };
  for (const { credit, ...counts } of [seen.later.sent, seen.later.received]) {
    assert.deepEqual(counts, all);
    assert.ok(credit <= 262_144 && credit >= 262_144 - all.units - 4 * 64, `${credit}`);
  }
  assert.ok(seen.sent.frames > seen.sent.messages && seen.sent.bytes > all.units, JSON.stringify(seen.sent));
  assert.ok(seen.received.bytes > all.units, JSON.stringify(seen.received));
  assert.deepEqual([seen.left, seen.same], [[], true]);
  await page.close();
});

test("it may be asked late, and goes on with the next link", async () => {
  const page = await world.openPage();
  const seen = await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer");
    const open = async () => {
      const socket = new M.WebSocket("/demo/echo");
      await new Promise((resolve) => (socket.onopen = resolve));
      return socket;
    };
    const early = await open();
    const inspector = await M.inspect();
    await open();
    early.send("seen");
    await new Promise((resolve) => (early.onmessage = resolve));
    const known = () => inspector.channels.map(({ number, sent }) => [number, sent?.messages ?? null]);
    const before = known();
    const frames = inspector.sent.frames;
    M.close();
    await new Promise((resolve) => M.addEventListener("close", resolve));
    await open();
    return { before, frames, after: known() };
  });
  assert.deepEqual(seen.before, [[1, null], [2, 0]]);
  assert.ok(seen.frames >= 2, `${seen.frames}`);
  assert.deepEqual(seen.after, [[1, 0]]);
  await page.close();
});

test("of a shared worker's link it knows this page's sockets", async () => {
  const page = await world.openPage();
  const seen = await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer", { shared: true });
    const inspector = await M.inspect();
    const socket = new M.WebSocket("/demo/echo");
    await new Promise((resolve) => (socket.onopen = resolve));
    return [inspector.isShared, inspector.channels.map(({ url, readyState, sent }) => [new URL(url).pathname, readyState, sent])];
  });
  assert.deepEqual(seen, [true, [["/demo/echo", 1, null]]]);
  await page.close();
});

test("the panel shows it, on its page", async () => {
  const page = await world.openPage("/devtools.html");
  await page.waitForSelector("body[data-ready]");
  await page.click("#open");
  await page.locator("tbody tr").nth(4).waitFor();
  await page.click("#text");
  await page.locator("li", { hasText: 'TEXT "hello from 5"' }).first().waitFor();
  // The first leaves at once, the others together.
  assert.match((await page.locator("li.sent").allTextContents()).join("\n"), /↑ batch .* frames: .*1 OPEN "\/demo\/echo" · 2 OPEN "\/demo\/echo"/);
  await page.click("#refused");
  const refusal = await page.locator(".refused li").first().textContent();
  assert.match(refusal, /^refused with 404 \/demo\/no-such-path/);
  await page.click("#close");
  await page.locator("li", { hasText: 'CLOSE 1000 "enough"' }).first().waitFor();
  await page.waitForFunction(() => document.querySelector("main > div:last-child").shadowRoot.querySelectorAll("tbody tr").length === 0);
  assert.ok(await page.isVisible("text=No sockets are open."));
  await page.click("text=Pause");
  assert.equal(await page.locator("button", { hasText: "Go on" }).count(), 1);
  assert.deepEqual(page.uncaught, []);
  await page.close();
});

test("it counts lost connections, and the panel shows that the link waits for another one", async (t) => {
  const relay = await startRelay(world.server.origin);
  t.after(relay.close);
  const page = await world.browser.newPage();
  await page.goto(relay.origin);
  await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const { showPanel } = await import("/pkg/devtools.js");
    globalThis.M = new MultiWebSocket("/multiplexer", { carriers: ["websocket"] });
    globalThis.inspector = await M.inspect();
    const panel = await showPanel(M);
    globalThis.shown = () => panel.shadowRoot.querySelector("[role=status]").textContent;
    globalThis.figures = () => [...panel.shadowRoot.querySelectorAll("dl > div")].map((pair) => pair.textContent);
    const socket = new M.WebSocket("/demo/echo");
    await new Promise((resolve) => (socket.onopen = resolve));
  });
  assert.deepEqual(await runInPage(page, () => [inspector.interruptions, inspector.isInterrupted]), [0, false]);
  relay.allowance = () => ({ bytes: 0 });
  relay.cut();
  await until("the panel says so", () => runInPage(page, () => inspector.isInterrupted && shown().startsWith("interrupted")));
  relay.allowance = () => ({});
  await until("the link goes on", () => runInPage(page, () => !inspector.isInterrupted && shown() === "open" && figures().includes("connections lost1")));
  assert.equal(await runInPage(page, () => inspector.interruptions), 1);
  await page.close();
});

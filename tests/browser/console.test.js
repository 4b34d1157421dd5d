// The console's messages for common mistakes, each printed once.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, test } from "node:test";
import { makeSite, removeSite, repository, runInPage, startServer, startWorld } from "../harness/index.js";

const world = await startWorld();
after(() => world.close());

/** Lets sockets fail, one after the other, and returns our messages in the page's console. */
async function warnings(multiplexer, options) {
  const page = await world.openPage();
  const lines = [];
  page.on("console", (message) => message.text().startsWith("manysocket:") && lines.push(message.text()));
  await runInPage(page, async ([multiplexer, options]) => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket(multiplexer, options);
    for (let n = 0; n < 3; n++) {
      const socket = new M.WebSocket(new URL("/demo/echo", M.url));
      await new Promise((resolve) => (socket.onclose = resolve));
    }
  }, [multiplexer, options]);
  await page.close();
  return lines;
}

test("no multiplexer at the URL: one line, with a page that exists", async () => {
  const [line, ...more] = await warnings("/no-multiplexer");
  assert.deepEqual(more, []);
  const [, url, file] = /^manysocket: no link to (\S+)\. https:\/\/github\.com\/manysocket\/manysocket\/blob\/main\/(\S+)$/.exec(line);
  assert.equal(url, `${world.server.origin.replace("http", "ws")}/no-multiplexer`);
  assert.ok(existsSync(`${repository}${file}`), file);
});

test("a server that does not know the page's origin: one line", async (t) => {
  const site = await makeSite();
  const other = await startServer(site);
  t.after(async () => {
    await other.stop();
    await removeSite(site);
  });
  assert.equal((await warnings(`${other.origin}/multiplexer`)).length, 1);
  // The server's log names the cause that is most frequent during development.
  assert.match(other.output(), /the origin \S+ is neither the server's own .* \(Vite: no changeOrigin\)/);
});

test("a URL that is a WebSocket's, and speaks another subprotocol: one line", async () => {
  assert.equal((await warnings("/demo/echo", { jail: "/" })).length, 1);
});

test("nothing is said of a link that was up, nor of one that the page gives up", async () => {
  const page = await world.openPage();
  const lines = [];
  page.on("console", (message) => lines.push(message.text()));
  await runInPage(page, async () => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const up = new MultiWebSocket("/multiplexer");
    const early = new MultiWebSocket("/multiplexer");
    const sockets = [up, early].map((M) => new M.WebSocket("/demo/echo"));
    const closed = sockets.map((socket) => new Promise((resolve) => (socket.onclose = resolve)));
    await 0;
    early.close();
    sockets[0].onopen = () => up.close();
    await Promise.all(closed);
  });
  assert.deepEqual(lines.filter((line) => line.startsWith("manysocket:")), []);
  await page.close();
});

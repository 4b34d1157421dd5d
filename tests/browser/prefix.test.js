// Behind a proxy that changes the beginning of paths, a virtual socket opens wherever a native one does.
import assert from "node:assert/strict";
import { createServer, request } from "node:http";
import { after, test } from "node:test";
import { runInPage, startBrowser } from "../harness/browser.js";
import { makeSite, removeSite, startServer } from "../harness/index.js";

const site = await makeSite();
const browser = await startBrowser();
after(async () => {
  await browser.close();
  await removeSite(site);
});

/** Starts a proxy that changes the target of upgrades, and passes on all else. Returns its origin. */
async function startProxy(t, server, change) {
  const { hostname, port } = new URL(server.origin);
  const passOn = (from, path) => request({ hostname, port, path, method: from.method, headers: from.headers });
  const proxy = createServer((from, to) => {
    const onward = passOn(from, from.url);
    onward.on("response", (answer) => {
      to.writeHead(answer.statusCode, answer.headers);
      answer.pipe(to);
    });
    from.pipe(onward);
  });
  proxy.on("upgrade", (from, socket) => {
    const onward = passOn(from, change(from.url));
    const head = ({ statusCode, statusMessage, rawHeaders }) => {
      const lines = rawHeaders.flatMap((name, at) => (at % 2 === 0 ? `${name}: ${rawHeaders[at + 1]}\r\n` : []));
      return `HTTP/1.1 ${statusCode} ${statusMessage}\r\n${lines.join("")}\r\n`;
    };
    onward.on("upgrade", (answer, upstream, first) => {
      socket.write(head(answer));
      upstream.unshift(first);
      for (const end of [socket, upstream]) end.on("error", () => {});
      socket.pipe(upstream).pipe(socket);
    });
    onward.on("response", (answer) => {
      answer.resume();
      socket.end(head(answer));
    });
    onward.end();
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    proxy.close();
    proxy.closeAllConnections();
  });
  return `http://127.0.0.1:${proxy.address().port}`;
}

/** How native and virtual sockets to URLs end: `open`, or the code of the close; and whether a link was up. */
async function outcomes(t, origin, multiplexer, urls, options) {
  const page = await browser.newPage();
  t.after(() => page.close());
  await page.goto(`${origin}/`);
  return runInPage(page, async ({ multiplexer, urls, options }) => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket(multiplexer, options);
    const outcome = (socket) => new Promise((resolve) => {
      socket.onopen = () => resolve("open");
      socket.onclose = ({ code }) => resolve(code);
    });
    const results = {};
    for (const url of urls) results[url] = [await outcome(new WebSocket(url)), await outcome(new M.WebSocket(url))];
    return [results, M.readyState];
  }, { multiplexer, urls, options });
}

const CASES = [
  {
    name: "a prefix that is removed",
    change: (path) => path.replace(/^\/app\//, "/"),
    multiplexer: "/app/multiplexer",
    urls: { "/app/demo/echo": "open", "/app/demo/topics/x?since=/app/": "open", "/app/demo/none": 1006 },
  },
  {
    name: "a prefix of several segments, one encoded",
    change: (path) => path.replace(/^\/a%20b\/v1\//, "/"),
    multiplexer: "/a%20b/v1/multiplexer",
    urls: { "/a%20b/v1/demo/echo": "open", "/a%20b/v1/v1/demo/echo": 1006 },
  },
  {
    name: "a prefix that is added",
    change: (path) => `/demo${path}`,
    more: ["--multiplexer", "/demo/multiplexer"],
    multiplexer: "/multiplexer",
    urls: { "/echo": "open", "/demo/echo": 1006 },
  },
  {
    name: "a prefix in the place of another",
    change: (path) => path.replace(/^\/live\//, "/demo/"),
    more: ["--multiplexer", "/demo/multiplexer"],
    multiplexer: "/live/multiplexer",
    urls: { "/live/echo": "open", "/live/none": 1006 },
  },
  {
    name: "paths that stay as they are",
    change: (path) => path,
    multiplexer: "/multiplexer",
    urls: { "/demo/echo": "open", "/app/demo/echo": 1006 },
  },
];

for (const { name, change, more = [], multiplexer, urls } of CASES) {
  test(name, async (t) => {
    const server = await startServer(site, { more });
    t.after(() => server.stop());
    const origin = await startProxy(t, server, change);
    for (const shared of [false, true]) {
      const [results, state] = await outcomes(t, origin, multiplexer, Object.keys(urls), { shared });
      const expected = Object.fromEntries(Object.entries(urls).map(([url, outcome]) => [url, [outcome, outcome]]));
      assert.deepEqual(results, expected, `shared: ${shared}`);
      assert.equal(state, 1, "the sockets were on a link");
    }
  });
}

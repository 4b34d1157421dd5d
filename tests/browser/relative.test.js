// RelativeWebSocket: every relative form against every kind of base, as the browser's own resolver has it, and in the contexts where
// that does not help. That all else is as with a native socket is the business of parity.test.js.
import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";
import { BLANK_PAGE, makeSite, runInPage, startWorld } from "../harness/index.js";

const world = await startWorld({ site: await makeSite(), kind: "test" });
after(() => world.close());

const GAME = "/games/Af354BGq/";
const folder = join(world.site, GAME);
await mkdir(join(folder, "workers"), { recursive: true });
await writeFile(join(folder, "index.html"), BLANK_PAGE);
await writeFile(join(folder, "based.html"), `${BLANK_PAGE}<base href="../Zx81/">`);

/** A page of the game, with the classes as globals. */
async function openGame(path = GAME) {
  const page = await world.openPage(path);
  await runInPage(page, async () => {
    const { JsonWebSocket, MultiWebSocket, RelativeWebSocket } = await import("/pkg/index.js");
    const M = new MultiWebSocket("/multiplexer");
    /** Returns the URL that a constructor made of its arguments, or its exception. */
    const made = (Class, ...all) => {
      try {
        const socket = new Class(...all);
        socket.close();
        return socket.url;
      } catch (error) {
        return `${error.name}: ${error.message}`;
      }
    };
    Object.assign(globalThis, { JsonWebSocket, M, RelativeWebSocket, made });
  });
  return page;
}

const page = await openGame(`${GAME}?player=2#board`);
const { host } = new URL(world.server.origin);

const FORMS = [
  "x", "pieces/", "./x", "../x", "../../x", "../../../x", "/x", "?q", "?", "", ".", "..", "//localhost:1/x", "x?a=b&c", "x y", "ä", "%2e%2e/x",
  " x\n", "\\x", "http:x", "ws:x", "ws://localhost:1/x", "wss://localhost:1/x", "http://localhost:1/x", "https://localhost:1/x",
  "WS://LOCALHOST:1/a/../x", "x#f", "#f", "#", "x#", "ftp://localhost/x", "mailto:x", "ws://", "ws://[/", "//",
];

/** Returns the standard's result for a URL and a base: the resolver's answer with the scheme mapped. */
const expected = (given, base) => {
  if (!URL.canParse(given, base)) return "SyntaxError";
  const url = new URL(given, base);
  url.protocol = url.protocol.replace(/^http/, "ws");
  return /^wss?:$/.test(url.protocol) && !url.href.includes("#") ? url.href : "SyntaxError";
};

const brief = (urls) => urls.map((url) => (url.startsWith("SyntaxError") ? "SyntaxError" : url));

test("every form on a page, by its own base", async () => {
  const [native, ...ours] = await runInPage(
    page,
    (forms) => [WebSocket, RelativeWebSocket, M.RelativeWebSocket, M.WebSocket, JsonWebSocket, M.JsonWebSocket].map((Class) => forms.map((form) => made(Class, form))),
    FORMS,
  );
  const table = FORMS.map((form) => expected(form, page.url()));
  assert.deepEqual(brief(native), table, "the browser follows the standard");
  for (const urls of ours) assert.deepEqual(brief(urls), table);
});

test("the founding example", async () => {
  assert.equal(await runInPage(page, () => made(RelativeWebSocket, "pieces/")), `ws://${host}/games/Af354BGq/pieces/`);
  assert.equal(await runInPage(page, () => made(M.JsonWebSocket, "pieces/")), `ws://${host}/games/Af354BGq/pieces/`);
});

test("every form with every kind of explicit base", async () => {
  const bases = ["http://localhost:2/a/b?c", "https://localhost:2/a/b/", "ws://localhost:2/a/b", "wss://localhost:2", "http://localhost:2/a/b#fragment"];
  for (const base of bases) {
    const got = await runInPage(
      page,
      ([forms, base]) =>
        [{ base }, { base: new URL(base) }, { base: { url: base } }].flatMap((options) => [
          forms.map((form) => made(RelativeWebSocket, form, options)),
          forms.map((form) => made(M.RelativeWebSocket, form, [], options)),
          forms.map((form) => made(M.JsonWebSocket, form, options)),
        ]),
      [FORMS, base],
    );
    for (const urls of got) assert.deepEqual(brief(urls), FORMS.map((form) => expected(form, base)), base);
  }
});

test("another socket is a base, and so is a URL relative to the page", async () => {
  const got = await runInPage(page, () => {
    const native = new WebSocket("/lobby/index?now");
    const virtual = new M.WebSocket("/lobby/index?now");
    const json = new JsonWebSocket(native);
    const urls = [native, virtual, json, M, "../../lobby/", "//localhost:3/lobby/", "?q"].map((base) => made(RelativeWebSocket, "chat", { base }));
    const composed = new JsonWebSocket(new M.RelativeWebSocket("chat", { base: virtual })).url;
    return [...urls, composed];
  });
  assert.deepEqual(got, [
    `ws://${host}/lobby/chat`, `ws://${host}/lobby/chat`, `ws://${host}/lobby/chat`, `ws://${host}/chat`, `ws://${host}/lobby/chat`,
    "ws://localhost:3/lobby/chat", `ws://${host}${GAME}chat`, `ws://${host}/lobby/chat`,
  ]);
});

test("<base href> counts, also when it changes, and a base that moves does not move a socket", async () => {
  const other = await openGame(`${GAME}based.html`);
  const got = await runInPage(other, () => {
    const first = new RelativeWebSocket("chat");
    document.querySelector("base").href = "http://localhost:4/moved/";
    return [first.url, made(RelativeWebSocket, "chat"), made(M.RelativeWebSocket, "chat"), made(WebSocket, "chat"), made(RelativeWebSocket, "x", { base: "y/" })];
  });
  const moved = "ws://localhost:4/moved/chat";
  assert.deepEqual(got, [`ws://${host}/games/Zx81/chat`, moved, moved, moved, "ws://localhost:4/moved/y/x"]);
  await other.close();
});

// The code in each context: it reports the results of relative URLs, and of a conversation over the multiplexer.
const inContext = (origin) => `
  const { MultiWebSocket, RelativeWebSocket } = await import("${origin}/pkg/index.js");
  const M = new MultiWebSocket("/multiplexer");
  const made = (Class, ...all) => {
    try {
      const socket = new Class(...all);
      socket.close();
      return socket.url;
    } catch (error) {
      return error.name;
    }
  };
  const urls = [WebSocket, RelativeWebSocket, M.RelativeWebSocket].map((Class) => made(Class, "pieces/"));
  const socket = new M.JsonWebSocket("/test/echo");
  const talk = await new Promise((resolve) => {
    socket.onopen = () => socket.send(["hello"]);
    socket.onmessage = ({ data }) => resolve(data);
    socket.onclose = () => resolve("closed");
  });
  const done = { urls, given: made(RelativeWebSocket, "x", { base: "/y/" }), talk };
  globalThis.document ? parent.postMessage(done, "*") : postMessage(done);`;

const CONTEXTS = {
  "about:blank": ["the creator's", (code) => {
    const frame = document.body.appendChild(document.createElement("iframe"));
    const script = frame.contentDocument.createElement("script");
    script.type = "module";
    script.textContent = code;
    frame.contentDocument.body.append(script);
  }],
  srcdoc: ["the creator's", (code) => {
    const frame = document.createElement("iframe");
    frame.srcdoc = `<script type=module>${code}</${"script"}>`;
    document.body.append(frame);
  }],
  "a document of a Blob": ["its origin", (code) => {
    const frame = document.createElement("iframe");
    frame.src = URL.createObjectURL(new Blob([`<script type=module>${code}</${"script"}>`], { type: "text/html" }));
    document.body.append(frame);
  }],
  "a worker of a Blob": ["its origin", (code) => {
    const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    new Worker(url, { type: "module" }).onmessage = ({ data }) => postMessage(data);
  }],
  "a worker": ["its own", (code) => {
    new Worker(`/games/Af354BGq/workers/worker.js`, { type: "module" }).onmessage = ({ data }) => postMessage(data);
  }],
};

for (const [name, [base, start]] of Object.entries(CONTEXTS)) {
  test(`in ${name} the base is ${base}`, async () => {
    const code = inContext(world.server.origin);
    await writeFile(join(folder, "workers/worker.js"), code);
    const other = await openGame();
    const { urls, given, talk } = await runInPage(other, ([code, start]) =>
      new Promise((resolve) => {
        addEventListener("message", ({ data }) => resolve(data));
        (0, eval)(`(${start})`)(code);
      }), [code, start.toString()]);
    const path = { "the creator's": GAME, "its origin": "/", "its own": `${GAME}workers/` }[base];
    const url = `ws://${host}${path}pieces/`;
    // Natively a Blob's URL is no base.
    assert.deepEqual(urls, [base === "its origin" ? "SyntaxError" : url, url, url]);
    assert.equal(given, `ws://${host}/y/x`);
    assert.deepEqual(talk, ["hello"]);
    await other.close();
  });
}

test("a base that cannot be one is quoted; an absolute URL needs none", async () => {
  const bases = ["mailto:ada@example.com", "about:blank", "data:text/html,x", "javascript:0", "http://", "http://[", "blob:null/5f3c"];
  const got = await runInPage(page, (bases) => bases.map((base) => [made(RelativeWebSocket, "pieces/", { base }), made(M.JsonWebSocket, "ws://localhost:5/x", { base })]), bases);
  assert.deepEqual(got, bases.map((base) => [
    `SyntaxError: Failed to construct 'WebSocket': The URL 'pieces/' is not absolute, and '${base}' cannot be the base of a relative one.`,
    "ws://localhost:5/x",
  ]));
  const others = await runInPage(page, () => [made(RelativeWebSocket, "x", { base: "file:///a/b" }), made(RelativeWebSocket, "x#f", { base: "http://localhost/" }), made(RelativeWebSocket, "x", { base: undefined }), made(RelativeWebSocket)]);
  assert.deepEqual(others, [
    "SyntaxError: Failed to construct 'WebSocket': The URL's scheme must be either 'http', 'https', 'ws', or 'wss'. 'file' is not allowed.",
    "SyntaxError: Failed to construct 'WebSocket': The URL contains a fragment identifier ('f'). Fragment identifiers are not allowed in WebSocket URLs.",
    `ws://${host}${GAME}x`,
    "TypeError: Failed to construct 'WebSocket': 1 argument required, but only 0 present.",
  ]);
});

test("its sockets are those of the class below it; a page's own class, and no `new`", async () => {
  const got = await runInPage(page, async () => {
    const facts = [];
    for (const [Class, Below] of [[RelativeWebSocket, WebSocket], [M.RelativeWebSocket, M.WebSocket]]) {
      class Mine extends Class {
        constructor() { super("../../test/echo", "v1"); }
      }
      const mine = new Mine();
      const plain = Class("../../test/protocol?choose=b", ["a", "b"], { base: location });
      await new Promise((resolve) => (plain.onopen = resolve));
      facts.push([mine instanceof Mine, mine instanceof Class, mine instanceof Below, plain instanceof Class, Object.getPrototypeOf(plain) === Below.prototype, plain.protocol]);
      mine.close();
      plain.close();
    }
    return facts;
  });
  assert.deepEqual(got, [[true, true, true, true, true, "b"], [true, true, true, true, true, "b"]]);
});


// Shared documents from a page: over native and virtual sockets, with and without the client.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { runInPage, startServer, startWorld } from "../harness/index.js";

const data = await mkdtemp(join(tmpdir(), "manysocket-data-"));
const world = await startWorld({ more: ["--data", data] });
after(async () => {
  await world.close();
  await rm(data, { recursive: true, force: true });
});

/** Runs code in a fresh page, where `open(name)` connects to a document and `Socket` is the class that it connects with. */
async function inPage(kind, code, argument) {
  const page = await world.openPage();
  await runInPage(page, async (kind) => {
    const { MultiWebSocket } = await import("/pkg/index.js");
    const { state, StateError } = await import("/pkg/state.js");
    const M = new MultiWebSocket("/multiplexer");
    const Socket = kind === "native" ? WebSocket : M.WebSocket;
    const event = (target, type) => new Promise((resolve) => target.addEventListener(type, resolve, { once: true }));
    /** Until others' changes have brought the document to this version. */
    const reaches = (s, version) =>
      new Promise((resolve) => {
        const stop = s.watch(check);
        function check() {
          if (s.version < version) return;
          stop();
          resolve();
        }
        check();
      });
    const failure = (promise) => promise.then(() => null, ({ name, code, message, conflicts }) => ({ name, code, message, conflicts }));
    const open = (name, WebSocket = Socket) => state(`/demo/state/${name}`, { WebSocket });
    Object.assign(globalThis, { Socket, open, event, reaches, failure, StateError });
  }, kind);
  const result = await runInPage(page, code, argument);
  assert.deepEqual(page.uncaught, []);
  await page.close();
  return result;
}

test("a bare WebSocket does it in ten lines", async () => {
  const page = await world.openPage();
  const list = await runInPage(page, async () => {
    let version;
    const ws = new WebSocket("/demo/state/bare");
    ws.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      version = message.version ?? version;
      if (message.data) document.title = JSON.stringify(message.data);
      if (message.error) document.title = `refused: ${message.message}`;
      else if (message.id) document.title = `committed as version ${version}`;
    };
    const commit = (delta) => ws.send(JSON.stringify({ id: crypto.randomUUID(), base: version, delta }));

    const seen = [];
    const titled = () => new Promise((resolve) => ws.addEventListener("message", () => resolve(seen.push(document.title)), { once: true }));
    await titled();
    commit([{ op: "add", path: "/cells", value: { A1: 42 } }]);
    await titled();
    commit([{ op: "replace", path: "/missing", value: 1 }]);
    await titled();
    return seen;
  });
  assert.deepEqual(list, ["{}", "committed as version 1", 'refused: operation 0 at "/missing": path is invalid']);
  await page.close();
});

for (const kind of ["native", "virtual"]) {
  const name = (what) => `${kind}-${what}`;

  test(`${kind}: a commit reaches everybody, and who watches is called`, async () => {
    const seen = await inPage(kind, async (name) => {
      const [ada, bob] = [await open(name), await open(name, WebSocket)];
      ada.data.cells = { A1: 1, note: "long enough that deltas are shorter than the whole document, which is sent otherwise" };
      const versions = [await ada.commit()];
      await reaches(bob, 1);
      const { cells } = bob.data;
      const calls = [];
      const stop = bob.watch((delta) => calls.push(delta));
      bob.watch("/cells/A1", (value, delta) => calls.push(["A1", value, delta.length]));
      bob.watch("/cells/B1", () => calls.push("B1"));
      bob.watch("", (value) => calls.push(["root", value === bob.data]));
      const own = [];
      ada.watch((delta, change) => own.push([delta.length, change.own, ada.version]));
      ada.watch("/cells/A1", (value, delta, change) => own.push([value, change.own]));
      bob.watch((delta, change) => own.push(["bob", change.own]));
      ada.data.cells.A1 = 2;
      ada.data.cells["a/~b"] = [1];
      versions.push(await ada.commit(), await ada.commit());
      await reaches(bob, 2);
      stop();
      delete ada.data.cells.A1;
      versions.push(await ada.commit());
      await reaches(bob, 3);
      return { versions, calls, own, sameObject: cells === bob.data.cells, data: bob.data.cells["a/~b"], states: [ada.readyState, bob.version] };
    }, name("watch"));
    assert.deepEqual(seen.versions, [1, 2, 2, 3], "nothing to commit makes no version");
    const told = [...seen.own].sort((one, other) => (one[0] === "bob") - (other[0] === "bob"));
    assert.deepEqual(told, [[2, true, 2], [2, true], [1, true, 3], [undefined, true], ["bob", false], ["bob", false]], "one's own commits");
    assert.deepEqual(seen.calls, [
      [{ op: "replace", path: "/cells/A1", value: 2 }, { op: "add", path: "/cells/a~1~0b", value: [1] }],
      ["A1", 2, 1],
      ["root", true],
      ["A1", undefined, 1],
      ["root", true],
    ]);
    assert.deepEqual([seen.sameObject, seen.data, seen.states], [true, [1], [1, 3]]);
  });

  test(`${kind}: edits that are not committed survive other people's commits; a true conflict shows both sides`, async () => {
    const seen = await inPage(kind, async (name) => {
      const [ada, bob] = [await open(name), await open(name)];
      ada.data = { a: 1, b: 1, c: 1, list: [1], text: "x".repeat(200) };
      await ada.commit();
      await reaches(bob, 1);
      Object.assign(bob.data, { b: "bob", c: "bob", mine: "bob" });
      bob.data.list.push("bob");
      Object.assign(ada.data, { a: "ada", b: "ada" });
      ada.data.list.push("ada");
      await ada.commit();
      await reaches(bob, 2);
      const rebased = structuredClone(bob.data);
      const refused = await failure(bob.commit());
      const kept = structuredClone(bob.data);
      // Both sides have been seen: now it is meant.
      const version = await bob.commit();
      await reaches(ada, version);
      return { rebased, refused, kept, version, ada: ada.data, bob: bob.data };
    }, name("conflict"));
    const { text, ...rebased } = seen.rebased;
    assert.deepEqual(rebased, { a: "ada", b: "bob", c: "bob", list: [1, "ada", "bob"], mine: "bob" });
    assert.deepEqual(seen.refused, {
      name: "StateError",
      code: "conflict",
      message: "others have changed /b",
      conflicts: [{ path: "/b", mine: "bob", theirs: "ada" }],
    });
    assert.deepEqual(seen.kept, seen.rebased);
    assert.equal(seen.version, 3);
    assert.deepEqual(seen.ada, seen.rebased);
    assert.deepEqual(seen.bob, seen.ada);
  });

  test(`${kind}: commits at the same time: the second is refused with both sides, or applied if they are apart`, async () => {
    const seen = await inPage(kind, async (name) => {
      const [ada, bob] = [await open(name), await open(name)];
      ada.data = { a: 0, b: 0, list: [], text: "x".repeat(200) };
      await ada.commit();
      await reaches(bob, 1);
      ada.data.a = "ada";
      bob.data.b = "bob";
      ada.data.list.push("ada");
      bob.data.list.push("bob");
      const apart = await Promise.all([ada.commit(), bob.commit()]);
      await Promise.all([reaches(ada, 3), reaches(bob, 3)]);
      const same = [JSON.stringify(ada.data.list), JSON.stringify(bob.data.list)];
      ada.data.a = "ada again";
      bob.data.a = "bob, too";
      bob.data.b = "and more";
      const results = await Promise.all([failure(ada.commit()), failure(bob.commit())]);
      await Promise.all([reaches(ada, 4), reaches(bob, 4)]);
      return { apart: apart.sort(), same, results, data: [ada.data.a, bob.data.a, ada.data.b, bob.data.b] };
    }, name("race"));
    assert.deepEqual(seen.apart, [2, 3]);
    assert.equal(seen.same[0], seen.same[1]);
    const [winner, loser] = seen.results[0] === null ? ["ada again", "bob, too"] : ["bob, too", "ada again"];
    const refused = seen.results.filter((result) => result !== null);
    assert.equal(refused.length, 1);
    assert.deepEqual(refused[0].conflicts, [{ path: "/a", mine: loser, theirs: winner }]);
    assert.deepEqual(seen.data.slice(0, 2), ["ada again", "bob, too"], "the loser's edit is still there");
  });

  test(`${kind}: every key is data`, async () => {
    const seen = await inPage(kind, async (name) => {
      const [ada, bob] = [await open(name), await open(name)];
      const hostile = '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"toJSON":1,"hasOwnProperty":2,"a/b":{"~":{"":3}}}';
      ada.data = JSON.parse(hostile);
      ada.data.text = "x".repeat(300);
      await ada.commit();
      await reaches(bob, 1);
      const whole = JSON.stringify(bob.data);
      Object.getOwnPropertyDescriptor(bob.data, "__proto__").value.more = 2;
      bob.data.constructor.prototype.polluted = 2;
      delete bob.data["a/b"]["~"][""];
      bob.data["a/b"]["~"] = JSON.parse('{"__proto__":1}');
      await bob.commit();
      await reaches(ada, 2);
      delete ada.data["__proto__"];
      await ada.commit();
      await reaches(bob, 3);
      const plain = (value) => Object.getPrototypeOf(value) === Object.prototype;
      const keys = Object.keys(bob.data).sort();
      return { whole: JSON.parse(whole).text.length, a: JSON.stringify(ada.data["a/b"]), c: bob.data.constructor, keys, plain: plain(bob.data) && plain(bob.data["a/b"]), polluted: {}.polluted ?? null, more: {}.more ?? null };
    }, name("keys"));
    assert.deepEqual(seen, {
      whole: 300,
      a: '{"~":{"__proto__":1}}',
      c: { prototype: { polluted: 2 } },
      keys: ["a/b", "constructor", "hasOwnProperty", "text", "toJSON"],
      plain: true,
      polluted: null,
      more: null,
    });
  });

  test(`${kind}: a commit whose answer is lost is applied once, and edits made meanwhile are kept`, async () => {
    const seen = await inPage(kind, async (name) => {
      let isDeaf = false;
      const Lossy = function (url) {
        const socket = new Socket(url);
        socket.addEventListener("message", (event) => {
          if (!isDeaf || JSON.parse(event.data).id === undefined) return;
          isDeaf = false;
          event.stopImmediatePropagation();
          socket.close();
        });
        return socket;
      };
      const [ada, bob] = [await open(name, Lossy), await open(name)];
      ada.data = { list: [], text: "x".repeat(200) };
      await ada.commit();
      await reaches(bob, 1);
      isDeaf = true;
      ada.data.list.push("ada");
      const committed = ada.commit();
      const later = event(ada, "close").then(() => {
        ada.data.later = true;
        return ada.commit();
      });
      const versions = [await committed, await later];
      await reaches(bob, 3);
      return { versions, ada: ada.data, bob: bob.data };
    }, name("lossy"));
    assert.deepEqual(seen.versions, [2, 3]);
    assert.deepEqual(seen.ada.list, ["ada"]);
    assert.deepEqual(seen.bob, seen.ada);
  });

  test(`${kind}: what cannot be committed says why`, async () => {
    const seen = await inPage(kind, async (name) => {
      const s = await open(name);
      s.data.big = "x".repeat(300_000);
      const results = [await failure(s.commit())];
      s.data = {};
      s.data.self = s.data;
      results.push((await failure(s.commit())).name);
      s.data = undefined;
      results.push((await failure(s.commit())).name);
      s.data = { when: new Date(0), missing: undefined };
      const version = await s.commit();
      results.push(s.data.when);
      s.close();
      results.push((await failure(s.commit())).code, s.readyState);
      const other = await failure(open("n".repeat(300)));
      const again = await open(name);
      return { results, version, other: other.code, data: again.data };
    }, name("errors"));
    assert.equal(seen.results[0].code, "too-large");
    assert.deepEqual(seen.results.slice(1), ["TypeError", "TypeError", "1970-01-01T00:00:00.000Z", "closed", 3]);
    assert.deepEqual([seen.version, seen.other], [1, "unreachable"]);
    assert.deepEqual(seen.data, { when: "1970-01-01T00:00:00.000Z" });
  });

  test(`${kind}: a page that freezes or replaces the data gets what others commit`, async () => {
    const seen = await inPage(kind, async (name) => {
      const freeze = (value) => {
        if (value !== null && typeof value === "object") Object.values(Object.freeze(value)).forEach(freeze);
        return value;
      };
      const [ada, bob] = [await open(name), await open(name)];
      const padding = "long enough that deltas are shorter than the whole document, which is sent otherwise".repeat(3);
      ada.data = { cells: { a: 1, b: 1 }, rows: [{ id: 1 }, { id: 2 }, { id: 3 }], padding };
      await ada.commit();
      await reaches(bob, 1);
      const closes = [];
      bob.addEventListener("close", ({ reason }) => closes.push(reason));
      const frozen = bob.data = freeze(bob.data);
      const heard = [];
      bob.watch("/cells/a", (value) => heard.push(value));
      ada.data.cells.a = 2;
      ada.data.rows.shift();
      await ada.commit();
      await reaches(bob, 2);
      const after = [bob.data.cells.a, bob.data.rows, frozen.cells.a, ...heard];
      // As with a reducer: a new object, with the old parts in it.
      bob.data = freeze({ ...bob.data, cells: { ...bob.data.cells, b: "bob" }, when: new Date(0) });
      Object.seal(ada.data);
      Object.preventExtensions(ada.data.cells);
      await reaches(ada, await bob.commit());
      const second = [ada.data.cells, ada.data.when, bob.data.when];
      // A page does not hear of places that it does not have.
      ada.data = Object.freeze({ ...ada.data, cells: Object.freeze({ a: 4 }) });
      bob.data = { ...bob.data, cells: { a: 5, b: "bob" } };
      const outcomes = await Promise.all([failure(ada.commit()), failure(bob.commit())]);
      return { after, second, closes, outcomes: outcomes.map((error) => error && [error.code, error.conflicts.length]) };
    }, name("frozen"));
    assert.deepEqual(seen.after, [2, [{ id: 2 }, { id: 3 }], 1, 2]);
    assert.deepEqual(seen.second, [{ a: 2, b: "bob" }, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000Z"]);
    assert.deepEqual(seen.closes, []);
    assert.deepEqual(seen.outcomes.filter(Array.isArray), [["conflict", 1]]);
  });

  test(`${kind}: the first of 2,500 rows is removed by a short message`, async () => {
    const seen = await inPage(kind, async (name) => {
      const sent = [];
      class Counted extends Socket {
        send(text) {
          sent.push(text.length);
          super.send(text);
        }
      }
      const s = await open(name, Counted);
      s.data.rows = [];
      for (let from = 0; from < 2500; from += 500) {
        for (let n = from; n < from + 500; n++) s.data.rows.push({ id: n, name: `name ${n}`, at: 1e12 + n });
        await s.commit();
      }
      const other = await open(name);
      const [, second] = other.data.rows;
      s.data.rows.shift();
      const versions = [await s.commit()];
      const length = sent.at(-1);
      await reaches(other, versions[0]);
      const { data: { rows } } = other;
      return { length, rows: rows.length, same: rows[0] === second };
    }, name("rows"));
    assert.ok(seen.length < 200, `${seen.length} characters`);
    assert.deepEqual([seen.rows, seen.same], [2499, true]);
  });

  test(`${kind}: the server refuses a large or malformed edit once, with its path, and commits the others`, async () => {
    const seen = await inPage(kind, async (name) => {
      const [s, other] = [await open(name), await open(name)];
      const results = [];
      const commit = async () => {
        const error = await failure(s.commit());
        results.push(error === null ? s.version : `${error.code} ${error.message.split(" ")[0]}`);
      };
      s.data.big = "x".repeat(300_000);
      s.data.title = "a";
      // The second is made before the first is answered.
      const first = commit();
      s.data.note = "b";
      await Promise.all([first, commit()]);
      await reaches(other, s.version);
      results.push(Object.keys(other.data).sort().join());
      s.data.list = [1];
      await commit();
      results.push(s.data.big.length);
      // Nothing else: it is meant.
      await commit();
      let deep = {};
      for (let n = 0; n < 120; n++) deep = { deep };
      s.data.deep = { there: deep };
      s.data.more = 1;
      await commit();
      s.data.more = 2;
      await commit();
      s.data.big = "short";
      delete s.data.deep;
      await commit();
      await reaches(other, s.version);
      return { results, other: other.data };
    }, name("lasting"));
    assert.deepEqual(seen.results, [
      "too-large /big:", 1, "note,title", 2, 300_000, "too-large /big:", "too-large /deep:", 3, 4,
    ]);
    assert.deepEqual(seen.other, { big: "short", list: [1], more: 2, note: "b", title: "a" });
  });

  test(`${kind}: half an emoji becomes U+FFFD, in values and in names`, async () => {
    const seen = await inPage(kind, async (name) => {
      const half = "😀".slice(0, 1);
      const [s, other] = [await open(name), await open(name)];
      s.data.text = half;
      s.data[half] = [`a${"😀".slice(1)}😀`];
      const versions = [await s.commit()];
      s.data.more = 1;
      versions.push(await s.commit(), await s.commit());
      await reaches(other, 2);
      // A client that knows nothing of it.
      const bare = new Socket(`/demo/state/${name}`);
      const next = async () => JSON.parse((await event(bare, "message")).data);
      await next();
      bare.send(JSON.stringify({ id: "bare", base: 2, delta: [{ op: "add", path: `/x${half}`, value: { [half]: half } }] }));
      const answer = await next();
      await reaches(s, 3);
      return { versions, own: s.data, other: other.data, answer };
    }, name("half"));
    assert.deepEqual(seen.versions, [1, 2, 2]);
    const expected = { text: "\ufffd", "\ufffd": ["a\ufffd😀"], more: 1, "x\ufffd": { "\ufffd": "\ufffd" } };
    assert.deepEqual(seen.own, expected);
    assert.deepEqual(seen.answer, { id: "bare", version: 3 });
  });

  test(`${kind}: what would be lost without a word throws`, async () => {
    const seen = await inPage(kind, async (name) => {
      const s = await open(name);
      s.data = { x: {}, y: 1 };
      await s.commit();
      const thrown = (work) => {
        try {
          return work() && "nothing";
        } catch ({ name, message }) {
          return `${name}: ${message.split(":")[0]}`;
        }
      };
      const watches = [
        thrown(() => s.watch("cells/A1", () => {})),
        thrown(() => s.watch("/a~2", () => {})),
        thrown(() => s.watch("/a")),
        thrown(() => s.watch(undefined, () => {})),
        thrown(() => s.watch("/a~0~1", () => {})),
      ];
      s.data.x["__proto__"] = { admin: true };
      const error = await failure(s.commit());
      return { watches, error: [error.name, error.message.split(" ")[0]] };
    }, name("silent"));
    assert.deepEqual(seen.watches, [
      "TypeError: 'cells/A1' is no path", "TypeError: '/a~2' is no path", "TypeError: watch() calls a function, and this is none",
      "TypeError: 'undefined' is no path", "nothing",
    ]);
    assert.deepEqual(seen.error, ["TypeError", "/x"]);
  });

  test(`${kind}: pages that edit at random end with the same document`, async () => {
    const seen = await inPage(kind, async (name) => {
      // A generator of numbers that is the same each time (mulberry32).
      let seed = 5;
      const random = (below) => {
        seed = (seed + 0x6d2b79f5) | 0;
        let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
        t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
        return ((t ^ (t >>> 14)) >>> 0) % below;
      };
      const pages = await Promise.all(Array.from({ length: 6 }, (_, n) => open(name, n % 2 ? WebSocket : Socket)));
      pages[0].data = { object: {}, list: [], deep: { a: { b: {} } }, text: "x".repeat(500) };
      await pages[0].commit();
      await Promise.all(pages.map((s) => reaches(s, 1)));
      const keys = ["a", "b", "__proto__", "c/d", "~", "7"];
      const edit = ({ data }) => {
        const object = [data.object, data.deep, data.deep.a, data.deep.a?.b][random(4)] ?? data.object;
        const key = keys[random(keys.length)];
        const put = (value) => Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
        if (random(4) === 0) data.list.push(random(100));
        else if (random(4) === 0) data.list.splice(random(data.list.length + 1), random(3));
        else if (random(5) === 0 && typeof object === "object") delete object[key];
        else if (typeof object === "object") put([random(100), {}, { b: random(9) }, null, [random(3)]][random(5)]);
        if (typeof data.deep?.a !== "object" || data.deep.a === null) data.deep = { a: { b: {} } };
      };
      let conflicts = 0;
      await Promise.all(pages.map(async (s) => {
        for (let round = 0; round < 60; round++) {
          for (let n = random(4); n >= 0; n--) edit(s);
          // A loser insists: the second time its side is sent over the other.
          for (let error = true; error !== null;) {
            error = await failure(s.commit());
            if (error !== null && error.code !== "conflict") throw new Error(JSON.stringify(error));
            if (error !== null) conflicts++;
          }
        }
      }));
      const newest = Math.max(...pages.map((s) => s.version));
      await Promise.all(pages.map((s) => reaches(s, newest)));
      const fresh = await open(name);
      const sorted = (value) => {
        if (Array.isArray(value)) return value.map(sorted);
        if (value === null || typeof value !== "object") return value;
        return Object.keys(value).sort().map((key) => [key, sorted(value[key])]);
      };
      const texts = new Set([fresh, ...pages].map((s) => JSON.stringify(sorted(s.data))));
      return { different: [...texts].length, conflicts, newest, version: fresh.version };
    }, name("random"));
    assert.equal(seen.different, 1);
    assert.equal(seen.version, seen.newest);
    assert.ok(seen.conflicts > 0, "they did contend");
  });
}

test("a page whose server is killed catches up with the next, and what it was about to commit goes through", async () => {
  const address = new URL(world.server.origin).host;
  const page = await world.openPage();
  await runInPage(page, async () => {
    const { state } = await import("/pkg/state.js");
    globalThis.s = await state("/demo/state/killed");
    s.data = { list: ["before"], text: "x".repeat(200) };
    await s.commit();
  });
  world.server.pause();
  await runInPage(page, () => {
    s.data.list.push("under way");
    globalThis.committed = s.commit();
    globalThis.closed = new Promise((resolve) => s.addEventListener("close", resolve, { once: true }));
  });
  await world.server.kill();
  await runInPage(page, async () => {
    await closed;
    s.data.offline = true;
    globalThis.later = s.commit();
  });
  const next = await startServer(world.site, { listen: address, more: ["--data", data] });
  try {
    const seen = await runInPage(page, async () => {
      const { state } = await import("/pkg/state.js");
      const versions = [await committed, await later];
      return { versions, list: s.data.list, fresh: (await state("/demo/state/killed")).data };
    });
    assert.deepEqual(seen.versions, [2, 3]);
    assert.deepEqual(seen.list, ["before", "under way"]);
    assert.deepEqual([seen.fresh.list, seen.fresh.offline], [seen.list, true]);
    assert.deepEqual(page.uncaught, []);
  } finally {
    await page.close();
    await next.stop();
  }
});

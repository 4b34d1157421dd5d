// The deltas that the client of documents makes and applies, and how it merges: without a page, since they are only JSON.
import assert from "node:assert/strict";
import { test } from "node:test";
import { diff } from "../../js/state/diff.js";
import { merge, trees } from "../../js/state/merge.js";
import { conform, page } from "../../js/state/page.js";
import { patched } from "../../js/state/patch.js";
import { isSame, snapshot, toPlain, toTree } from "../../js/state/tree.js";

/** A generator of numbers that is the same each time (mulberry32). */
function generator(seed) {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const KEYS = ["a", "__proto__", "c/~d", "7"];
const define = (object, key, value) => Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });

/** Random JSON. */
function makeValue(random, depth = 0) {
  switch (random(depth > 3 ? 3 : 5)) {
    case 0: return random(4);
    case 1: return null;
    case 2: return `s${random(3)}`;
    case 3: return Array.from({ length: random(7) }, () => makeValue(random, depth + 1));
    default: {
      const object = {};
      for (let n = random(4); n > 0; n--) define(object, KEYS[random(4)], makeValue(random, depth + 1));
      return object;
    }
  }
}

/** The same with some changes. */
function edit(random, value) {
  if (Array.isArray(value)) {
    for (let n = random(5); n > 0; n--) {
      const at = random(value.length + 1);
      if (random(4) === 0) value.splice(at, 0, makeValue(random, 2));
      else if (random(3) === 0) value.splice(at, random(3));
      else if (random(2) === 0) value.splice(at, 0, ...value.splice(random(value.length + 1), 1));
      else if (at < value.length) value[at] = edit(random, value[at]);
    }
    return value;
  }
  if (value === null || typeof value !== "object") return makeValue(random, 2);
  for (const key of Object.keys(value)) {
    if (random(3) === 0) define(value, key, edit(random, value[key]));
    else if (random(4) === 0) delete value[key];
  }
  if (random(2) === 0) define(value, KEYS[random(4)], makeValue(random, 2));
  return value;
}

test("a delta makes one tree of the other, whatever was added, removed, moved and edited", () => {
  const random = generator(1);
  for (let round = 0; round < 20_000; round++) {
    const from = toTree(random(2) === 0 ? makeValue(random) : Array.from({ length: random(12) }, () => makeValue(random, 1)));
    const to = toTree(random(8) === 0 ? makeValue(random) : edit(random, toPlain(from)));
    const before = JSON.stringify(from);
    const delta = JSON.parse(JSON.stringify(diff(from, to)));
    const result = patched(from, delta);
    assert.ok(isSame(result, to), `${before} → ${JSON.stringify(to)}: ${JSON.stringify(delta)} gave ${JSON.stringify(result)}`);
    assert.equal(JSON.stringify(from), before, "the tree of before stays as it was");
    assert.equal(delta.length === 0, isSame(from, to));
  }
});

test("changes of a few rows of many make a short delta", () => {
  const made = (n) => ({ id: n, name: `name ${n}`, at: 1e12 + n });
  const rows = Array.from({ length: 2500 }, (_, n) => made(n));
  const deltaOf = (change, before = rows) => {
    const after = structuredClone(before);
    change(after);
    return diff(toTree({ rows: before }), toTree({ rows: after }));
  };
  assert.deepEqual(deltaOf((rows) => rows.shift()), [{ op: "remove", path: "/rows/0" }]);
  assert.deepEqual(toPlain(deltaOf((rows) => rows.unshift(made(-1)))), [{ op: "add", path: "/rows/0", value: made(-1) }]);
  assert.deepEqual(deltaOf((rows) => rows.push(rows.shift())), [{ op: "move", from: "/rows/0", path: "/rows/2499" }]);
  assert.deepEqual(deltaOf((rows) => rows.unshift(rows.pop())), [{ op: "move", from: "/rows/2499", path: "/rows/0" }]);
  assert.deepEqual(toPlain(deltaOf((rows) => { rows.shift(); rows[50].name = "x"; rows.splice(80, 0, made(0)); })), [
    { op: "replace", path: "/rows/51/name", value: "x" },
    { op: "move", from: "/rows/0", path: "/rows/80" },
  ]);
  const swapped = deltaOf((rows) => ([rows[3], rows[900]] = [rows[900], rows[3]]));
  assert.deepEqual(swapped.map(({ op }) => op), ["move", "move"], "rows that change places do not swap their members");
  // Two pages may do these at the same time.
  assert.deepEqual(toPlain(deltaOf((rows) => { rows.push(made(1)); rows[3].at = 0; })), [
    { op: "replace", path: "/rows/3/at", value: 0 },
    { op: "add", path: "/rows/-", value: made(1) },
  ]);
  const cells = Array.from({ length: 400 }, () => 0);
  assert.deepEqual(deltaOf((cells) => { cells[5] = 1; cells[90] = 1; }, cells).map(({ op, path }) => `${op} ${path}`), ["replace /rows/5", "replace /rows/90"]);
  // Nothing else is shorter.
  const shuffled = deltaOf((rows) => rows.reverse());
  assert.deepEqual(shuffled.map(({ op, path }) => `${op} ${path}`), ["replace /rows"]);
  const all = deltaOf((rows) => rows.forEach((row) => row.at++));
  assert.deepEqual(all.map(({ op, path }) => `${op} ${path}`), ["replace /rows"]);
});

test("a delta is made in a time that depends on the length alone", () => {
  // An algorithm whose cost grows with the differences makes 10,000,000,000 steps of this.
  const random = generator(3);
  const before = Array.from({ length: 100_000 }, () => random(1000));
  const after = Array.from({ length: 100_000 }, () => random(1000));
  const delta = diff(toTree(before), toTree(after));
  assert.deepEqual(delta.map(({ op }) => op), ["replace"]);
});

const freeze = (value) => {
  if (value !== null && typeof value === "object") Object.values(Object.freeze(value)).forEach(freeze);
  return value;
};

/** Makes some containers of a value such that they cannot be changed in place. */
function stiffen(random, value) {
  if (value === null || typeof value !== "object") return value;
  for (const key of Object.keys(value)) {
    stiffen(random, value[key]);
    if (random(8) === 0 && key !== "length") Object.defineProperty(value, key, { writable: false, configurable: false });
    else if (random(8) === 0) {
      const there = value[key];
      Object.defineProperty(value, key, { get: () => there, enumerable: true, configurable: random(2) === 0 });
    }
  }
  const make = [Object.freeze, Object.seal, Object.preventExtensions, (value) => value, (value) => value][random(5)];
  return make(value);
}

test("data that cannot be changed in place becomes what it would be otherwise", () => {
  const random = generator(7);
  for (let round = 0; round < 20_000; round++) {
    const ancestor = toTree(makeValue(random));
    const mine = edit(random, toPlain(ancestor));
    const theirs = toTree(edit(random, toPlain(ancestor)));
    const expected = merge(ancestor, toTree(mine), theirs, trees, []);
    const loose = merge(ancestor, structuredClone(mine), theirs, page, []);
    assert.ok(isSame(loose, expected), JSON.stringify([ancestor, mine, theirs, loose, expected]));
    const frozen = freeze(structuredClone(mine));
    assert.ok(isSame(merge(ancestor, frozen, theirs, page, []), expected));
    assert.deepEqual(frozen, mine, "frozen values do not change");
    const stiff = stiffen(random, structuredClone(mine));
    assert.ok(isSame(merge(ancestor, stiff, theirs, page, []), expected), JSON.stringify([ancestor, mine, theirs]));
  }
});

test("values that are not frozen keep their identity, moved rows too", () => {
  const ancestor = toTree({ rows: [{ id: 1 }, { id: 2 }, { id: 3 }], more: { a: 1 } });
  const mine = toPlain(ancestor);
  const [, , third] = mine.rows;
  const theirs = toTree({ rows: [{ id: 2, done: true }, { id: 3 }], more: { a: 1 } });
  const { rows } = mine;
  assert.equal(merge(ancestor, mine, theirs, page, []), mine);
  assert.equal(mine.rows, rows);
  assert.deepEqual(mine, { rows: [{ id: 2, done: true }, { id: 3 }], more: { a: 1 } });
  assert.ok(rows[1] === third);
});

test("an edit of a row follows it, whatever others do with the rows", () => {
  const rows = (...ids) => ids.map((id) => ({ id, done: false }));
  const ancestor = toTree(rows(1, 2, 3, 4));
  const mine = rows(1, 2, 3, 4);
  mine[2].done = true;
  for (const [others, expected] of [
    [[2, 3, 4], [2, 3, 4]],
    [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]],
    [[1, 2, 4, 3], [1, 2, 4, 3]],
    [[3, 1, 2, 4], [3, 1, 2, 4]],
  ]) {
    const conflicts = [];
    const merged = merge(ancestor, structuredClone(mine), toTree(rows(...others)), page, conflicts);
    assert.deepEqual(merged, expected.map((id) => ({ id, done: id === 3 })));
    assert.deepEqual(conflicts, []);
    // The other way round: they have edited it, and the page has moved it.
    assert.deepEqual(merge(ancestor, rows(...others), toTree(mine), page, conflicts), merged);
    assert.deepEqual(conflicts, []);
  }
  const conflicts = [];
  merge(ancestor, structuredClone(mine), toTree(rows(1, 2, 4)), page, conflicts);
  assert.equal(conflicts.length, 1, "one has removed what the other has edited");
});

test("a commit accepts JSON, and names the path of a value that is none", () => {
  const half = "😀".slice(0, 1);
  const data = { text: half, [half]: ["a", half], when: new Date(0), none: undefined };
  const tree = snapshot(data);
  assert.deepEqual(toPlain(tree), { text: "\ufffd", "\ufffd": ["a", "\ufffd"], when: "1970-01-01T00:00:00.000Z" });
  const conformed = conform(data, tree);
  assert.equal(conformed, data);
  assert.deepEqual(conformed, toPlain(tree));
  assert.deepEqual(conform(freeze({ a: [half] }), toTree({ a: ["\ufffd"] })), { a: ["\ufffd"] });
  for (const [make, path] of [
    [() => { const data = { x: {} }; data.x["__proto__"] = { a: 1 }; return data; }, "/x"],
    [() => { const data = { "a/b": [{}] }; data["a/b"][0]["__proto__"] = [1]; return data; }, "/a~1b/0"],
    [() => Object.create({ a: 1 }), "the data"],
  ]) {
    assert.throws(() => snapshot(make()), (error) => error instanceof TypeError && error.message.startsWith(`${path} `), path);
  }
  class Point { x = 1; }
  assert.deepEqual(toPlain(snapshot({ point: new Point(), bare: Object.assign(Object.create(null), JSON.parse('{"__proto__":1}')) })), { point: { x: 1 }, bare: JSON.parse('{"__proto__":1}') });
});

// JSON as trees, and what is done with them: compare, patch, merge.
//
// A tree is JSON whose objects have no prototype. In those every key is data, `__proto__` too, which is what lets a library
// for JSON Patch work on them that knows no better than `object[key] = value`. What the page sees are ordinary objects.
import { applyPatch, compare } from "fast-json-patch";

/** What a missing member reads as. */
const ABSENT = Symbol("absent");

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** Own members only, so that nothing is read from a prototype. */
const get = (object, key) => (Object.hasOwn(object, key) && object[key] !== undefined ? object[key] : ABSENT);

/** As data even where the key is `__proto__`, which an assignment would take for the prototype. */
function put(object, key, value) {
  if (key === "__proto__") {
    Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
  } else {
    object[key] = value;
  }
}

const copyInto = (make) => function copy(value) {
  if (Array.isArray(value)) return value.map(copy);
  if (!isObject(value)) return value;
  const object = make();
  for (const key of Object.keys(value)) put(object, key, copy(value[key]));
  return object;
};

/** A copy as a tree. */
export const toTree = copyInto(() => Object.create(null));

/** A copy as ordinary objects. */
export const toPlain = copyInto(() => ({}));

/**
 * The page's data as a tree, as JSON has it.
 * @throws {TypeError} if it is no JSON
 */
export function snapshot(data) {
  const text = JSON.stringify(data);
  if (text === undefined) throw new TypeError("the data is no JSON value");
  return toTree(JSON.parse(text));
}

/** Makes of the page's data, in its place, what its snapshot says: dates are strings now, and `undefined` is not there. */
export function conform(data, tree) {
  if (isObject(data) && isObject(tree)) {
    for (const key of Object.keys(data)) if (!Object.hasOwn(tree, key)) delete data[key];
    for (const key of Object.keys(tree)) {
      const before = get(data, key);
      const after = conform(before, tree[key]);
      if (before !== after) put(data, key, after);
    }
    return data;
  }
  if (Array.isArray(data) && Array.isArray(tree)) {
    for (let at = 0; at < tree.length; at++) data[at] = conform(data[at], tree[at]);
    return data;
  }
  return data === tree ? data : toPlain(tree);
}

/** Whether two values are the same JSON. */
export function isSame(a, b) {
  if (a === b) return true;
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((element, at) => isSame(element, b[at]));
  }
  if (!isObject(a) || !isObject(b)) return false;
  const keys = Object.keys(a).filter((key) => a[key] !== undefined);
  const others = Object.keys(b).filter((key) => b[key] !== undefined);
  return keys.length === others.length && keys.every((key) => isSame(a[key], get(b, key)));
}

/** RFC 6901. */
const tokens = (path) => path.split("/").slice(1).map((token) => token.replaceAll("~1", "/").replaceAll("~0", "~"));
const pointer = (path, key) => `${path}/${String(key).replaceAll("~", "~0").replaceAll("/", "~1")}`;

/** The value at a pointer; `undefined` if there is none. */
export function valueAt(value, path) {
  for (const token of tokens(path)) {
    if (value === null || typeof value !== "object" || !Object.hasOwn(value, token)) return undefined;
    value = value[token];
  }
  return value;
}

/** Whether one pointer is the other, or above it. */
export const overlaps = (a, b) => `${a}/`.startsWith(`${b}/`) || `${b}/`.startsWith(`${a}/`);

/** The JSON Patch that turns one tree into another. */
export function diff(from, to) {
  const isPatchable = (isObject(from) && isObject(to)) || (Array.isArray(from) && Array.isArray(to));
  if (!isPatchable) return isSame(from, to) ? [] : [{ op: "replace", path: "", value: to }];
  const delta = compare(from, to);
  for (const operation of delta) {
    if (operation.op !== "add") continue;
    // The library adds to an array at its end only. Saying so lets two pages append at the same time.
    const parent = operation.path.slice(0, operation.path.lastIndexOf("/"));
    if (Array.isArray(valueAt(from, parent))) operation.path = `${parent}/-`;
  }
  return delta;
}

/** Values that the copies of one delta may make, as many as the server lets one move about: a few copies of copies would fill any memory. */
const MAX_COPIED = 5_000_000;

/**
 * The tree that a delta makes of another, which stays as it is; they share what the delta leaves alone.
 * @throws if it does not fit the tree: a server may send anything
 */
export function patched(tree, delta) {
  const fresh = new Set();
  let copied = 0;
  let document = tree;
  const apply = (operation) => {
    document = unshared(document, operation, fresh);
    // Neither validated, which `unshared` has done, nor copied, nor kept from keys that no prototype is behind.
    document = applyPatch(document, [operation], false, true, false).newDocument;
  };
  for (const { op, path, from, value } of delta) {
    switch (op) {
      // The server has tested what there was to test.
      case "test":
        break;
      case "add":
      case "replace":
        apply({ op, path, value: toTree(value) });
        break;
      case "remove":
        apply({ op, path });
        break;
      // As what they are: the library's own copy would have prototypes, and it takes some keys for them.
      case "copy": {
        const source = valueAt(document, from);
        copied += sizeOf(source);
        if (copied > MAX_COPIED) throw new RangeError(`copies of more than ${MAX_COPIED} values`);
        apply({ op: "add", path, value: toTree(source) });
        break;
      }
      case "move": {
        const moved = valueAt(document, from);
        apply({ op: "remove", path: from });
        apply({ op: "add", path, value: moved });
        break;
      }
      default:
        throw new TypeError("an operation of no known kind");
    }
  }
  return document;
}

/** How many values there are in one, itself included. */
function sizeOf(value) {
  if (value === undefined) throw new TypeError("there is nothing to copy");
  if (value === null || typeof value !== "object") return 1;
  let size = 1;
  for (const key of Object.keys(value)) size += sizeOf(value[key]);
  return size;
}

/** RFC 6901: the index of an element, without leading zeros. */
const INDEX = /^(0|[1-9]\d*)$/;

/**
 * Copies the containers on the way to an operation's path, except those that are `fresh`, so that what is there may be changed.
 * @throws {TypeError} if the way leads to nothing in this document: an array's methods, and what can be reached from them, are in none
 */
function unshared(tree, { op, path }, fresh) {
  const copy = (value) => {
    if (value === null || typeof value !== "object" || fresh.has(value)) return value;
    const copied = Array.isArray(value) ? [...value] : Object.assign(Object.create(null), value);
    fresh.add(copied);
    return copied;
  };
  const root = copy(tree);
  if (path === "") return root;
  let at = root;
  const keys = tokens(path);
  const last = keys.pop();
  for (const key of keys) {
    if (!isMember(at, key)) throw new TypeError(`no ${path}`);
    at[key] = copy(at[key]);
    at = at[key];
  }
  const mayBeEnd = op === "add" && Array.isArray(at) && (last === "-" || last === String(at.length));
  const mayBeNew = op === "add" && isObject(at);
  if (!mayBeEnd && !mayBeNew && !isMember(at, last)) throw new TypeError(`no ${path}`);
  return root;
}

/** Whether a container has an element or a member by this name. */
function isMember(container, key) {
  if (container === null || typeof container !== "object" || !Object.hasOwn(container, key)) return false;
  return !Array.isArray(container) || INDEX.test(key);
}

/**
 * Brings what others did into what the page did: both began with `ancestor`. `mine` is changed in its place, so that the
 * page's references into it stay good. Where both have changed the same, `mine` stays, and `conflicts` gets both sides.
 *
 * @param {(value: unknown) => unknown} copy makes what is taken over
 */
export function merge(ancestor, mine, theirs, copy, conflicts, path = "") {
  if (ancestor === theirs) return mine;
  if (isObject(ancestor) && isObject(mine) && isObject(theirs)) {
    for (const key of new Set([...Object.keys(ancestor), ...Object.keys(theirs)])) {
      const before = get(mine, key);
      const after = merge(get(ancestor, key), before, get(theirs, key), copy, conflicts, pointer(path, key));
      if (after === ABSENT) delete mine[key];
      else if (after !== before) put(mine, key, after);
    }
    return mine;
  }
  if (Array.isArray(ancestor) && Array.isArray(mine) && Array.isArray(theirs)) {
    const { length } = ancestor;
    if (mine.length === length && theirs.length === length) {
      for (let at = 0; at < length; at++) {
        mine[at] = merge(ancestor[at], mine[at], theirs[at], copy, conflicts, pointer(path, at));
      }
      return mine;
    }
    const grew = (array) => array.length > length && isSame(array.slice(0, length), ancestor);
    if (grew(mine) && grew(theirs) && !isSame(mine, theirs)) {
      // Both have appended: theirs came first.
      mine.splice(length, 0, ...theirs.slice(length).map(copy));
      return mine;
    }
  }
  if (isSame(ancestor, theirs) || isSame(mine, theirs)) return mine;
  if (isSame(ancestor, mine)) {
    if (Array.isArray(mine) && Array.isArray(theirs)) {
      mine.splice(0, mine.length, ...theirs.map(copy));
      return mine;
    }
    return theirs === ABSENT ? ABSENT : copy(theirs);
  }
  const shown = (value) => (value === ABSENT ? undefined : toPlain(value));
  conflicts.push({ path, mine: shown(mine), theirs: shown(theirs) });
  return mine;
}

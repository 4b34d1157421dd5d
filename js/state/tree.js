// JSON as trees: copies, comparison, paths.
//
// The objects of a tree have no prototype. In those every key is data, `__proto__` too. Nothing changes a tree: versions of a document
// share their common parts. The page sees ordinary objects.

/** The value of a missing member. */
export const ABSENT = Symbol("absent");

export const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** Own members only, so that nothing is read from a prototype. */
export const get = (object, key) => (Object.hasOwn(object, key) && object[key] !== undefined ? object[key] : ABSENT);

/** As data also where a prototype has something by this key: an assignment of `__proto__` would set the prototype. */
export function put(object, key, value) {
  if (key in object && !Object.hasOwn(object, key)) {
    Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
  } else {
    object[key] = value;
  }
}

const copyInto = (make, text = (value) => value) => function copy(value) {
  if (Array.isArray(value)) return value.map(copy);
  if (!isObject(value)) return typeof value === "string" ? text(value) : value;
  const object = make();
  for (const key of Object.keys(value)) put(object, text(key), copy(value[key]));
  return object;
};

const emptyTree = () => Object.create(null);

/** A copy as a tree. */
export const toTree = copyInto(emptyTree);

/** A copy as ordinary objects. */
export const toPlain = copyInto(() => ({}));

/** As a socket does with the text that it sends: half a surrogate pair becomes U+FFFD. */
const toWellFormedTree = copyInto(emptyTree, (text) => text.toWellFormed());

/** A copy of one object of a tree, or of one array, to change before it becomes part of a tree. */
export const shallow = (value) => (Array.isArray(value) ? [...value] : Object.assign(emptyTree(), value));

/**
 * The page's data as a tree, as JSON has it.
 * @throws {TypeError} if it is no JSON
 */
export function snapshot(data) {
  const text = JSON.stringify(data);
  if (text === undefined) throw new TypeError("the data is no JSON value");
  const tree = toWellFormedTree(JSON.parse(text));
  checkPrototypes(data, tree, "");
  return tree;
}

/**
 * `x["__proto__"] = {…}` in the page's code does not add a member, it sets the prototype, and JSON has none.
 * @throws {TypeError} where that has happened: the members would be lost
 */
function checkPrototypes(data, tree, path) {
  if (data === null || typeof data !== "object" || typeof tree !== "object") return;
  const prototype = Object.getPrototypeOf(data);
  // The prototypes of classes have it, those of all realms.
  if (prototype !== null && !Object.hasOwn(prototype, "constructor")) {
    throw new TypeError(`${path || "the data"} has a prototype with members, which JSON has not: \
an assignment to "__proto__" sets it. Object.defineProperty adds a member with that name`);
  }
  for (const key of Object.keys(tree ?? {})) {
    if (Object.hasOwn(data, key)) checkPrototypes(data[key], tree[key], pointer(path, key));
  }
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

/** RFC 6901: nothing, or each token behind a slash, with `~` as `~0`. */
export const isPointer = (path) => /^(\/([^~]|~[01])*)?$/.test(path);
export const tokens = (path) => path.split("/").slice(1).map((token) => token.replaceAll("~1", "/").replaceAll("~0", "~"));
export const pointer = (path, key) => `${path}/${String(key).replaceAll("~", "~0").replaceAll("/", "~1")}`;

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

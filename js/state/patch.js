// Applies the deltas of a server (JSON Patch, RFC 6902) to trees.
import { isObject, shallow, toTree, tokens, valueAt } from "./tree.js";

/** Values that the copies of one delta may make, as many as the server lets one move about: a few copies of copies would fill any memory. */
const MAX_COPIED = 5_000_000;

/** RFC 6901: the index of an element, without leading zeros. */
const INDEX = /^(0|[1-9]\d*)$/;

/**
 * The tree that a delta makes of another, which stays as it is; they share the parts that the delta does not change.
 * @throws if it does not fit the tree: a server may send anything
 */
export function patched(tree, delta) {
  /** Containers that this call has made, and may change. */
  const fresh = new Set();
  let copied = 0;
  let root = tree;

  const own = (value) => {
    if (value === null || typeof value !== "object" || fresh.has(value)) return value;
    const copy = shallow(value);
    fresh.add(copy);
    return copy;
  };
  /** The container of a place, to be changed, and the place's name in it. */
  const open = (path) => {
    const keys = tokens(path);
    const last = keys.pop();
    if (last === undefined || path[0] !== "/") throw new TypeError(`no ${path}`);
    let at = root = own(root);
    for (const key of keys) {
      if (!isMember(at, key)) throw new TypeError(`no ${path}`);
      at = at[key] = own(at[key]);
    }
    return [at, last];
  };
  const add = (path, value) => {
    if (path === "") return void (root = value);
    const [at, key] = open(path);
    if (isObject(at)) return void (at[key] = value);
    const index = key === "-" ? at?.length : INDEX.test(key) ? Number(key) : NaN;
    // Neither is a number for a value that is no array.
    if (!Array.isArray(at) || !(index <= at.length)) throw new TypeError(`no ${path}`);
    at.splice(index, 0, value);
  };
  const member = (path) => {
    const [at, key] = open(path);
    if (!isMember(at, key)) throw new TypeError(`no ${path}`);
    return [at, key];
  };
  const remove = (path) => {
    const [at, key] = member(path);
    if (Array.isArray(at)) at.splice(Number(key), 1);
    else delete at[key];
  };

  for (const { op, path, from, value } of delta) {
    switch (op) {
      // The server has tested what there was to test.
      case "test":
        break;
      case "add":
        add(path, toTree(value));
        break;
      case "replace": {
        if (path === "") root = toTree(value);
        else {
          const [at, key] = member(path);
          at[key] = toTree(value);
        }
        break;
      }
      case "remove":
        remove(path);
        break;
      case "copy": {
        const source = valueAt(root, from);
        copied += sizeOf(source);
        if (copied > MAX_COPIED) throw new RangeError(`copies of more than ${MAX_COPIED} values`);
        add(path, toTree(source));
        break;
      }
      case "move": {
        const moved = valueAt(root, from);
        remove(from);
        add(path, moved);
        break;
      }
      default:
        throw new TypeError("an operation of no known kind");
    }
  }
  return root;
}

/** How many values there are in one, itself included. */
function sizeOf(value) {
  if (value === undefined) throw new TypeError("there is nothing to copy");
  if (value === null || typeof value !== "object") return 1;
  let size = 1;
  for (const key of Object.keys(value)) size += sizeOf(value[key]);
  return size;
}

/** Whether a container has an element or a member by this name. An array's methods, and their members, are in no document. */
function isMember(container, key) {
  if (container === null || typeof container !== "object" || !Object.hasOwn(container, key)) return false;
  return !Array.isArray(container) || INDEX.test(key);
}

// Changes in the page's own data. The page may have frozen it, sealed it or replaced it: values that cannot be
// changed are replaced by copies, and so are their containers.
import { ABSENT, get, isObject, isSame, put, toPlain } from "./tree.js";

/** Changes one member; whether it is so afterwards. */
function change(container, key, value) {
  try {
    if (value === ABSENT) return Reflect.deleteProperty(container, key);
    put(container, key, value);
    return isSame(get(container, key), value);
  } catch {
    return false;
  }
}

/**
 * Changes members of an object.
 * @param {Map<string, unknown>} changes `ABSENT` removes one
 * @returns the object, or the value for its place
 */
function object(data, changes) {
  if (changes.size === 0) return data;
  // A sealed object would take a part of them.
  if (Object.isExtensible(data) && [...changes].every(([key, value]) => change(data, key, value))) return data;
  const members = new Map(Object.entries(data));
  for (const [key, value] of changes) {
    if (value === ABSENT) members.delete(key);
    else members.set(key, value);
  }
  return Object.fromEntries(members);
}

/** Makes an array have these elements. @returns the array, or the value for its place */
function array(data, elements) {
  const { length } = elements;
  if (data.length === length && elements.every((element, at) => element === data[at])) return data;
  if (!Object.isExtensible(data)) return elements;
  try {
    for (let at = 0; at < length; at++) if (data[at] !== elements[at]) data[at] = elements[at];
    if (data.length !== length) data.length = length;
    return isSame(data, elements) ? data : elements;
  } catch {
    return elements;
  }
}

/** The functions of `merge` for the page's data. */
export const page = { object, array, copy: toPlain };

/** Makes the page's data equal to its snapshot: dates are strings now, and `undefined` is not there. */
export function conform(data, tree) {
  if (isObject(data) && isObject(tree) && typeof data.toJSON !== "function") {
    const changes = new Map();
    for (const key of Object.keys(data)) if (!Object.hasOwn(tree, key)) changes.set(key, ABSENT);
    for (const key of Object.keys(tree)) {
      const before = get(data, key);
      const after = conform(before, tree[key]);
      if (before !== after) changes.set(key, after);
    }
    return object(data, changes);
  }
  if (Array.isArray(data) && Array.isArray(tree)) return array(data, tree.map((element, at) => conform(data[at], element)));
  return data === tree ? data : toPlain(tree);
}

// Brings what two have done to the same JSON together.
import { align, isInPlace } from "./align.js";
import { ABSENT, get, isObject, isSame, pointer, shallow, toPlain } from "./tree.js";

/** The functions of `merge` for trees, which it leaves as they are. */
export const trees = {
  object(tree, changes) {
    if (changes.size === 0) return tree;
    const changed = shallow(tree);
    for (const [key, value] of changes) {
      if (value === ABSENT) delete changed[key];
      else changed[key] = value;
    }
    return changed;
  },
  array: (tree, elements) => (tree.length === elements.length && tree.every((element, at) => element === elements[at]) ? tree : elements),
  copy: (tree) => tree,
};

/**
 * Merges the changes of others into the page's: both began with `ancestor`. Where both have changed the same, `mine` stays, and
 * `conflicts` gets both sides.
 *
 * @param {typeof trees} host functions that change `mine`, and copy the values that are taken over
 * @returns the value for the place of `mine`
 */
export function merge(ancestor, mine, theirs, host, conflicts, path = "") {
  if (ancestor === theirs) return mine;
  if (isObject(ancestor) && isObject(mine) && isObject(theirs)) {
    const changes = new Map();
    for (const key of new Set([...Object.keys(ancestor), ...Object.keys(theirs)])) {
      const before = get(mine, key);
      const after = merge(get(ancestor, key), before, get(theirs, key), host, conflicts, pointer(path, key));
      if (after !== before) changes.set(key, after);
    }
    return host.object(mine, changes);
  }
  if (Array.isArray(ancestor) && Array.isArray(mine) && Array.isArray(theirs)) {
    const elements = mergeElements(ancestor, mine, theirs, host, conflicts, path);
    if (elements !== null) return host.array(mine, elements);
  }
  if (isSame(ancestor, theirs) || isSame(mine, theirs)) return mine;
  if (isSame(ancestor, mine)) return theirs === ABSENT ? ABSENT : host.copy(theirs);
  const shown = (value) => (value === ABSENT ? undefined : toPlain(value));
  conflicts.push({ path, mine: shown(mine), theirs: shown(theirs) });
  return mine;
}

/** The elements that an array gets; null if both have put other elements into it, or one has edited an element that the other has removed. */
function mergeElements(ancestor, mine, theirs, host, conflicts, path) {
  const { length } = ancestor;
  const element = (before, own, others, at) => merge(ancestor[before], mine[own], theirs[others], host, conflicts, pointer(path, at));
  const { source } = align(ancestor, theirs);
  if (isInPlace(source, length)) {
    const edited = [...source].filter((at) => ancestor[at] !== theirs[at] && !isSame(ancestor[at], theirs[at]));
    if (mine.length === length && edited.every((at) => isSame(ancestor[at], mine[at]))) {
      return mine.map((_, at) => element(at, at, at, at));
    }
    const places = align(ancestor, mine).source;
    const left = new Set(places);
    if (!edited.every((at) => left.has(at))) return null;
    return mine.map((value, at) => (places[at] < 0 ? value : element(places[at], at, places[at], at)));
  }
  if (mine.length === length && isInPlace(align(ancestor, mine).source, length)) {
    const left = new Set(source);
    if (!ancestor.every((value, at) => left.has(at) || isSame(value, mine[at]))) return null;
    return theirs.map((value, at) => (source[at] < 0 ? host.copy(value) : element(source[at], source[at], at, at)));
  }
  const grew = (array) => array.length > length && isSame(array.slice(0, length), ancestor);
  if (!grew(mine) || !grew(theirs) || isSame(mine, theirs)) return null;
  // Both have appended: theirs came first.
  return [...mine.slice(0, length), ...theirs.slice(length).map(host.copy), ...mine.slice(length)];
}

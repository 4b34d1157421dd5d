// The edits that the server has refused for their size or their form. They stay in the page's data, and would be refused again: later
// commits leave them out while there is something else to commit.
import { ABSENT, get, isSame, shallow, tokens, valueAt } from "./tree.js";

const isContainer = (value) => value !== null && typeof value === "object";

/** Whether elements have been added or removed, so that an index means another one. */
const hasShifted = (before, after) => Array.isArray(before) && Array.isArray(after) && before.length !== after.length;

/** The operations that make a delta large: no more than half of it is in the others. */
export function largest(delta) {
  const sized = delta.map((operation) => [JSON.stringify(operation).length, operation]).sort(([a], [b]) => b - a);
  let rest = sized.reduce((sum, [size]) => sum + size, 0);
  const half = rest / 2;
  return sized.filter(([size]) => rest > half && (rest -= size) >= 0).map(([, operation]) => operation);
}

/** The place that an operation changes: a whole array, where elements get other indexes. */
function placeOf({ op, path }, base) {
  const parent = path.slice(0, path.lastIndexOf("/"));
  return op !== "replace" && Array.isArray(valueAt(base, parent)) ? parent : path;
}

/** A tree with what another has at a place. */
function restored(tree, base, [key, ...below]) {
  if (key === undefined || hasShifted(base, tree)) return base;
  if (!isContainer(tree) || !isContainer(base)) return tree;
  const before = get(base, key);
  const value = below.length === 0 ? before : restored(get(tree, key), before, below);
  const copy = shallow(tree);
  if (value === ABSENT) delete copy[key];
  else copy[key] = value;
  return copy;
}

export class Withheld {
  /** The refused values, by their paths; `undefined` for a removal. */
  #edits = new Map();

  /**
   * Takes note of refused edits.
   * @param {{ op: string, path: string }[]} operations of a delta that turns `base` into `after`
   * @returns {string[]} the places
   */
  add(operations, base, after) {
    const places = [...new Set(operations.map((operation) => placeOf(operation, base)))];
    for (const place of places) this.#edits.set(place, valueAt(after, place));
    return places;
  }

  /** A tree without the refused edits: in their places is what `base` has. Where the page has another value now, it is a new edit. */
  without(tree, base) {
    let rest = tree;
    for (const [place, value] of this.#edits) {
      if (isSame(valueAt(tree, place), value)) rest = restored(rest, base, tokens(place));
      else this.#edits.delete(place);
    }
    return rest;
  }
}

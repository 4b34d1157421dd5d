// Makes a JSON Patch (RFC 6902) of two trees.
import { align, isInPlace } from "./align.js";
import { isObject, pointer } from "./tree.js";

/** A delta of an array that has fewer characters is not replaced by the array, though that may have fewer: others may edit other elements. */
const MAX_FINE = 65_536;

/** Elements of an array that are moved one by one: applying one costs as much as the array is long. */
const MAX_MOVED = 1000;

/** The delta that turns one tree into another. */
export function diff(from, to, path = "") {
  if (from === to) return [];
  if (isObject(from) && isObject(to)) return diffObjects(from, to, path);
  if (Array.isArray(from) && Array.isArray(to)) return diffArrays(from, to, path);
  return [{ op: "replace", path, value: to }];
}

function diffObjects(from, to, path) {
  const delta = [];
  for (const key of Object.keys(from)) {
    const place = pointer(path, key);
    if (!Object.hasOwn(to, key)) delta.push({ op: "remove", path: place });
    else for (const operation of diff(from[key], to[key], place)) delta.push(operation);
  }
  for (const key of Object.keys(to)) {
    if (!Object.hasOwn(from, key)) delta.push({ op: "add", path: pointer(path, key), value: to[key] });
  }
  return delta;
}

const sizeOf = (value) => JSON.stringify(value).length;

function diffArrays(from, to, path) {
  const { source, moved } = align(from, to);
  const whole = { op: "replace", path, value: to };
  const isEdited = isInPlace(source, from.length);
  const delta = [];
  // First the edits: their places are the old ones.
  source.forEach((place, at) => {
    if (place < 0) return;
    const edit = diff(from[place], to[at], pointer(path, place));
    const value = { op: "replace", path: pointer(path, place), value: to[at] };
    // Other elements change their places: then nobody else can edit a part of this one anyway.
    const isShorter = !isEdited && edit.length > 1 && sizeOf(value) < sizeOf(edit);
    for (const operation of isShorter ? [value] : edit) delta.push(operation);
  });
  const isAppended = source.every((place, at) => (at < from.length ? place === at : place < 0)) && to.length > from.length;
  if (isAppended) {
    // Two pages may append at the same time if both say so.
    for (const value of to.slice(from.length)) delta.push({ op: "add", path: `${path}/-`, value });
    return delta;
  }
  if (!isEdited) rearrange(from, to, source, moved, path, delta);
  const [size, least] = [sizeOf(delta), isEdited ? MAX_FINE : 0];
  const isLong = moved.size > MAX_MOVED || (size > least && size > sizeOf([whole]));
  return isLong ? [whole] : delta;
}

/** The operations that remove, add and move elements, those that go on being there being equal already. */
function rearrange(from, to, source, moved, path, delta) {
  const left = new Set(source);
  for (let place = from.length - 1; place >= 0; place--) {
    if (!left.has(place)) delta.push({ op: "remove", path: pointer(path, place) });
  }
  // Those that will move on are among the others, until it is their turn.
  const waiting = new Counter(from.length);
  for (const at of moved) waiting.add(source[at], 1);
  const isAnchor = (at) => source[at] >= 0 && !moved.has(at);
  /** For each place in `from`, where in `to` the next one is that does not move. */
  const nextAt = new Int32Array(from.length + 1).fill(to.length);
  /** For each place in `to`, how many before it are added or move. */
  const others = new Int32Array(to.length + 1);
  source.forEach((place, at) => {
    if (isAnchor(at)) nextAt[place] = at;
    others[at + 1] = others[at] + (isAnchor(at) ? 0 : 1);
  });
  for (let place = from.length - 1; place >= 0; place--) nextAt[place] = Math.min(nextAt[place], nextAt[place + 1]);
  /** Behind the last place in `from` of one that did not move. */
  let behind = 0;
  source.forEach((place, at) => {
    if (isAnchor(at)) {
      behind = place + 1;
    } else if (place < 0) {
      delta.push({ op: "add", path: pointer(path, at + waiting.below(behind)), value: to[at] });
    } else {
      const next = nextAt[place];
      const begin = next - others[next] + others[Math.min(at, next)] + waiting.below(place);
      waiting.add(place, -1);
      const end = at + waiting.below(behind);
      if (begin !== end) delta.push({ op: "move", from: pointer(path, begin), path: pointer(path, end) });
    }
  });
}

/** Counts the added numbers below a place, in logarithmic time (a Fenwick tree). */
class Counter {
  constructor(length) {
    this.sums = new Int32Array(length + 1);
  }

  add(place, count) {
    for (let at = place + 1; at < this.sums.length; at += at & -at) this.sums[at] += count;
  }

  below(place) {
    let sum = 0;
    for (let at = place; at > 0; at -= at & -at) sum += this.sums[at];
    return sum;
  }
}

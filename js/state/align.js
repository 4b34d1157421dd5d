// Finds the new places of the elements of an array.
import { isObject, isSame } from "./tree.js";

/** Texts that are equal if the values are, with members in any order. */
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical)}]`;
  if (!isObject(value) || typeof value.toJSON === "function") return JSON.stringify(value);
  return `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`)}}`;
}

/** The largest set of positions at which `values` rise, those below 0 left out, in `n log n` steps. */
function rising(values) {
  /** For each length, where the run of that length ends that ends lowest. */
  const ends = [];
  const before = new Int32Array(values.length);
  for (let at = 0; at < values.length; at++) {
    if (values[at] < 0) continue;
    let [low, high] = [0, ends.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (values[ends[middle]] < values[at]) low = middle + 1;
      else high = middle;
    }
    before[at] = low > 0 ? ends[low - 1] : -1;
    ends[low] = at;
  }
  const run = new Set();
  for (let at = ends.at(-1) ?? -1; at >= 0; at = before[at]) run.add(at);
  return run;
}

/**
 * For each element of `to` the place in `from` that it comes from, or -1 for a new one. An element that comes from a place with another
 * value has been edited. The cost is that of sorting, whatever the arrays have in common.
 *
 * @returns {{ source: Int32Array, moved: Set<number> }} `moved`: the places in `to` of elements that have overtaken others
 */
export function align(from, to) {
  const source = new Int32Array(to.length).fill(-1);
  const least = Math.min(from.length, to.length);
  let start = 0;
  while (start < least && isSame(from[start], to[start])) source[start] = start++;
  let tail = 0;
  while (tail < least - start && isSame(from[from.length - 1 - tail], to[to.length - 1 - tail])) tail++;
  const [fromEnd, toEnd, shift] = [from.length - tail, to.length - tail, from.length - to.length];
  for (let at = toEnd; at < to.length; at++) source[at] = at + shift;
  const moved = new Set();
  const inPlace = () => {
    for (let at = start; at < toEnd; at++) source[at] = at;
    return { source, moved: new Set() };
  };
  // One has been edited, or some have been added or removed.
  if (fromEnd - start <= 1 && shift === 0) return inPlace();
  if (start === fromEnd || start === toEnd) return { source, moved };

  // Equal ones in their order.
  const places = new Map();
  for (let at = start; at < fromEnd; at++) {
    const text = canonical(from[at]);
    if (places.has(text)) places.get(text).push(at);
    else places.set(text, [at]);
  }
  places.forEach((list) => list.reverse());
  for (let at = start; at < toEnd; at++) source[at] = places.get(canonical(to[at]))?.pop() ?? -1;
  const taken = new Set(source);
  const kept = rising(source.subarray(start, toEnd));
  // Between two that have kept their order, others may have been edited.
  let [edits, next] = [0, start];
  const untaken = (end) => {
    while (next < end && taken.has(next)) next++;
    return next < end ? next++ : -1;
  };
  const edit = (begin, end, limit) => {
    for (let at = begin; at < end; at++) {
      if (source[at] < 0 && (source[at] = untaken(limit)) >= 0) edits++;
    }
    next = limit + 1;
  };
  let begin = start;
  for (let at = start; at < toEnd; at++) {
    if (!kept.has(at - start)) {
      if (source[at] >= 0) moved.add(at);
      continue;
    }
    edit(begin, at, source[at]);
    begin = at + 1;
  }
  edit(begin, toEnd, fromEnd);

  if (shift === 0) {
    // As many as before: perhaps none has moved, and some have got the value that another has.
    let differing = 0;
    for (let at = start; at < toEnd; at++) if (!isSame(from[at], to[at])) differing++;
    let changes = edits + moved.size;
    for (let at = start; at < toEnd; at++) if (source[at] < 0) changes += 2;
    if (differing < changes || (differing === changes && moved.size === 0)) return inPlace();
  }
  return { source, moved };
}

/** Whether all elements are where they were. */
export const isInPlace = (source, length) => source.length === length && source.every((from, at) => from === at);

// Timers of any length, outside the zones of zone.js.

/** Milliseconds of the longest timer (24.8 days): a longer one would fire at once. */
const LONGEST = 2 ** 31 - 1;

/** Runs `act` in no zone of the page: Angular waits for the timers of its zone, and checks its components after each of its listeners. */
export function outside(act) {
  const root = globalThis.Zone?.root;
  return root?.run ? root.run(act) : act();
}

/** As `setTimeout`: negative numbers and NaN count as 0. A delay above the longest timer never ends. */
export const after = (milliseconds, act) => (milliseconds > LONGEST ? 0 : outside(() => setTimeout(act, milliseconds)));

// Signs that a connection may have been lost unnoticed, and that the page may have none for a while.
import { outside } from "./timers.js";

/**
 * Calls `probe` after a network has changed, and when a page was frozen or hidden; and `park` when a page goes into the browser's
 * cache, from which it may come back.
 * @param {(isLast: boolean) => void} park `isLast`: whether the page's own listeners of `pagehide` may have sent their last words
 * @param {AbortSignal} [signal] ends it
 */
export function heedSigns(probe, park, signal) {
  const { document } = globalThis;
  const heed = (target, type, act) => target?.addEventListener?.(type, act, { signal });
  const isBack = () => document?.visibilityState !== "hidden" && probe();
  let isCached = false;
  outside(() => {
    for (const type of ["online", "pageshow"]) heed(globalThis, type, isBack);
    for (const type of ["resume", "visibilitychange"]) heed(document, type, isBack);
    heed(globalThis, "pagehide", (event) => {
      isCached = event.persisted;
      if (isCached) park(!("onfreeze" in document));
    });
    heed(document, "freeze", () => isCached && park(true));
  });
}

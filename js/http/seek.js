// Seeks a WebSocket for a link that goes over HTTP: from time to time, and less often where one opens and dies soon.

/** A state of a WebSocket (WHATWG). */
const OPEN = 1;

/** Milliseconds until the next attempt with a WebSocket, and the longest: networks that refuse them rarely change. */
const FIRST_ATTEMPT = 5000;
const LAST_ATTEMPT = 300_000;

/** Milliseconds for which a WebSocket that was found must last. Some proxies let them open and end them soon. */
const LASTS = 60_000;

/** By the options of a link: `delay`, until its next attempt; and `forget`, which ends the watch over the WebSocket that it has found. */
const seeks = new WeakMap();

const later = (delay) => Math.min(2 * delay, LAST_ATTEMPT);

/**
 * Tries WebSockets from time to time, and calls `found` once one opens.
 * @param {HttpSocket} physical the carrier of the link; `physical.after` sets a timer that ends with it
 * @param {object} options the link's
 */
export function seekWebSocket(physical, options, { after }, found) {
  const seek = seeks.get(options) ?? { delay: FIRST_ATTEMPT, forget: null };
  seeks.set(options, seek);
  if (seek.forget !== null) {
    // The one that was found has not lasted.
    seek.forget();
    seek.delay = later(seek.delay);
  }
  const { carriers, onresumed, ask } = options;
  if (!carriers.includes("websocket")) return;

  const attempt = (delay) => physical.after(delay, async () => {
    let isOver = false;
    const over = (hasOpened, socket) => {
      if (isOver) return;
      isOver = true;
      socket?.close();
      if (physical.readyState !== OPEN) return;
      if (!hasOpened) return attempt(later(delay));
      seek.delay = delay;
      remember(physical.url, false);
      watch();
      found();
    };
    // The URL that opened the carrier may have a token that has expired.
    const url = ask ? (await ask())?.href : physical.url;
    if (url === undefined) return over(false);
    if (physical.readyState !== OPEN) return;
    try {
      // It says that it may resume a link, so that the server makes none for it.
      const socket = new options.WebSocket(`${url}${url.includes("?") ? "&" : "?"}manysocket-resume=`, physical.protocol);
      socket.addEventListener("open", () => over(true, socket));
      socket.addEventListener("error", () => over(false, socket));
      physical.after(delay, () => over(false, socket));
    } catch {
      // Firefox, where a Content Security Policy forbids WebSockets.
      over(false);
    }
  });

  /** Makes the link go over HTTP at once if the WebSocket that resumes it does not last. */
  const watch = () => {
    let timer = 0;
    seek.forget = () => {
      clearTimeout(timer);
      Object.assign(options, { carriers, onresumed });
      seek.forget = null;
    };
    options.onresumed = () => {
      options.carriers = ["http"];
      options.onresumed = onresumed;
      onresumed();
      timer = after(LASTS, () => {
        seek.forget();
        seek.delay = FIRST_ATTEMPT;
      });
      // Node waits for its timers.
      timer.unref?.();
    };
  };

  remember(physical.url, true);
  attempt(seek.delay);
}

/** Remembers for the page's session whether a multiplexer is reached over HTTP only (link.js reads it). */
export function remember(url, isBlocked) {
  const key = `manysocket ${url.split("?")[0]}`;
  try {
    if (isBlocked) sessionStorage.setItem(key, "http");
    else sessionStorage.removeItem(key);
  } catch {
    // Workers have none, and sandboxed frames may not use it.
  }
}

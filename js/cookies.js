// Makes the browser store the cookies of virtual opens (docs/protocol.md §4.2). A script cannot: many are HttpOnly. Loaded when a server
// first sends some.

/** Bytes of a ticket. */
const LENGTH = 16;

/** Tickets of one request: as many as the server looks at. */
const MOST = 64;

/** How long the page's events wait for a request, in milliseconds. */
const PATIENCE = 10_000;

/** The cookies are there, and the server has not seen the browser's new ones yet. */
const AGAIN = 200;

/** By URL: the tickets that wait for the request before theirs, and the channels that wait for them. */
const queues = new Map();

/**
 * Fetches the cookies for a ticket. Resolves, in any case, when there is nothing more to wait for.
 * @param {string} url of the link
 * @param {Uint8Array} ticket
 */
export function fetchCookies(url, ticket) {
  return new Promise((settle) => {
    const queue = queues.get(url);
    if (queue !== undefined) return queue.push({ ticket, settle });
    queues.set(url, [{ ticket, settle }]);
    run(url);
  });
}

/** One request after the other: the last cookie of a name is that of the last open. */
async function run(url) {
  const queue = queues.get(url);
  while (queue.length > 0) {
    // Those of one task travel together.
    await null;
    const entries = queue.splice(0, MOST);
    const body = new Uint8Array(LENGTH * entries.length);
    entries.forEach(({ ticket }, at) => body.set(ticket, LENGTH * at));
    await exchange(url.replace(/^ws/, "http"), body).catch(() => {});
    for (const { settle } of entries) settle();
  }
  queues.delete(url);
}

/** The first answers have the cookies; the request after them shows the server the browser's new cookies. */
async function exchange(url, body) {
  for (let left = MOST; left >= 0; left--) {
    const { status } = await fetch(url, { method: "POST", credentials: "include", keepalive: true, body, signal: AbortSignal.timeout(PATIENCE) });
    if (status !== AGAIN) return;
  }
}

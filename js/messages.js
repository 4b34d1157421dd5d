// The messages between a page and the shared worker, over a MessagePort: arrays of triples, kind, channel and value, any number in
// one message. A channel is the number that its page gave it.
//
// The worker's kinds from 0 to 3 are those of the queued events (channel.js).

// From both: the page's `{ url, idleTimeout, resume, carriers, lock }`; the worker's `{ version, lock }`, null if it has no WebAssembly. A lock (Web
// Locks) is held as long as its owner lives: to wait for it is the one way to notice a death.
export const HELLO = 4;

// From the page.
/** Value: `[url, subprotocols, headers]`. */
export const OPEN_CHANNEL = 5;
/** Value: text, or a Uint8Array. */
export const SEND = 6;
/** Value: `[code, reason]`. */
export const CLOSE_CHANNEL = 7;
/** Gives a channel up. */
export const FAIL = 8;
/** Value: `[messages, units]` that the page took. */
export const CONSUMED = 9;
/** Later channels use a new link; of no channel. */
export const LEAVE = 10;
/** The connection may have been lost unnoticed. */
export const PROBE = 11;
/** The page goes into the browser's cache, which a message would end: the worker keeps them until PROBE. */
export const PARK = 12;

// From the worker.
/** Value: how many bytes more the physical socket has sent. */
export const SENT = 5;
/** The handshake failed: the channel is the page's again. */
export const FALLBACK = 6;
/** Value: the kind of the link's carrier. So is that of RESUMED. */
export const LINK_OPEN = 7;
/** Value: the fields of the close event. */
export const LINK_CLOSED = 8;
/** The link has lost its connection, and waits for another one. */
export const INTERRUPTED = 9;
export const RESUMED = 10;

/** Buffers from here on are moved, not copied: below it, moving one costs more. */
export const LARGE = 4096;

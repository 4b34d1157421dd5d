// Which class the entries for calls, documents and topics connect with, and where.

let chosen = null;
let isTold = false;

/**
 * Makes `rpc`, `state` and `topic` connect over this multiplexer, unless an option says otherwise.
 * @param {MultiWebSocket | null} multiplexer null: natively, as at first
 */
export function setDefault(multiplexer) {
  chosen = multiplexer;
}

/** The class to connect with: the given one, else the default's. */
export function socketClass(given) {
  if (given !== undefined) return given;
  if (chosen !== null) return chosen.WebSocket;
  if (!isTold) {
    isTold = true;
    console.info("manysocket: rpc(), state() and topic() use native WebSockets. setDefault(M) makes them use a multiplexer: https://github.com/manysocket/manysocket/blob/main/docs/client.md");
  }
  return globalThis.WebSocket;
}

/** The absolute WebSocket URL of one that is relative to the page's base URL. */
export function socketUrl(given) {
  const url = new URL(given, globalThis.document?.baseURI ?? globalThis.location?.href);
  url.protocol = url.protocol.replace(/^http/, "ws");
  url.hash = "";
  return url;
}

/** A URL with something appended to its query: the page's own query stays unchanged. */
export const withQuery = ({ href }, query) => `${href}${href.includes("?") ? "&" : "?"}${query}`;

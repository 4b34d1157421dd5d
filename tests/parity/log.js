// The log of a case. Two runs are equal if their logs are equal, line by line.

/** A value as one line of text that is the same in both runs if the values look the same to a page. */
export function show(value) {
  if (typeof value === "string") return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}… (${value.length})` : value);
  if (typeof value === "function") return "function";
  if (typeof value === "symbol") return String(value);
  if (value === null || typeof value !== "object") return Object.is(value, -0) ? "-0" : String(value);
  if (value instanceof ArrayBuffer) return `ArrayBuffer(${value.byteLength}) ${[...new Uint8Array(value).subarray(0, 16)]}`;
  if (value instanceof Blob) return `Blob(${value.size}, ${JSON.stringify(value.type)})`;
  if (Array.isArray(value)) return `[${value.map(show)}]`;
  if (value instanceof Error || value instanceof DOMException) return error(value);
  return `{${Object.entries(value).map(([key, inner]) => `${key}: ${show(inner)}`)}}`;
}

/** An exception: its class, its name and the realm it came from, but not its wording. */
function error(thrown) {
  const here = thrown instanceof DOMException || thrown instanceof Error;
  return `${Object.prototype.toString.call(thrown)} ${thrown.name} ${thrown.code ?? ""} ${here ? "" : "of another realm"}`;
}

/** Records the result or the exception of `action`. */
export function outcome(action) {
  try {
    return `returns ${show(action())}`;
  } catch (thrown) {
    return `throws ${error(thrown)}`;
  }
}

/** An event's fields; `eventPhase` is not among them, since an awaiting reader may come before or after the last listener. */
export function event(fired) {
  const fields = ["type", "bubbles", "cancelable", "composed", "defaultPrevented"];
  if (fired.type === "message") fields.push("data", "origin", "lastEventId", "source", "ports");
  if (fired.type === "close") fields.push("code", "reason", "wasClean");
  const shown = fields.map((field) => `${field}=${field === "origin" ? typeof fired[field] : show(fired[field])}`);
  return `${Object.prototype.toString.call(fired)} ${fired.constructor.name} ${shown.join(" ")}`;
}

/** Resolves when `type` has fired on `socket`. */
export const fired = (socket, type) => new Promise((resolve) => socket.addEventListener(type, resolve, { once: true }));

/** A later task, after all that is due. */
export const later = (milliseconds = 0) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Records every event of `socket` as it fires, with the state it fires in. */
export function record(socket, log) {
  for (const type of ["open", "message", "error", "close"]) {
    socket.addEventListener(type, (e) => log(`${type} in state ${socket.readyState}: ${event(e)}`));
  }
  return socket;
}

/** Declares a case to be about another topic than its file's: see `compare`. */
export const about = (topic, run) => Object.assign(run, { topic });

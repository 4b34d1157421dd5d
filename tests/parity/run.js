// Runs every case twice in one realm, over the native class and over another, and gives both logs. For windows and
// workers: `scope` is the global object.
import { cases as clients } from "./cases/clients.js";
import { cases as closing } from "./cases/closing.js";
import { cases as construction } from "./cases/construction.js";
import { cases as interface_ } from "./cases/interface.js";
import { cases as receiving } from "./cases/receiving.js";
import { cases as sending } from "./cases/sending.js";

// Construction last: see there.
const all = Object.entries({ interface: interface_, sending, receiving, clients, closing, construction }).flatMap(([file, cases]) =>
  Object.entries(cases).map(([name, run]) => ({ name: `${file}: ${name}`, run, topic: run.topic ?? file })),
);

// Longer than the slowest case on a busy machine; a case whose event never arrives says so in its log.
const PATIENCE = 20_000;

async function logOf(run, WebSocket, host) {
  const lines = [];
  const late = new Promise((resolve) => setTimeout(() => resolve("late"), PATIENCE));
  const finished = run({
    WebSocket,
    log: (line) => lines.push(line),
    url: (path) => `${location.protocol.replace("http", "ws")}//${host}/test${path}`,
    scope: globalThis,
  }).then(
    () => "finished",
    (error) => `failed: ${error.stack}`,
  );
  const end = await Promise.race([finished, late]);
  // Later events, such as the close of a socket that the case no longer uses, are not part of it.
  return [...lines, end].map((line) => line.replaceAll(host, "HOST").replaceAll(location.host, "HOST"));
}

/**
 * Gives [name, native log, other log] of each case. One at a time: cases listen to the realm's own events.
 *
 * A case's topic is its file, or its `about`: a class that differs on purpose in a topic leaves the topic out.
 * @param {object} [options]
 * @param {string} [options.nativeHost] where native sockets connect, if not to the page's own server
 * @param {string} [options.otherHost] where the others do
 * @param {string[]} [options.except] topics to leave out
 */
export async function compare(other, { nativeHost = location.host, otherHost = location.host, except = [] } = {}) {
  const native = globalThis.WebSocket;
  const results = [];
  for (const { name, run, topic } of all) {
    if (except.includes(topic)) continue;
    results.push([name, await logOf(run, native, nativeHost), await logOf(run, other, otherHost)]);
  }
  return results;
}

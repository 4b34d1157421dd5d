// A TCP relay that cuts connections as networks do: nobody says goodbye, and bytes on their way are lost.
import { once } from "node:events";
import { connect, createServer } from "node:net";

/**
 * Starts a relay to a server. Its `allowance` gives the `bytes` that a connection carries in one direction, or the
 * `milliseconds` that it lasts, before it is cut. It may be replaced at any time.
 * @param {string} origin the server's
 * @param {{ delay?: number }} [options] `delay`: milliseconds that bytes take in each direction
 */
export async function startRelay(origin, { delay = 0 } = {}) {
  const pairs = new Set();
  const waiting = [];

  /** Ends both connections: by a reset, or in the middle of a message. */
  const cut = (pair) => {
    if (!pairs.delete(pair)) return;
    relay.cuts++;
    for (const socket of pair.sockets) {
      if (relay.cuts % 2 === 0) socket.resetAndDestroy();
      else socket.destroySoon();
    }
  };

  const join = (page) => {
    const { hostname, port } = new URL(relay.to);
    const server = connect(Number(port), hostname);
    const pair = { sockets: [page, server], flights: 0, last: null, answers: 0 };
    pairs.add(pair);
    const { bytes: most = Infinity, milliseconds } = relay.allowance();
    for (const [from, to] of [[page, server], [server, page]]) {
      let left = most;
      from.on("error", () => {}).on("close", () => {
        pairs.delete(pair);
        to.destroySoon();
      });
      from.on("data", (bytes) => {
        if (!pairs.has(pair)) return;
        if (from === page && !relay.websockets && /^upgrade:/im.test(bytes.toString("latin1"))) return cut(pair);
        if (pair.last !== from) pair.flights++;
        pair.last = from;
        // From the answer after that to the handshake: a server may answer RESUME late, and the time must not end before.
        if (from === server && ++pair.answers === 2 && milliseconds !== undefined) setTimeout(cut, milliseconds, pair);
        if (pair.flights > relay.flights) return;
        const carried = bytes.subarray(0, left);
        left -= bytes.length;
        const write = () => {
          if (to.writable && !to.write(carried)) {
            from.pause();
            to.once("drain", () => from.resume());
          }
        };
        if (delay > 0) setTimeout(write, delay);
        else write();
        if (left <= 0) cut(pair);
      });
    }
  };

  const listener = createServer((page) => {
    page.setNoDelay();
    relay.connections++;
    if (relay.accepts) join(page);
    else waiting.push(page.on("error", () => {}));
  });
  const relay = {
    origin: "",
    /** The origin of the server that connections are for. */
    to: origin,
    allowance: () => ({}),
    /** Whether new connections get through; those that do not wait. */
    accepts: true,
    /** Whether handshakes of WebSockets get through. */
    websockets: true,
    /** How often the direction of a connection may change before it carries nothing more; the page's first request is one. */
    flights: Infinity,
    /** The connections that pages have opened so far. */
    connections: 0,
    /** The connections that have been cut. */
    cuts: 0,
    /** Cuts all connections. */
    cut: () => [...pairs].forEach(cut),
    /** Lets connections through again, those that wait first. */
    accept() {
      relay.accepts = true;
      waiting.splice(0).forEach(join);
    },
    close() {
      // Last words of the page get through.
      listener.close();
      waiting.splice(0).forEach((page) => page.destroy());
    },
  };
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  relay.origin = `http://127.0.0.1:${listener.address().port}`;
  return relay;
}

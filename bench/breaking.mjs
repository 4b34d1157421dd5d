// A TCP relay whose connections break at random moments, as networks break them.
import { connect, createServer } from "node:net";

/** The ways in which a connection breaks, each with its share: a reset, an end in the middle of anything, or silence. */
const WAYS = { reset: 0.45, end: 0.45, silence: 0.1 };
/** Longer than the minute after which both ends give up a silent connection (docs/protocol.md §8). */
const SILENCE = 130_000;

function choose() {
  let left = Math.random();
  return Object.keys(WAYS).find((way) => (left -= WAYS[way]) < 0) ?? "end";
}

const breaks = {
  reset: (pair) => pair.forEach((socket) => socket.resetAndDestroy()),
  end: (pair) => pair.forEach((socket) => socket.destroy()),
  silence: ([client, server]) => {
    for (const socket of [client, server]) socket.unpipe().pause();
    setTimeout(breaks.end, SILENCE, [client, server]).unref();
  },
};

/**
 * @param {number} port the server's port
 * @param {number} every the average number of seconds between two breaks
 */
export async function breakingRelay(port, every) {
  const pairs = new Set();
  const broken = { reset: 0, end: 0, silence: 0 };
  const listener = createServer({ noDelay: true }, (client) => {
    const server = connect({ port, host: "127.0.0.1", noDelay: true });
    const pair = [client, server];
    pairs.add(pair);
    for (const [from, to] of [pair, pair.toReversed()]) {
      from.pipe(to);
      from.on("error", () => {}).on("close", () => {
        pairs.delete(pair);
        to.destroy();
      });
    }
  });
  let timer;
  const next = () => {
    timer = setTimeout(() => {
      const pair = [...pairs][Math.floor(Math.random() * pairs.size)];
      if (pair !== undefined) {
        const way = choose();
        broken[way]++;
        pairs.delete(pair);
        breaks[way](pair);
      }
      next();
    }, -Math.log(1 - Math.random()) * every * 1000);
  };
  next();
  await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
  return {
    port: listener.address().port,
    /** The number of broken connections, by way. */
    broken,
    /** Stops breaking connections. */
    calm: () => clearTimeout(timer),
    close: () => listener.close(),
  };
}

// A TCP relay that adds delay: every byte takes half a round trip in each direction. A client's first bytes wait for one
// more round trip, as for TCP's handshake. Bandwidth is not limited. It counts the bytes.
import { createServer, connect } from "node:net";

/** Copies one stream to another, in order, after the given number of milliseconds. */
function delayed(from, to, delay, notBefore) {
  let last = Promise.resolve();
  const later = (act) => {
    const due = Math.max(performance.now(), notBefore) + delay;
    last = last.then(
      () => new Promise((resolve) => setTimeout(() => resolve(act()), Math.max(0, due - performance.now()))),
    );
  };
  from.on("data", (chunk) => later(() => to.write(chunk)));
  from.on("end", () => later(() => to.end()));
  from.on("error", () => to.destroy());
}

/** @param {number} port the server's port @param {number} roundTrip milliseconds @returns {Promise<{ port: number, bytes(): number, close(): void }>} */
export function relay(port, roundTrip) {
  let bytes = 0;
  const server = createServer({ noDelay: true }, (client) => {
    const upstream = connect({ port, host: "127.0.0.1", noDelay: true });
    delayed(client, upstream, roundTrip / 2, performance.now() + roundTrip);
    delayed(upstream, client, roundTrip / 2, 0);
    for (const side of [client, upstream]) side.on("data", (chunk) => (bytes += chunk.length));
    client.on("close", () => upstream.destroy());
    upstream.on("close", () => client.destroy());
  });
  return new Promise((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve({ port: server.address().port, bytes: () => bytes, close: () => server.close() })),
  );
}

// A TCP relay in front of a server: it records request lines, refuses some, treats WebSockets as some proxies do, and can cut or silence
// connections.
import { once } from "node:events";
import net from "node:net";

/**
 * Starts a front for a server.
 * @param {string} origin the server's
 * @param {{ refuses?: (target: string) => boolean, websockets?: "pass" | "strip" | "swallow" | "mute" | number, delay?: number, posts?: "pass" | "swallow", buffers?: boolean }} [options]
 *   `refuses`: whether the front answers a request with 404 itself; `websockets`: whether the front lets handshakes pass, removes their
 *   headers, never answers, passes them on and loses the answers, or answers with a status; `delay`: milliseconds until a handshake leaves; `posts`: what it does to POST requests; `buffers`: whether it keeps each answer of HTTP until the server has ended it
 */
export async function startFront(origin, { refuses = () => false, ...options } = {}) {
  const { hostname, port } = new URL(origin);
  const pairs = new Set();
  const targets = [];
  const network = { websockets: "pass", delay: 0, posts: "pass", buffers: false, ...options };
  const listener = net.createServer((client) => {
    const pair = { client, server: null, silent: false };
    pairs.add(pair);
    const end = () => {
      pairs.delete(pair);
      client.destroy();
      pair.server?.destroy();
    };
    client.on("error", end).on("close", end);
    let head = "";
    client.on("data", async (bytes) => {
      if (pair.silent) return;
      if (pair.server !== null) return pair.server.write(bytes);
      head += bytes.toString("latin1");
      if (!head.includes("\r\n\r\n")) return;
      const target = head.split(" ")[1];
      targets.push(target);
      if (refuses(target)) return client.end("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
      // One request for each connection, so that each request line is seen.
      const [first, ...lines] = head.split("\r\n");
      const asks = /^upgrade:/im.test(head);
      if (asks ? network.websockets === "swallow" : head.startsWith("POST") && network.posts === "swallow") return void (pair.silent = true);
      if (asks && typeof network.websockets === "number") {
        return client.end(`HTTP/1.1 ${network.websockets} Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
      }
      const upgrades = asks && network.websockets !== "strip";
      if (asks && network.delay > 0) await new Promise((resolve) => setTimeout(resolve, network.delay));
      const kept = upgrades ? lines : ["Connection: close", ...lines.filter((line) => !/^(connection|upgrade):/i.test(line))];
      pair.server = net.connect(Number(port), hostname);
      pair.server.on("error", end);
      if (network.buffers && !upgrades) {
        const kept = [];
        pair.server.on("data", (answer) => kept.push(answer)).on("close", () => pairs.delete(pair) && client.end(Buffer.concat(kept)));
      } else {
        pair.server.on("data", (answer) => pair.silent || (upgrades && network.websockets === "mute") || client.write(answer)).on("close", end);
      }
      pair.server.write([first, ...kept].join("\r\n"), "latin1");
    });
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  return {
    /** Its address as an origin. */
    origin: `http://127.0.0.1:${listener.address().port}`,
    /** Its treatment of requests from now on: the options but `refuses`. */
    network,
    /** The targets of all requests, oldest first. */
    targets,
    /** Ends all connections, as a lost network does that both ends notice. */
    cut() {
      for (const { client, server } of pairs) for (const socket of [client, server]) socket?.destroy();
    },
    /** Loses all that present connections carry from now on, with no sign to either end. New ones work. */
    silence() {
      for (const pair of pairs) pair.silent = true;
    },
    stop() {
      listener.close();
      this.cut();
    },
  };
}

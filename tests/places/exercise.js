// The exercise in each place: its results must be the same with a native class and with `M.WebSocket`.
import { event, fired, outcome, show } from "/parity/log.js";

/**
 * @param {typeof WebSocket} Class
 * @param {string} base `ws://HOST`
 */
export async function exercise(Class, base) {
  const lines = [];
  const log = (line) => lines.push(line.replaceAll(new URL(base).host, "HOST"));
  // Against the base URL of the place, which may have none that is any good.
  for (const relative of ["/test/echo", "echo"]) {
    log(outcome(() => {
      const socket = new Class(relative);
      socket.close();
      return [socket.url, socket.readyState];
    }));
  }
  const burst = new Class(`${base}/test/burst?count=100`);
  const got = [];
  while (got.length < 100) got.push((await fired(burst, "message")).data);
  log(show(got.every((data, n) => data === String(n))));
  burst.close();

  const socket = new Class(`${base}/test/protocol?choose=b`, ["a", "b"]);
  socket.binaryType = "arraybuffer";
  log(event(await fired(socket, "open")));
  log(show([socket.url, socket.protocol, socket.readyState, socket instanceof Class, socket instanceof EventTarget]));
  for (const data of ["text", Uint8Array.of(1, 2, 3), new Uint8Array(100_000), new Blob(["blob"])]) {
    socket.send(data);
    const message = await fired(socket, "message");
    log(event(message));
    log(show([message instanceof MessageEvent, message.target === socket, message.origin === new URL(base).origin]));
  }
  socket.close(3001, "done");
  const close = await fired(socket, "close");
  log(event(close));
  log(show(close instanceof CloseEvent));
  log(outcome(() => socket.send("late")));
  return lines;
}

/** Both, in the realm that imports this, with the package as it was imported there. */
export async function both({ MultiWebSocket }, base) {
  const { WebSocket } = globalThis;
  const M = new MultiWebSocket(`${base}/multiplexer`);
  return [await exercise(WebSocket, base), await exercise(M.WebSocket, base), M.readyState];
}

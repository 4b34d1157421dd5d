// The job of the page in every environment: it uses all entries of the package, over one connection.
import { rpc } from "manysocket/rpc";
import { state } from "manysocket/state";

const fired = (socket, type) =>
  new Promise((resolve, reject) => {
    socket.addEventListener(type, resolve, { once: true });
    socket.addEventListener("close", ({ code }) => reject(new Error(`closed with ${code}`)), { once: true });
  });

/** @returns the results as plain data; `connections` is the number of sockets that share one connection */
export async function job({ MultiWebSocket, JsonWebSocket }, options) {
  const M = new MultiWebSocket(`ws://${location.host}/multiplexer`, options);
  const echo = async (text) => {
    const socket = new M.WebSocket(`ws://${location.host}/demo/echo`);
    await fired(socket, "open");
    socket.send(text);
    return (await fired(socket, "message")).data;
  };
  const echoes = await Promise.all(["one", "zwölf"].map(echo));
  const json = new JsonWebSocket(new M.WebSocket(`ws://${location.host}/demo/echo`));
  await fired(json, "open");
  json.send({ a: [1] });
  const { data } = await fired(json, "message");
  const { WebSocket } = M;
  const sum = await rpc(`ws://${location.host}/demo/rpc/add`, { WebSocket })(2, 3);
  const sheet = await state(`ws://${location.host}/demo/state/environments`, { WebSocket });
  sheet.data = { ...sheet.data, seen: true };
  await sheet.commit();
  return { echoes, json: data, sum, state: sheet.data.seen, virtual: M.size };
}

// Stand-ins for servers that npm does not have: so much of each protocol as its own client needs for the tests. Each takes a
// socket of the package `ws`.

/** ASP.NET Core SignalR: JSON hub protocol, records that end with U+001E. The hub has one method, `Add`. */
export function signalR(socket) {
  const send = (record) => socket.send(`${JSON.stringify(record)}\x1e`);
  socket.on("message", (data) => {
    for (const text of String(data).split("\x1e").filter(Boolean)) {
      const { protocol, type, invocationId, target, arguments: given } = JSON.parse(text);
      if (protocol !== undefined) send({});
      else if (type === 1) {
        send({ type: 1, target: "called", arguments: [target] });
        send({ type: 3, invocationId, result: given[0] + given[1] });
      }
    }
  });
}

/** A Phoenix endpoint, serialisation 2.0.0: `[join_ref, ref, topic, event, payload]`. Every push is answered, and broadcast. */
export function phoenix(socket) {
  socket.on("message", (data) => {
    const [joinRef, ref, topic, event, payload] = JSON.parse(data);
    const send = (...message) => socket.send(JSON.stringify(message));
    send(joinRef, ref, topic, "phx_reply", { status: "ok", response: payload });
    if (!event.startsWith("phx_") && topic !== "phoenix") send(null, null, topic, event, payload);
  });
}

/** Centrifugo, JSON protocol: commands and replies by id, a publication goes back as a push. */
export function centrifugo(socket) {
  socket.on("message", (data) => {
    for (const line of String(data).split("\n").filter(Boolean)) {
      const { id, publish, ...command } = JSON.parse(line);
      if (id === undefined) continue;
      const replies = [];
      if (publish) replies.push({ push: { channel: publish.channel, pub: { data: publish.data } } }, { id, publish: {} });
      else if (command.connect) replies.push({ id, connect: { client: "1", version: "0", ping: 25, pong: true } });
      else replies.push({ id, ...Object.fromEntries(Object.keys(command).map((name) => [name, {}])) });
      socket.send(replies.map((reply) => JSON.stringify(reply)).join("\n"));
    }
  });
}

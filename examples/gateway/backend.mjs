// An ordinary WebSocket server: `npm install ws && node backend.mjs [PORT]`.
import { WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2] ?? 9000) });
server.on("connection", (socket, request) => {
  const name = new URL(request.url, "ws://localhost").searchParams.get("name");
  socket.on("message", (text) => socket.send(`${name} says ${text}`));
});
server.on("listening", () => console.log(`listening on ws://127.0.0.1:${server.address().port}/`));

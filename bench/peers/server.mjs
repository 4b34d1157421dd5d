// The peers' servers, both of which echo every message: websocket-multiplex over plain WebSockets,
// and socket.io with a namespace for each channel. Prints its port.
import { EventEmitter } from "node:events";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { Server } from "socket.io";
import { WebSocketServer } from "ws";

// websocket-multiplex needs a list of names.
const NAMES = 20_000;

const { MultiplexServer } = createRequire(import.meta.url)("websocket-multiplex/multiplex_server.js");

const http = createServer();
const io = new Server(http, { transports: ["websocket"], cors: { origin: true }, maxHttpBufferSize: 1e9 });
io.of(/^\/echo\d+$/).on("connection", (socket) => socket.on("m", (data) => socket.emit("m", data)));

// It expects SockJS connections; a WebSocket needs these three names.
const service = new EventEmitter();
const multiplexer = new MultiplexServer(service);
for (let i = 0; i < NAMES; i++) {
  multiplexer.registerChannel(`echo${i}`).on("connection", (channel) => channel.on("data", (data) => channel.write(data)));
}
const sockets = new WebSocketServer({ noServer: true });
http.on("upgrade", (request, stream, head) => {
  if (request.url !== "/multiplex") return;
  sockets.handleUpgrade(request, stream, head, (socket) => {
    const connection = Object.assign(new EventEmitter(), { write: (data) => socket.send(data) });
    socket.on("message", (data) => connection.emit("data", data.toString()));
    socket.on("close", () => connection.emit("close"));
    service.emit("connection", connection);
  });
});

http.listen(0, "127.0.0.1", () => console.log(`listening on ${http.address().port}`));

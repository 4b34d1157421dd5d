// The libraries' own servers, as in production, each on a free port. A separate program, ended
// by a signal: their timers keep a process alive. It prints the gateway's options as a line of JSON.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { once } from "node:events";
import { initTRPC } from "@trpc/server";
import { applyWSSHandler } from "@trpc/server/adapters/ws";
import { Aedes } from "aedes";
import { GraphQLInt, GraphQLObjectType, GraphQLSchema, GraphQLString } from "graphql";
import { useServer } from "graphql-ws/use/ws";
import { Server as SocketIo } from "socket.io";
import { createWebSocketStream, WebSocketServer } from "ws";
import { centrifugo, phoenix, signalR } from "./standins.js";

const require = createRequire(import.meta.url);
// Both by `require`: Yjs wants to be there once, and its packages have it as CommonJS, too.
const { setupWSConnection } = require("y-websocket/bin/utils");
const { Server: Hocuspocus } = require("@hocuspocus/server");
const StompServer = require("stomp-broker-js");

const schema = new GraphQLSchema({
  query: new GraphQLObjectType({
    name: "Query",
    fields: { hello: { type: GraphQLString, resolve: () => "world" } },
  }),
  subscription: new GraphQLObjectType({
    name: "Subscription",
    fields: {
      count: {
        type: GraphQLInt,
        args: { to: { type: GraphQLInt } },
        async *subscribe(_, { to }) {
          for (let count = 1; count <= to; count++) yield { count };
        },
      },
    },
  }),
});

const { hocuspocus } = new Hocuspocus({ quiet: true, stopOnSignals: false });

const trpc = initTRPC.create();
const router = trpc.router({
  hello: trpc.procedure.query(() => "world"),
  count: trpc.procedure.subscription(async function* () {
    for (let count = 1; count <= 4; count++) yield count;
  }),
});

/** Echoes; on `bye` it closes with 4000, so that a client must reconnect. */
function echo(socket) {
  socket.on("message", (data, isBinary) => {
    if (String(data) === "bye") socket.close(4000, "bye");
    else socket.send(data, { binary: isBinary });
  });
}

async function listen(attach) {
  const server = createServer();
  attach(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `127.0.0.1:${server.address().port}`;
}

/** A server of WebSockets alone, each given to `handle`; with the options that its protocol needs. */
const sockets = (handle, options) => listen((server) => new WebSocketServer({ ...options, server }).on("connection", handle));

const broker = await Aedes.createBroker();
const upstreams = {
  "/echo": `${await sockets(echo)}/`,
  "/graphql": `${await listen((server) => useServer({ schema }, new WebSocketServer({ server, path: "/graphql" })))}/graphql`,
  "/trpc": `${await listen((server) => applyWSSHandler({ wss: new WebSocketServer({ server }), router }))}/`,
  "/y": `${await sockets(setupWSConnection)}/`,
  "/hocuspocus": `${await sockets((socket, request) => hocuspocus.handleConnection(socket, request))}/`,
  "/mqtt": `${await sockets((socket) => broker.handle(createWebSocketStream(socket)), { handleProtocols: () => "mqtt" })}/`,
  "/stomp": `${await listen((server) => {
    // It sends nobody his own messages.
    const stomp = new StompServer({ server, path: "/stomp" });
    stomp.subscribe("/queue/in", (body) => stomp.send("/queue/out", {}, String(body)));
  })}/stomp`,
  "/phoenix": `${await sockets(phoenix)}/`,
  "/centrifugo": `${await sockets(centrifugo)}/`,
  "/signalr": `${await sockets(signalR)}/`,
  "/socket.io": `${await listen((server) =>
    new SocketIo(server).on("connection", (socket) => {
      socket.emit("welcome", "hello");
      socket.on("add", (a, b, answer) => answer(a + b));
      socket.on("bytes", (bytes, answer) => answer(bytes));
    }),
  )}/socket.io`,
};
console.log(JSON.stringify(Object.entries(upstreams).flatMap(([prefix, url]) => ["--upstream", `${prefix}=ws://${url}`])));

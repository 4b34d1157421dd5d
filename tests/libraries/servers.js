// The libraries' own servers, each on a free port: what they would run with in production. A program of its own, ended
// by a signal: their timers keep a process alive. It prints the gateway's options as a line of JSON.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { once } from "node:events";
import { GraphQLInt, GraphQLObjectType, GraphQLSchema, GraphQLString } from "graphql";
import { useServer } from "graphql-ws/use/ws";
import { Server as SocketIo } from "socket.io";
import { WebSocketServer } from "ws";

const { setupWSConnection } = createRequire(import.meta.url)("y-websocket/bin/utils");

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

/** Echoes; on `bye` it closes with 4000, so that a client may show how it comes back. */
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
  return server.address().port;
}

const plain = await listen((server) => new WebSocketServer({ server }).on("connection", echo));
const graphql = await listen((server) => useServer({ schema }, new WebSocketServer({ server, path: "/graphql" })));
const y = await listen((server) => new WebSocketServer({ server }).on("connection", setupWSConnection));
const io = await listen((server) =>
  new SocketIo(server).on("connection", (socket) => {
    socket.emit("welcome", "hello");
    socket.on("add", (a, b, answer) => answer(a + b));
    socket.on("bytes", (bytes, answer) => answer(bytes));
  }),
);
const upstreams = {
  "/echo": `127.0.0.1:${plain}/`,
  "/graphql": `127.0.0.1:${graphql}/graphql`,
  "/y": `127.0.0.1:${y}/`,
  "/socket.io": `127.0.0.1:${io}/socket.io`,
};
console.log(JSON.stringify(Object.entries(upstreams).flatMap(([prefix, url]) => ["--upstream", `${prefix}=ws://${url}`])));

// A program for node.test.js: `client.mjs ORIGIN ws|global echo|json|cut`. Prints a line for each thing that it sees.
import { argv } from "node:process";
import { WebSocket as Ws } from "ws";
import { JsonWebSocket, MultiWebSocket } from "../../pkg/index.js";

const [origin, which, task] = argv.slice(2);
// A server requires the page's origin, which a program does not send on its own.
const headers = { Origin: origin };
globalThis.WebSocket =
  which === "ws"
    ? class extends Ws { constructor(url, protocols) { super(url, protocols, { headers }); } }
    : class extends WebSocket { constructor(url, protocols) { super(url, { protocols: [protocols].flat(), headers }); } };

const base = origin.replace("http", "ws");
const M = new MultiWebSocket(`${base}/multiplexer`, { idleTimeout: 0, resume: task !== "cut" });
const say = (...all) => console.log(all.join(" "));
const fired = (socket, type) => new Promise((resolve) => socket.addEventListener(type, resolve, { once: true }));

const tasks = {
  async echo() {
    const other = new URL(base);
    other.hostname = "localhost";
    for (const url of [`${base}/demo/echo`, `${other}demo/echo`]) {
      const sockets = [new M.WebSocket(url), new M.WebSocket(url)];
      await Promise.all(sockets.map((socket) => fired(socket, "open")));
      const [socket] = sockets;
      socket.binaryType = "arraybuffer";
      socket.send("grüße");
      say((await fired(socket, "message")).data);
      socket.send(Uint8Array.of(1, 2, 3));
      say(new Uint8Array((await fired(socket, "message")).data));
      socket.send(new Uint8Array(300_000).fill(7));
      say(new Uint8Array((await fired(socket, "message")).data).reduce((sum, byte) => sum + byte));
      socket.binaryType = "blob";
      socket.send(new Blob(["blob"]));
      say(await (await fired(socket, "message")).data.text());
      // Sent in one task, read one at a time: none is lost.
      for (let n = 0; n < 50; n++) socket.send(`${n}`);
      let last;
      for (let n = 0; n < 50; n++) last = (await fired(socket, "message")).data;
      say(last);
      sockets.forEach((each, n) => each.close(3000 + n, "bye"));
      for (const event of await Promise.all(sockets.map((each) => fired(each, "close")))) {
        say(event.constructor.name, event instanceof Event, event.code, event.reason, event.wasClean);
      }
    }
  },
  async json() {
    const inner = new globalThis.WebSocket(`${base}/demo/echo`, []);
    const over = new M.JsonWebSocket("../demo/echo", { base: `${base}/any/where` });
    const around = new JsonWebSocket(inner);
    await Promise.all([over, around].map((socket) => fired(socket, "open")));
    for (const socket of [over, around]) {
      socket.send({ a: ["ü"] });
      say("message", JSON.stringify((await fired(socket, "message")).data));
    }
    inner.send("{");
    const { error, data } = await fired(around, "error");
    say("error", error.name, data);
    over.close();
    around.close(3000);
    const { code, wasClean } = await fired(around, "close");
    say("close", code, wasClean);
  },
  async cut() {
    const socket = new M.WebSocket(`${base}/demo/echo`);
    await fired(socket, "open");
    say("open");
    const { code, wasClean } = await fired(socket, "close");
    say("close", code, wasClean);
  },
};
await tasks[task]();
say("end of the program");

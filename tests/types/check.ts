// Code that must compile against the package's types, and code that must not.
import { JsonWebSocket, MultiWebSocket, RelativeWebSocket } from "manysocket";
import type { JsonWebSocketOptions, MultiWebSocketOptions } from "manysocket";
import { initialise, MultiWebSocket as Manual } from "manysocket/manual";
import { showPanel } from "manysocket/devtools";
import { rpc, setDefault, type RpcError, type RpcStream } from "manysocket/rpc";
import { state as open, StateError, type Operation, type State } from "manysocket/state";
import { MockMultiplexer } from "manysocket/mock";
import { topic, type Topic, type TopicError } from "manysocket/topic";

const options: MultiWebSocketOptions = { idleTimeout: 1000, jail: "/", fallback: true, shared: "ada" };
const M = new MultiWebSocket("/multiplexer", options);
const withoutNew: MultiWebSocket = MultiWebSocket(new URL("ws://example.com/multiplexer"));
const manual: typeof MultiWebSocket = Manual;
initialise(new Uint8Array());

// Wherever the native class goes, this one goes.
const Class: typeof WebSocket = M.WebSocket;
const socket: WebSocket = new M.WebSocket("ws://example.com/ws1", ["v1"]);
globalThis.WebSocket = M.WebSocket;
const called: WebSocket = M.WebSocket("ws://example.com/ws1", ["v1"]);
const asked: MultiWebSocket = new MultiWebSocket(async () => new URL("ws://example.com/multiplexer"));
class Mine extends M.WebSocket {
  readonly extra = Class.OPEN;
}
const state: number = new Mine("/relative").readyState + M.readyState + M.size;

const panel: Promise<HTMLElement> = showPanel(M, { parent: document.body });
M.inspect().then((inspector) => {
  const credit: number | undefined = inspector.channels[0]?.sent?.credit;
  inspector.addEventListener("physical", ({ detail }) => detail.frames.map(({ kind }) => kind.length + (credit ?? 0)));
});

M.addEventListener("close", ({ code }) => code.toFixed());
M.addEventListener("open", function () {
  this.close();
});

// @ts-expect-error: a URL is required
new MultiWebSocket();
// @ts-expect-error: no such option
new MultiWebSocket("/", { idle: 5 });
// @ts-expect-error: it sends only the types of a native socket
socket.send(5);
// @ts-expect-error: the state is read only
M.readyState = 1;
// @ts-expect-error: the class is not to be replaced
M.WebSocket = WebSocket;

// ---- RelativeWebSocket ----

const relative: RelativeWebSocket = new RelativeWebSocket("pieces/");
const composed: WebSocket[] = [
  relative,
  new RelativeWebSocket("x", "v1"),
  new RelativeWebSocket(new URL("ws://example.com/x"), ["v1"], { base: "/games/" }),
  new M.RelativeWebSocket("x", { base: relative }),
  M.RelativeWebSocket("x", { base: new URL("ws://example.com/x") }),
  RelativeWebSocket("x", [], { base: M }),
];
const native: typeof WebSocket = RelativeWebSocket;
class Pieces extends M.RelativeWebSocket {
  constructor() {
    super("pieces/", [], { base: location.href });
  }
}
const relativeState: 1 = RelativeWebSocket.OPEN;
relative.send(new Uint8Array());

// @ts-expect-error: a URL is required
new RelativeWebSocket();
// @ts-expect-error: a base is a URL or has one
new RelativeWebSocket("x", { base: 5 });
// @ts-expect-error: no such option
new RelativeWebSocket("x", [], { bases: "/" });
// @ts-expect-error: only a JsonWebSocket accepts a reviver
new RelativeWebSocket("x", { reviver: () => 1 });

// ---- JsonWebSocket ----

type Move = { piece: string; to: [number, number] };
interface Board {
  pieces: Record<string, [number, number]>;
}
const revive: JsonWebSocketOptions = { reviver: (key, value) => (key === "at" ? new Date(value) : value), replacer: ["piece", "to"] };
const game = new JsonWebSocket<Move, Board>("game");
game.send({ piece: "a", to: [1, 2] });
game.onmessage = ({ data }) => data.pieces["a"]?.[0].toFixed();
game.addEventListener("message", function ({ data }) {
  const board: Board = data;
  this.send({ piece: Object.keys(board.pieces)[0] ?? "", to: [0, 0] });
});
game.addEventListener("error", (event) => {
  if ("data" in event) [event.message, event.error, event.data].toString();
});
const json = [
  new M.JsonWebSocket<Move, Board>("pieces/", [], { base: game, ...revive }),
  new M.JsonWebSocket<Move, Board>("pieces/", { base: "/games/" }),
  M.JsonWebSocket<Move, Board>("pieces/"),
  new JsonWebSocket<Move, Board>(new M.RelativeWebSocket("x", { base: game })),
  new JsonWebSocket<Move, Board>(new WebSocket("ws://example.com/x"), revive),
  JsonWebSocket<Move, Board>(relative),
];
// Drop-in: functions that accept a native socket accept a virtual one.
const dropIn: WebSocket = new JsonWebSocket("any");
const anything = new JsonWebSocket("any");
for (const value of [1, "x", true, null, [1], {}, new Date(), game]) anything.send(value);
anything.onmessage = ({ data }) => data.whatever;
class Chat extends M.JsonWebSocket<{ text: string }, { from: string; text: string }> {
  say(text: string) {
    this.send({ text });
  }
}
new Chat("chat").onmessage = ({ data: { from, text } }) => from + text;
const jsonState: 3 = JsonWebSocket.CLOSED;

// @ts-expect-error: this is not a move
game.send({ piece: "a" });
// @ts-expect-error: undefined has no form in JSON
anything.send(undefined);
// @ts-expect-error: neither has a BigInt
anything.send(1n);
// @ts-expect-error: a board has no such field
game.onmessage = ({ data }) => data.players;
// @ts-expect-error: a URL or a socket is required
new JsonWebSocket();
// @ts-expect-error: this is no socket
new JsonWebSocket({ send() {} });
// @ts-expect-error: a socket of moves accepts no text
new JsonWebSocket(game);
// @ts-expect-error: a reviver is a function
new JsonWebSocket("x", { reviver: ["a"] });

// ---- state ----

interface Sheet {
  cells: Record<string, number>;
}
const sheet: State<Sheet> = await open<Sheet>("/sheets/budget", { WebSocket: M.WebSocket });
sheet.data.cells.A1 = sheet.version;
sheet.data = { cells: {} };
const stop: () => void = sheet.watch((delta: Operation[]) => delta.length);
sheet.watch((delta, { own }) => (own satisfies boolean) && delta.length);
sheet.watch("/cells/A1", (value: number, delta) => value + delta.length);
sheet.addEventListener("close", ({ code }) => code.toFixed());
const version: number = await sheet.commit().catch((error: StateError) => error.conflicts.length);
const untyped = await open(new URL("ws://example.com/any"));
untyped.data.whatever = version;
stop();

// @ts-expect-error: a cell is a number
sheet.data.cells.A2 = "two";
// @ts-expect-error: a URL is required
open();
// @ts-expect-error: no such option
open("/", { retries: 5 });
// @ts-expect-error: the version is read only
sheet.version = 1;

// ---- topic ----

const chat: Topic = topic("/chatrooms/rust", { WebSocket: M.WebSocket, since: "17.9f3c" });
const number: number | null = await chat.publish("hello").catch((error: TopicError) => error.message.length);
await chat.publish(new Uint8Array([number ?? 0]));
chat.addEventListener("message", ({ data, lastEventId }) => (typeof data === "string" ? data + lastEventId : data.byteLength));
chat.addEventListener("missed", ({ count }) => count?.toFixed());
for await (const data of topic<string>("only/text")) data.slice(1);
const carried: Topic<string> = await M.topic<string>("/chatrooms/rust", { since: chat.position });
const budget: State<Sheet> = await M.state<Sheet>("/sheets/budget");
setDefault(M);
setDefault(null);

// @ts-expect-error: an object is no message
chat.publish({ text: "hello" });
// @ts-expect-error: the class is the multiplexer's
M.topic("/", { WebSocket });
// @ts-expect-error: a native class is no multiplexer
setDefault(WebSocket);

// ---- rpc ----

interface Tank {
  turn(degrees: number): number;
  name(): Promise<string>;
  gun: { fire(): void };
  readings(seconds: number): AsyncIterable<{ heading: number }>;
}
const tank = rpc<Tank>("tank65/", { WebSocket: M.WebSocket, timeout: 1000 });
const heading: number = await tank.turn(47.9);
const tankName: string = await tank.name();
await tank.gun.fire().catch((error: RpcError) => error.code + error.data.id);
const patient: typeof tank = rpc(tank, { timeout: Infinity, signal: new AbortController().signal });
const add = rpc<(left: number, right: number) => number>(new URL("ws://example.com/add"));
const sum: number = await add(heading, await patient.turn(tankName.length));
const over: number = await M.rpc<Tank>("tank65/", { timeout: 10 }).turn(budget.version + carried.readyState);
const whatever = rpc("any", { separate: over > 1 });
await whatever(sum, "x").then(whatever.some.thing);
const readings: RpcStream<{ heading: number }> = await tank.readings(10);
for await (const reading of readings) await tank.turn(-reading.heading);
const early: string = (await readings.return("early")).value;
const unknown: number = await rpc<() => any>(early)();
await add(unknown, 1);

// @ts-expect-error: degrees are a number
tank.turn("left");
// @ts-expect-error: there is no such method
tank.fly();
// @ts-expect-error: add accepts two arguments
add(1);
// @ts-expect-error: no such option
rpc("any", { retries: 5 });
// @ts-expect-error: a URL is required
rpc();

export { composed, dropIn, json, jsonState, manual, native, Pieces, relativeState, state, withoutNew };

// ---- unit tests ----

const mock: MultiWebSocket = new MockMultiplexer();
const mocked = new MockMultiplexer("ws://localhost/multiplexer");
mocked.handle("/rooms/{room}", async ({ url, params, protocols, headers, accept, refuse }) => {
  const room: string | undefined = params["room"];
  if (protocols.length === 0 || headers.has("a") || url.search === "") refuse();
  const socket: WebSocket = accept({ protocol: protocols[0] ?? "" });
  socket.send(`${room}`);
});
// @ts-expect-error: the path comes first
mocked.handle(() => {});

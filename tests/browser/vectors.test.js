// Replays the client's sessions of tests/vectors/sessions.json with the package, in Node.js, over a socket of the test's
// (docs/protocol.md §12). It omits commands and reports that a page does not have: the order of its answers, and time.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { repository } from "../harness/index.js";

/** The socket of a link: the test makes its messages. */
class Played extends EventTarget {
  static latest;
  readyState = 0;
  bufferedAmount = 0;
  protocol = "manysocket.v1";
  code;

  constructor(url) {
    super();
    this.url = String(url);
    Played.latest = this;
  }
  send() {}
  close(code) {
    this.code ??= code;
    // The link of a socket that goes on over another one: the test ends before it opens.
    if (this.readyState === 0) setImmediate(() => this.fire("close", { code: 1006, reason: "", wasClean: false }));
    this.readyState = Math.max(this.readyState, 2);
  }
  fire(type, fields) {
    this.dispatchEvent(Object.assign(new Event(type), fields));
  }
}

globalThis.WebSocket = Played;
const { MultiWebSocket } = await import("../../pkg/index.js");

const { sessions } = JSON.parse(readFileSync(`${repository}tests/vectors/sessions.json`));
const known = new Map(sessions.map((session) => [session.name, session]));

/** The close codes of the rules that the package prints by number (docs/protocol.md §9). */
const document = readFileSync(`${repository}docs/protocol.md`, "utf8");
const codes = new Map([...document.matchAll(/^\| (\d+) \| (1\d{3}) \| /gm)].map(([, rule, code]) => [Number(rule), Number(code)]));

const string = (value) => (typeof value === "string" ? value : Array.isArray(value) ? value.map(string).join("") : string(value.repeat).repeat(value.times));

/** Events in the form of the vectors, as a page sees them. */
function seen({ accepted, refused, message, closed, oversize }) {
  if (accepted) return [accepted.channel, `open ${accepted.protocol}`];
  if (refused) return [refused.channel, "error", "close 1006 "];
  if (oversize) return [oversize.channel, "error", "close 1006 "];
  if (message) return [message.channel, "text" in message ? `text ${string(message.text)}` : `binary ${string(message.binary)}`];
  // The server has failed the channel (docs/protocol.md §7).
  if (closed.code === 1) return [closed.channel, "error", "close 1006 "];
  return [closed.channel, `close ${closed.code ?? 1005} ${closed.reason}`];
}

const THINGS = ["open", "handshake", "receive", "send", "close", "consumed"];
/** The steps that a page can perform: it cannot set time and settings, or give up an open socket. */
const isPlayed = (step) =>
  THINGS.some((thing) => thing in step) && step.receive?.text_bytes === undefined && step.open?.channel !== null;
/** The reader does not read these: a page does. */
const UNREAD = [
  "violation: data beyond the credit (client)",
  "a channel that is opened again begins with the window, not with the credit of the one before",
];
const settingsOf = ({ settings = {} }) => JSON.stringify(settings);

/** A first batch with the default max_message in place of the page's, which is larger (docs/protocol.md §3.1). */
const withDefaults = (batch) => {
  const bytes = Buffer.from(batch, "base64url");
  const at = bytes.indexOf(Buffer.from([3, 0xff, 0xff, 0xff, 0x7f]));
  assert.ok(at > 0, "HELLO has the page's max_message");
  bytes.set([0x80, 0x80, 0x80, 0x20], at + 1);
  return bytes.toString("base64url");
};

const turn = () => new Promise((resolve) => setImmediate(resolve));

class Replay {
  M = new MultiWebSocket("ws://host/multiplexer", { resume: false });
  /** By number, as the vectors name them, and each socket's events since the step began. */
  sockets = new Map();
  events = new Map();

  async step(step) {
    this.events.clear();
    const { handshake, receive, send, close, violation } = step;
    if (handshake !== undefined) {
      await this.#dialled();
      assert.equal(withDefaults(new URL(Played.latest.url).searchParams.get("manysocket")), handshake);
    } else if (receive) await this.#receive(receive);
    else if (send) this.sockets.get(send.channel).send("text" in send ? string(send.text) : Buffer.from(string(send.binary), "hex"));
    else if (close) this.sockets.get(close.channel).close(close.code ?? undefined, close.reason);
    await turn();
    if (violation !== undefined) return;
    const expected = new Map();
    for (const [channel, ...events] of (step.events ?? []).map(seen)) expected.set(channel, [...(expected.get(channel) ?? []), ...events]);
    // Each event has a task.
    const count = (events) => [...events.values()].flat().length;
    for (let n = 0; n < 1000 && count(this.events) < count(expected); n++) await turn();
    assert.deepEqual(this.events, expected);
  }

  open({ channel, target, protocols, headers }) {
    const offered = protocols === "" ? [] : protocols.split(", ");
    const init = headers === undefined ? offered : { protocols: offered, headers: [headers.split(": ")] };
    const socket = new this.M.WebSocket(`ws://host${target}`, init);
    socket.binaryType = "arraybuffer";
    const log = (line) => this.events.set(channel, [...(this.events.get(channel) ?? []), line]);
    socket.onopen = () => log(`open ${socket.protocol}`);
    socket.onmessage = ({ data }) => log(typeof data === "string" ? `text ${data}` : `binary ${Buffer.from(data).toString("hex")}`);
    socket.onerror = () => log("error");
    socket.onclose = ({ code, reason }) => log(`close ${code} ${reason}`);
    this.sockets.set(channel, socket);
  }

  /** The link is dialled at the end of the task of its first socket, and open from then on. */
  async #dialled() {
    if (this.sockets.size === 0) this.open({ channel: 0, target: "/", protocols: "" });
    await turn();
    if (Played.latest.readyState !== 0) return;
    Played.latest.readyState = 1;
    Played.latest.fire("open");
  }

  async #receive({ text, binary }) {
    await this.#dialled();
    const bytes = binary === undefined ? null : Uint8Array.from(Buffer.from(string(binary), "hex"));
    Played.latest.fire("message", { data: bytes?.buffer ?? string(text) });
  }
}

const played = sessions.filter((session) => {
  const first = known.get(session.after) ?? session;
  // A page's own settings: no promise to ping, all else by default.
  return first.side === "client" && ["{}", '{"ping_interval":0}'].includes(settingsOf(first)) && !UNREAD.includes(session.name) && session.steps.every(isPlayed);
});

test("the client's sessions, as the package plays them", async (t) => {
  assert.ok(played.length > 80, `${played.length} sessions`);
  for (const session of played) {
    await t.test(session.name, async (t) => {
      const printed = [];
      t.mock.method(console, "error", (line) => printed.push(line));
      Played.latest = undefined;
      const replay = new Replay();
      let violation;
      for (const { steps } of [known.get(session.after), session].filter(Boolean)) {
        for (const step of steps) {
          // Opens of one task ride in the handshake.
          if (step.open) replay.open(step.open);
          else await replay.step(step);
          violation = step.violation;
        }
      }
      // A page may not send the code itself.
      const broken = printed.map((line) => /it broke rule (\d+)/.exec(line)).find(Boolean);
      assert.deepEqual([Played.latest.code, codes.get(Number(broken?.[1]))], violation === undefined ? [undefined, undefined] : [4002, violation], printed.join("\n"));
      Played.latest.readyState = 3;
      Played.latest.fire("close", { code: 1006, reason: "", wasClean: false });
      replay.M.close();
      await turn();
    });
  }
});

// The actions of a hostile server against three sockets, and the events of each. A page opens them in one task, so they are channels
// 1 to 3.
import { Decoder } from "../../js/inspect/decode.js";
import { batch } from "../harness/hostile.js";

// The events of three sockets that a page opens in one task, as channels 1 to 3.
const FAILED = ["error", "1006"];
const OPENED_AND_FAILED = ["open", ...FAILED];
const OPENED_AND_LOST = ["open", "1006"];
const ON = ["open", "still here"];
const all = (events) => [events, events, events];

const UNSET = batch().hello();
const greeting = () => batch().hello([5, 0]);
const accepted = () => greeting().accept(1).accept(2).accept(3);
/** Sends input that must end the link, once the sockets are open. */
const breach = (...messages) => ({
  run: async (wire) => {
    await wire.send(accepted());
    for (const message of messages) await wire.send(message);
  },
  events: all(OPENED_AND_FAILED),
});
/** The same before they are. */
const early = (...messages) => ({
  run: async (wire) => {
    for (const message of messages) await wire.send(message);
  },
  events: all(FAILED),
});
/** Harms a channel or two; the link continues. */
const harmless = (run, events = all(ON)) => ({
  run: async (wire) => {
    await wire.send(accepted());
    await run(wire);
    for (const channel of [1, 2, 3]) if (events[channel - 1].includes("still here")) await wire.send(`${channel}:still here`);
  },
  events,
});

const repeat = (count, make) => Array.from({ length: count }, make);
const MIB = 1024 * 1024;
const NAMES = ["__proto__", "constructor", "toString", "hasOwnProperty", "prototype"];

/**
 * By name: `run` gets the link; `events` are those of the sockets in the end; `offer`: their subprotocols; `prints`: part of a line that
 * the console has then; `answers`: fewer physical messages than this come back; `grows`: by how many bytes the page may have grown.
 */
export const attacks = {
  // ---- malformed input ----
  "a batch of nothing": breach(Buffer.alloc(0), Buffer.from([0])),
  "lengths that tell too much": breach(batch().ping().toBuffer(100, 0)),
  "lengths without end": breach(Buffer.alloc(20, 0xff)),
  "lengths of 4 GiB": breach(batch().ping().toBuffer(2 ** 32 - 1, 2 ** 32 - 1)),
  "a header cut short": breach(Buffer.from([1, 0, 0x80])),
  "headers that tell more than there is": breach(batch().frame("text", 1, 100).text("x")),
  "content that no header tells of": { ...breach(batch().say(1, "x").text("y")), events: [["open", "x", ...FAILED], OPENED_AND_FAILED, OPENED_AND_FAILED] },
  "a reserved kind": breach(batch().frame(13, 1)),
  "text that is not UTF-8, alone": { ...breach(), run: async (wire) => {
    await wire.send(accepted());
    // A text frame of RFC 6455 with a byte that no text contains.
    wire.socket._socket.write(Buffer.from([0x81, 3, 0x31, 0x3a, 0xff]));
  }, events: all(OPENED_AND_FAILED) },
  "text that is not UTF-8, in a batch": breach(batch().frame("text", 1, 1).text([0xff])),
  "a surrogate pair in two pieces": breach(batch().frame("textPart", 1, 1).frame("text", 1, 1).text("😀")),
  "a surrogate pair in two messages": breach(batch().frame("text", 1, 1).frame("text", 2, 1).text("😀")),
  "text without a channel": breach("hello"),
  "text for channel 0": breach("0:x"),
  "text for a channel of ten digits": breach("4294967297:x"),
  "a frame of RFC 6455 cut short": { ...breach(), run: async (wire) => {
    await wire.send(accepted());
    wire.socket._socket.end(Buffer.from([0x82, 100, 1, 2, 3]));
  }, events: all(OPENED_AND_LOST) },
  "a physical message of 20 MiB, binary": breach(Buffer.alloc(20 * MIB)),
  "a physical message of 20 MiB, text": breach(`1:${"x".repeat(20 * MIB)}`),
  "a frame of 20 MiB that is to be passed over": breach(batch().unknown(20 * MIB)),

  // ---- greetings ----
  "a batch before HELLO": early(batch().ping()),
  "text before HELLO": early("1:x"),
  "two HELLOs": breach(UNSET),
  "a window of nothing": early(batch().hello([2, 0])),
  "a window of 4 GiB": early(batch().hello([2, 2 ** 32 - 1])),
  "pieces of one byte": early(batch().hello([4, 1])),
  "HELLO cut short": early(Buffer.from([3, 0, 0x0b, 1, 2])),
  "a HELLO of 10,000 unknown keys": { run: async (wire) => {
    await wire.send(batch().hello(...repeat(10_000, (_, n) => [n + 6, n])).accept(1).accept(2).accept(3));
    for (const channel of [1, 2, 3]) await wire.send(`${channel}:still here`);
  }, events: all(ON) },
  "no channels allowed, after the first": { run: async (wire) => {
    await wire.send(batch().hello([1, 0]).accept(1).accept(2).accept(3));
    for (const channel of [1, 2, 3]) await wire.send(`${channel}:still here`);
  }, events: all(ON) },

  // ---- answers that nobody asked for ----
  "ACCEPT of a channel that is not there": breach(batch().accept(9)),
  "ACCEPT twice": breach(batch().accept(1)),
  "ACCEPT with what was not offered": { run: async (wire) => {
    await wire.send(greeting().accept(1, "chat").accept(2).accept(3));
    for (const channel of [2, 3]) await wire.send(`${channel}:still here`);
  }, events: [FAILED, ON, ON], prints: "chat" },
  "ACCEPT with what was not offered, data and CLOSE behind it": { run: async (wire) => {
    await wire.send(greeting().accept(1, "x".repeat(MIB)).say(1, "x").close(1, 1000).accept(2).accept(3));
    for (const channel of [2, 3]) await wire.send(`${channel}:still here`);
  }, events: [FAILED, ON, ON], prints: "xxx" },
  "REFUSE with a reason of 1 MiB": { run: async (wire) => {
    await wire.send(greeting().refuse(1, 2 ** 32 - 1, "no ".repeat(MIB / 3)).accept(2).accept(3));
    for (const channel of [2, 3]) await wire.send(`${channel}:still here`);
  }, events: [FAILED, ON, ON], prints: "no no" },
  "REFUSE of what was accepted": breach(batch().refuse(1, 403)),
  "OPEN by a server": breach(batch().frame("open", 4, 1, 0).text("/")),
  "answers to a channel that has ended": { ...breach(batch().close(1, 1000), batch().accept(1)), events: [["open", "1000"], OPENED_AND_FAILED, OPENED_AND_FAILED] },
  "data on a channel that has ended": { ...breach(batch().close(1, 1000).say(1, "x")), events: [["open", "1000"], OPENED_AND_FAILED, OPENED_AND_FAILED] },
  "data before ACCEPT": early(greeting().say(1, "x")),
  "data on a channel that is not there": breach("77:x"),
  "a payload behind a header for a channel that is not there": breach(batch().frame("raw", 77), Buffer.alloc(5000)),
  "a header for channel 0, and a batch": harmless((wire) => wire.send(batch().frame("raw", 0).ping())),

  // ---- closing ----
  "CLOSE before ACCEPT": early(greeting().close(1, 1000)),
  "CLOSE twice": { ...breach(batch().close(1, 1000).close(1, 1000)), events: [["open", "1000"], OPENED_AND_FAILED, OPENED_AND_FAILED] },
  ...Object.fromEntries([2, 999, 1004, 1005, 1015, 2999, 5000, 65_536 + 1000, 2 ** 32 - 1].map((code) => [`CLOSE ${code}`, breach(batch().close(1, code))])),
  "CLOSE with a reason of 124 bytes": breach(batch().close(1, 1000, "x".repeat(124))),
  "CLOSE with a reason of 62 characters, 124 bytes": breach(batch().close(1, 1000, "é".repeat(62))),
  "CLOSE 1006 with a reason": breach(batch().close(1, 1006, "x")),
  "names of what every object has": { offer: NAMES, run: async (wire) => {
    await wire.send(greeting().accept(1, NAMES[0]).accept(2, NAMES[1]).accept(3, NAMES[2]));
    for (const name of NAMES) await wire.send(batch().say(1, name).say(2, `{"${name}":{"polluted":true}}`));
    await wire.send(batch().close(1, 4000, NAMES[0]).close(2, 4000, NAMES[1]).close(3, 4000, NAMES[2]));
  }, events: [["open __proto__", ...NAMES, "4000 __proto__"], ["open constructor", ...NAMES.map((name) => `{"${name}":{"polluted":true}}`), "4000 constructor"], ["open toString", "4000 toString"]] },

  // ---- credit ----
  "GRANT for a channel that is not there": breach(batch().frame("grant", 9, 1)),
  "GRANT before ACCEPT": early(greeting().frame("grant", 1, 1)),
  "GRANT past the largest credit": breach(batch().frame("grant", 1, 2 ** 31)),
  "data beyond the credit": { ...breach(repeated(5, (flood) => flood.say(1, "x".repeat(65_536)))), events: [["open", ...repeat(3, () => "x".repeat(100)), ...FAILED], OPENED_AND_FAILED, OPENED_AND_FAILED] },
  "text and binary pieces in one message": breach(batch().say(1, "x", "textPart").give(1, "y", "binaryPart")),

  // ---- messages that never end ----
  "a million pieces of nothing": { ...harmless(async (wire) => {
    for (let n = 0; n < 100; n++) await wire.send(pieces(10_000, ""));
  // 65,553 pieces may belong to a message of 256 MiB, the page's largest: 64 bytes each.
  }, [OPENED_AND_FAILED, ON, ON]), grows: 4 * MIB },
  "pieces of one byte, without end": { ...harmless((wire) => endless(wire, 100_000, () => pieces(1000, "x"), 1000 * 65), [OPENED_AND_FAILED, ON, ON]), grows: MIB },
  "binary pieces of one byte, each in a batch of 3 MiB": { ...harmless((wire) => endless(wire, 15, () => batch().give(1, "x", "binaryPart").unknown(3 * MIB), 65), [["open"], ON, ON]), grows: MIB },
  "text pieces of 20 characters, each in a batch of 3 MiB": { run: async (wire) => {
    // Data on a channel that the page has given up costs no credit.
    await wire.send(greeting().accept(1, "chat").accept(2).accept(3));
    await endless(wire, 15, () => batch().say(1, "x".repeat(3 * MIB)).say(2, "y".repeat(20), "textPart"), 84);
    await wire.send("3:still here");
  }, events: [FAILED, ["open"], ON], grows: MIB },
  "a message past 256 MiB": { ...harmless((wire) => endless(wire, 260 * 16, () => `1+${"x".repeat(65_536)}`, 65_600), [OPENED_AND_FAILED, ON, ON]), grows: MIB },

  // ---- floods ----
  "a million PINGs": { ...harmless(async (wire) => {
    for (let n = 0; n < 100; n++) await wire.send(repeated(10_000, (flood) => flood.ping()));
  }), answers: 200 },
  "a million PONGs": harmless(async (wire) => {
    for (let n = 0; n < 100; n++) await wire.send(repeated(10_000, (flood) => flood.frame("link", 2, 0)));
  }),
  "a million GRANTs of nothing": harmless(async (wire) => {
    for (let n = 0; n < 100; n++) await wire.send(repeated(10_000, (flood) => flood.frame("grant", 1, 0)));
  }),
  "a million headers for payloads that never come": harmless(async (wire) => {
    for (let n = 0; n < 100; n++) await wire.send(repeated(10_000, (flood) => flood.frame("raw", n)).frame("raw", 0));
  }),
  "10,000 batches of nothing": harmless(async (wire) => {
    for (let n = 0; n < 10_000; n++) wire.send(Buffer.from([0, 0]));
  }),
  "an interval of 1 ms between its PINGs": { run: async (wire) => {
    await wire.send(batch().hello([5, 1]).accept(1).accept(2).accept(3));
    await wire.until(() => wire.received.length > 0);
    await wire.send(batch().frame("link", 2, 0));
    for (const channel of [1, 2, 3]) await wire.send(`${channel}:still here`);
  }, events: all(ON), answers: 5 },

  // ---- ends ----
  "the link closes before HELLO": { run: (wire) => wire.socket.close(1000), events: all(FAILED) },
  "the link is cut before HELLO": { run: (wire) => wire.socket.terminate(), events: all(FAILED) },
  "the link closes before ACCEPT": { run: async (wire) => { await wire.send(greeting()); wire.socket.close(4999, "x".repeat(123)); }, events: all(FAILED) },
  "the link is cut before ACCEPT": { run: async (wire) => { await wire.send(greeting()); wire.socket.terminate(); }, events: all(FAILED) },
  "the link is cut after one ACCEPT": { run: async (wire) => { await wire.send(greeting().accept(1)); wire.socket.terminate(); }, events: [OPENED_AND_LOST, FAILED, FAILED] },
  "the link closes in the middle of a message": { run: async (wire) => { await wire.send(accepted().say(1, "x", "textPart")); wire.socket.close(1000); }, events: all(OPENED_AND_LOST) },
  "the link closes behind a header for payloads": { run: async (wire) => { await wire.send(accepted().frame("raw", 1)); wire.socket.close(1013); }, events: all(OPENED_AND_LOST) },
};

/** A batch of the same frame, many times. */
function repeated(count, add) {
  const flood = batch();
  for (let n = 0; n < count; n++) add(flood);
  return flood;
}

/** Pieces of a text on channel 1. */
const pieces = (count, content) => repeated(count, (flood) => flood.say(1, content, "textPart"));

/** Sends pieces of a message, `cost` units each time, for as long as the page grants credit for them. */
async function endless(wire, count, make, cost) {
  const decoder = new Decoder();
  let credit = 262_144;
  let seen = 0;
  for (let n = 0; n < count; n++) {
    while (credit < cost) {
      await wire.until(() => wire.received.length > seen);
      if (wire.socket.readyState !== 1) return;
      for (const frame of decoder.decode(wire.received[seen++]).frames) {
        if (frame.kind === "CLOSE") return;
        credit += frame.credit ?? 0;
      }
    }
    credit -= cost;
    await wire.send(make());
  }
}

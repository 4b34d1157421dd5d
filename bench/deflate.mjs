// Estimates the gain of permessage-deflate (RFC 7692) for a link: `node bench/deflate.mjs`. It compares one compressor for
// the batches of a link with one for each native socket, over the same JSON messages. It counts payload bytes, without
// WebSocket headers and TCP.
import { constants, createDeflateRaw } from "node:zlib";

const SOCKETS = 100;
const MESSAGES = 20_000;
/** The number of messages in one turn of the event loop. */
const BATCH = 50;

/** Messages as for a page of prices, a chat and a game. */
function message(at) {
  const number = (at * 7919) % 10_007;
  if (at % 3 === 0) return JSON.stringify({ type: "price", symbol: `SYM${at % 40}`, bid: 100 + number / 100, ask: 100.05 + number / 100, time: 1_700_000_000_000 + at * 13 });
  if (at % 3 === 1) return JSON.stringify({ type: "message", room: `room-${at % 12}`, from: `user${number % 50}`, text: `message number ${number}, and some words that people write`, id: at });
  return JSON.stringify({ type: "moved", piece: number % 64, to: [number % 100, (number * 3) % 100], by: `player${at % 4}` });
}

/** Makes a compressor that keeps its window from message to message, as both sides of a connection do. */
function compressor(level) {
  const stream = createDeflateRaw({ level, flush: constants.Z_SYNC_FLUSH });
  let bytes = 0;
  stream.on("data", (chunk) => (bytes += chunk.length));
  // RFC 7692 §7.2.1: a sender removes the four bytes that end a flush.
  const add = (data) => new Promise((done) => stream.write(data, () => ((bytes -= 4), done())));
  return { add, bytes: () => bytes };
}

async function run(name, units, level) {
  const compressors = new Map();
  const before = process.cpuUsage();
  for (const { key, data } of units) {
    if (!compressors.has(key)) compressors.set(key, compressor(level));
    await compressors.get(key).add(data);
  }
  const { user, system } = process.cpuUsage(before);
  const bytes = [...compressors.values()].reduce((sum, { bytes: count }) => sum + count(), 0);
  console.log(`${name}, level ${level}: ${(bytes / MESSAGES).toFixed(1)} bytes and ${((user + system) / MESSAGES).toFixed(1)} µs a message, ${compressors.size} windows`);
}

const messages = Array.from({ length: MESSAGES }, (_, at) => ({ key: at % SOCKETS, data: message(at) }));
const batches = [];
for (let at = 0; at < MESSAGES; at += BATCH) batches.push({ key: "link", data: messages.slice(at, at + BATCH).map(({ data }) => data).join("") });
console.log(`plain: ${(messages.reduce((sum, { data }) => sum + data.length, 0) / MESSAGES).toFixed(1)} bytes a message`);
for (const level of [1, 6]) {
  await run("a compressor for each of 100 sockets", messages, level);
  await run("one for the batches of a link", batches, level);
}

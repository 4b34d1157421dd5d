// One physical WebSocket and the channels over it, from dialling to its end. A link is never used again:
// whoever needs another makes one.
import { joinBatch, splitBatch } from "./batch.js";
import { Bytes, detached, join } from "./events.js";
import { Deadline, LONGEST_TIMEOUT } from "./deadline.js";
import { ABNORMAL, CONNECTING, EVENT_MESSAGE, MAX_REASON, OPEN } from "./channel.js";
import { Payloads } from "./payloads.js";
import { deliverLater, enqueue, flushLater, receiveFrom } from "./delivery.js";
import { isPair, utf8Length } from "./utf8.js";
import { core, memoryBytes, memoryWords } from "./wasm.js";

export const SUBPROTOCOL = "manysocket.v1";
const HANDSHAKE_PARAMETER = "manysocket";
/** Base64 makes 4,000 characters of it: below what servers allow in a request line, path and all. */
const HANDSHAKE_BYTES = 3000;

/** What a server must not do, by number. */
const RULES = "https://github.com/manysocket/manysocket/blob/main/docs/protocol.md#9-violations";

/** A batch is not kept waiting for the task to end once it holds this much. */
const ENOUGH = 32 * 1024;
/**
 * The longest physical message, in bytes or UTF-16 code units: a piece of the largest size that this side's HELLO tells, 1 MiB, in
 * characters of three bytes, and 64 KiB of headers. What is in headers goes through wasm's memory, which never shrinks.
 */
const LONGEST = 3 * 1024 * 1024 + 64 * 1024;

// How long a page waits for the answer to an open, and to a close, in milliseconds: as long as Chromium waits natively.
const OPENING = 240_000;
const CLOSING = 60_000;

// The words of an event (src/words.rs).
const EVENT_WORDS = 5;
const TEXT = 0;
const BINARY = 1;
const ACCEPTED = 2;
const REFUSED = 3;
const CLOSED = 4;
const FIN = 1 << 8;

/** The number of no link of the wasm's. */
const GONE = -1;

// What wasm has to send (src/lib.rs).
const SEND_TEXT = 1;
const SEND_BATCH = 2;
const SEND_RAW = 3;

export class Link {
  #payloads = new Payloads();
  /** Its number in wasm. */
  #core = core.create(performance.now());
  /** By number. */
  #channels = [];
  #physical = null;
  #options;
  /** Units queued since the last flush. */
  #pending = 0;
  #flushing = false;
  /** Bytes ever handed to the physical socket. */
  #handed = 0;
  /** What reads along, for inspect.js: no listener of its own would come before those that deliver. */
  tap = null;
  /** How to end, if that was asked for before dialling. */
  #ending = null;
  #keepalive = 0;
  #idle = 0;
  #opening = new Deadline(OPENING, (channel) => {
    console.error(`WebSocket connection to '${channel.url}' failed: no answer for ${OPENING / 1000} s`);
    this.fail(channel);
  });
  #closing = new Deadline(CLOSING, (channel) => {
    // What was sent before the close still waits for credit: a native socket, too, waits until all has left.
    if (channel.first !== null) return this.#closing.add(channel);
    this.abort(channel);
    channel.lost();
    deliverLater();
  });

  /**
   * Dials at the end of this task: what is opened until then rides in the handshake.
   * @param {string} url
   * @param {object} options `WebSocket`, the native class; `idleTimeout`; `onopen`; `onclose`; `fallback`, null or what
   *   takes over the channels of a handshake that failed
   */
  constructor(url, options) {
    this.#options = options;
    queueMicrotask(() => this.#dial(url));
  }

  get readyState() {
    return this.#physical?.readyState ?? CONNECTING;
  }

  /** Channels that have not ended. */
  get size() {
    return core.channels(this.#core);
  }

  /** Bytes that the physical socket has sent. */
  bytesSent() {
    return this.#handed - (this.#physical?.bufferedAmount ?? 0);
  }

  /** For inspect.js. */
  inspected() {
    return { physical: this.#physical, channels: this.#channels.filter(Boolean) };
  }

  // ---- what channels ask for ----

  /** Opens a channel; one that the server's limit forbids fails as it does natively. */
  open(channel) {
    const { target } = channel;
    const protocols = channel.offered.join(", ");
    const targetSlot = this.#payloads.add(target, null);
    const protocolsSlot = this.#payloads.add(protocols, null);
    const number = core.open(this.#core, targetSlot, target.length, protocolsSlot, protocols.length);
    clearTimeout(this.#idle);
    if (number === 0) {
      this.#payloads.remove(targetSlot);
      this.#payloads.remove(protocolsSlot);
      channel.fail();
      deliverLater();
      return;
    }
    channel.link = this;
    channel.number = number;
    this.#channels[number] = channel;
    this.#opening.add(channel);
    this.#flushSoon(0);
  }

  /** @param {string | Uint8Array} data */
  send(channel, data) {
    const { length } = data;
    const isText = typeof data === "string";
    // The page may change its buffer; a large one is sent before it can, if credit allows.
    const isUrgent = !isText && length >= ENOUGH;
    const slot = this.#payloads.add(isText || isUrgent ? data : this.#payloads.copy(data), channel);
    const taken = isText
      ? core.sendText(this.#core, channel.number, slot, length)
      : core.sendBinary(this.#core, channel.number, slot, length);
    if (!taken) {
      // The server's close is on its way to the page.
      this.#payloads.remove(slot);
      channel.dropped += isText ? utf8Length(data) : length;
      return;
    }
    const row = this.#payloads.rows[slot];
    if (row !== null) {
      if (channel.last === null) channel.first = row;
      else channel.last.next = row;
      channel.last = row;
    }
    this.#flushSoon(length);
    if (isUrgent && this.#payloads.rows[slot] === row) row.value = this.#payloads.copy(data);
  }

  /** The page took a message. */
  consumed(channel, units) {
    if (core.consumed(this.#core, channel.number, units)) this.#flushSoon(0);
  }

  close(channel, code, reason) {
    core.close(this.#core, channel.number, code, this.#payloads.add(reason, null), reason.length);
    this.#closing.add(channel);
    this.#flushSoon(0);
  }

  /** Gives a channel up without a closing handshake. */
  abort(channel) {
    this.#forget(channel);
    core.abort(this.#core, channel.number);
    this.#flushSoon(0);
  }

  /** Fails a channel: `error`, then `close` 1006. */
  fail(channel) {
    this.abort(channel);
    channel.fail();
    deliverLater();
  }

  /** Ends the link; channels that are still there are lost. */
  end(code, reason) {
    this.#options.fallback = null;
    if (this.#physical === null) this.#ending = [code, reason];
    else this.#physical.close(code, reason);
  }

  // ---- the physical socket ----

  #dial(url) {
    core.handshake(this.#core, HANDSHAKE_BYTES);
    const batch = joinBatch(this.#core, this.#payloads).bytes;
    const dialled = new URL(url);
    const base64url = btoa(String.fromCharCode(...batch)).replace(/=+$/, "").replaceAll("+", "-").replaceAll("/", "_");
    dialled.searchParams.append(HANDSHAKE_PARAMETER, base64url);
    let physical;
    try {
      physical = new this.#options.WebSocket(dialled, SUBPROTOCOL);
    } catch (error) {
      // What Firefox throws where a Content Security Policy forbids it; it would for each native socket.
      console.error(`manysocket: ${url} cannot be connected to: ${error}`);
      this.#options.fallback = null;
      return this.#lost(ABNORMAL, true);
    }
    physical.binaryType = "arraybuffer";
    physical.addEventListener("open", () => {
      // Firefox opens a socket whose server chose no subprotocol.
      if (physical.protocol !== SUBPROTOCOL) return this.#giveUp(`the server does not speak ${SUBPROTOCOL}`);
      this.#options.fallback = null;
      this.#options.onopen();
      this.flush();
    });
    // Not at `close`: where a Content Security Policy forbids the connection, Chromium fires none.
    physical.addEventListener("error", () => this.#lost(ABNORMAL, true));
    physical.addEventListener("close", (event) => this.#lost(event, false));
    receiveFrom(physical, (data) => this.#receive(data));
    this.#physical = physical;
    if (this.#ending !== null) this.end(...this.#ending);
  }

  /** The connection has ended; `failed`: as one that fails does (WHATWG), with an error. */
  #lost(event, failed) {
    // Already, if it failed, or this side gave it up.
    if (this.#core === GONE) return;
    clearTimeout(this.#keepalive);
    clearTimeout(this.#idle);
    this.#opening.clear();
    this.#closing.clear();
    for (const channel of this.#channels) {
      if (channel === undefined) continue;
      if (this.#options.fallback !== null) this.#options.fallback(channel);
      // Native: a handshake that does not end well fails; an open connection that ends is closed.
      else if (failed || !channel.accepted) channel.fail();
      else channel.lost();
    }
    this.#channels = [];
    core.release(this.#core);
    this.#core = GONE;
    this.#options.onclose(event);
    deliverLater();
  }

  /** Watches the link, once the server's HELLO has said how often it sends something (docs/protocol.md §8). */
  #keepAlive() {
    const at = core.pollTimeout(this.#core);
    if (at === Infinity) return;
    this.#keepalive = setTimeout(() => {
      if (!core.handleTimeout(this.#core, performance.now())) return this.#broke();
      this.flush();
      this.#payloads.trim();
      this.#keepAlive();
    }, Math.min(Math.max(0, at - performance.now()), LONGEST_TIMEOUT));
  }

  /** Ends the link because of what the server did, or did not do. */
  #giveUp(reason) {
    console.error(`manysocket: the link to ${this.#physical.url.split("?")[0]} was given up: ${reason}`);
    // 4002: a page may not send 1002, "protocol error", itself.
    this.#physical.close(4002, reason);
    // Not at its close event: a browser waits for the answer of a dead server for long.
    this.#lost(ABNORMAL, true);
  }

  /** @param {number} rule of docs/protocol.md §9; by default, the one that wasm has found broken */
  #broke(rule = core.violation(this.#core)) {
    this.#giveUp(`it broke rule ${rule} of ${RULES}`);
  }

  // ---- sending ----

  /** Has what is queued sent when the task ends, or at once if it is enough. */
  #flushSoon(units) {
    this.#pending += units;
    if (this.#pending >= ENOUGH) {
      this.flush();
    } else if (!this.#flushing) {
      this.#flushing = true;
      flushLater(this);
    }
  }

  /** Sends what is queued, as far as credit allows. */
  flush() {
    this.#flushing = false;
    this.#pending = 0;
    if (this.#physical?.readyState !== OPEN) return;
    const sent = this.bytesSent();
    for (;;) {
      switch (core.transmit(this.#core)) {
        case SEND_TEXT:
          this.#sendText(sent);
          break;
        case SEND_BATCH: {
          const { bytes, texts, binaries, ascii } = joinBatch(this.#core, this.#payloads);
          this.#physical.send(bytes);
          this.#handed += bytes.length;
          for (const piece of texts) this.#sentPiece(piece, ascii ? piece.units : utf8Length(piece.value), sent);
          for (const piece of binaries) this.#sentPiece(piece, piece.units, sent);
          break;
        }
        case SEND_RAW: {
          const piece = this.#payloads.take(core.wordsPointer(this.#core) >>> 2);
          this.#physical.send(piece.value);
          this.#handed += piece.units;
          this.#sentPiece(piece, piece.units, sent);
          break;
        }
        default:
          // Opens beyond the limit that the server has told meanwhile are refused here.
          if (this.#takeEvents("", null, 0)) deliverLater();
          return this.#closeIfIdle();
      }
    }
  }

  /** A physical text message: number, sign, text (docs/protocol.md §2.2). */
  #sendText(sent) {
    const at = core.wordsPointer(this.#core) >>> 2;
    const words = memoryWords();
    const head = words[at] + (words[at + 1] === 1 ? ":" : "+");
    const piece = this.#payloads.take(at + 2);
    const before = this.#physical.bufferedAmount;
    this.#physical.send(head + piece.value);
    const bytes = this.#physical.bufferedAmount - before;
    this.#handed += bytes;
    this.#sentPiece(piece, bytes - head.length, sent);
  }

  #sentPiece({ row, ends }, bytes, sent) {
    const channel = row?.channel;
    if (channel === null || channel === undefined || channel.link !== this) return;
    if (ends) {
      channel.first = row.next;
      if (row.next === null) channel.last = null;
    }
    channel.handOver(bytes, this.#handed, sent);
  }

  // ---- receiving ----

  #receive(data) {
    this.tap?.(data);
    if (this.#physical.readyState !== OPEN) return;
    const length = data.length ?? data.byteLength;
    if (length > LONGEST) return this.#giveUp(`a physical message of ${length} is longer than any piece`);
    if (typeof data === "string") this.#receiveText(data);
    else if (core.expectsRaw(this.#core, length)) {
      this.#took(core.receiveRaw(this.#core, performance.now(), length), "", data, 0);
    } else this.#receiveBatch(data);
  }

  #receiveText(data) {
    let number = 0;
    let at = 0;
    let unit = data.charCodeAt(0);
    while (unit >= 48 && unit <= 57 && at < 9) {
      number = number * 10 + unit - 48;
      unit = data.charCodeAt(++at);
    }
    const fin = unit === 58;
    if (at === 0 || !(fin || unit === 43)) return this.#broke(11);
    const text = data.slice(at + 1);
    this.#took(core.receiveText(this.#core, performance.now(), number, fin, text.length), text, null, 0);
  }

  #receiveBatch(buffer) {
    const bytes = new Uint8Array(buffer);
    const [headers, text, binaryAt] = splitBatch(bytes);
    if (text === null) return this.#broke(binaryAt);
    const at = core.headersBuffer(this.#core, headers.length);
    memoryBytes().set(headers, at);
    const taken = core.receiveBatch(this.#core, performance.now(), text.length, bytes.length - binaryAt);
    this.#took(taken, text, buffer, binaryAt);
  }

  /** Goes on with what wasm has taken in; `taken` is false if the server broke the protocol. */
  #took(taken, text, buffer, binaryAt) {
    this.#takeEvents(text, buffer, binaryAt);
    // Given up meanwhile.
    if (this.#core === GONE) return;
    if (this.#keepalive === 0) this.#keepAlive();
    if (taken) this.#flushSoon(0);
    else this.#broke();
  }

  /** Queues what has arrived. @returns {boolean} whether anything has */
  #takeEvents(text, buffer, binaryAt) {
    const count = core.events(this.#core);
    const at = core.wordsPointer(this.#core) >>> 2;
    const words = memoryWords();
    // Answering calls into wasm, which may move its memory: after the words have been read.
    const ended = [];
    for (let i = at; i < at + count; i += EVENT_WORDS) {
      const channel = this.#channels[words[i + 1]];
      if (channel === undefined) continue;
      const start = words[i + 2];
      const units = words[i + 3];
      const tag = words[i] & (FIN - 1);
      const fin = (words[i] & FIN) !== 0;
      if (tag === BINARY) {
        this.#arrived(channel, new Bytes(buffer, binaryAt + start, units), fin);
        continue;
      }
      let string = text;
      if (text.length !== units) {
        if (isPair(text, start) || isPair(text, start + units)) {
          this.#broke(39);
          return true;
        }
        string = text.slice(start, start + units);
      }
      if (tag === TEXT) this.#arrived(channel, string, fin);
      else if (tag === ACCEPTED && channel.mayChoose(string)) {
        this.#opening.delete(channel);
        channel.opened(string);
      } else ended.push([channel, tag, words[i + 4], string]);
    }
    for (const [channel, tag, code, reason] of ended) {
      // A CLOSE behind an ACCEPT that was not one.
      if (channel.link !== this) continue;
      if (tag === CLOSED && utf8Length(reason) > MAX_REASON) {
        this.#broke(24);
        return true;
      }
      this.#ended(channel, tag, code, reason);
    }
    return count > 0;
  }

  #arrived(channel, piece, fin) {
    if (!fin || channel.pieces !== null) {
      // On its own: the rest of the message may be long in coming.
      (channel.pieces ??= []).push(fin ? piece : detached(piece));
      if (!fin) return;
      piece = join(channel.pieces);
      channel.pieces = null;
    }
    enqueue(channel, EVENT_MESSAGE, piece);
  }

  #ended(channel, tag, code, reason) {
    this.#forget(channel);
    if (tag === ACCEPTED) {
      console.error(`WebSocket connection to '${channel.url}' failed: the server chose the subprotocol '${shown(reason)}', which was not offered`);
      core.abort(this.#core, channel.number);
      channel.fail();
    } else if (tag === REFUSED) {
      // What a browser prints for a handshake that a server refuses.
      console.error(`WebSocket connection to '${channel.url}' failed: ${code} ${shown(reason)}`);
      channel.fail();
    } else if (tag === CLOSED) {
      // RFC 6455 §5.5.1: the answer echoes the code. It does nothing if the page closed first.
      core.close(this.#core, channel.number, code === 1006 ? 0 : code, 0, 0);
      if (code === 1006) channel.lost();
      else channel.closed({ code: code === 0 ? 1005 : code, reason, wasClean: true });
    } else {
      // Larger than `max_message`.
      core.close(this.#core, channel.number, 1009, 0, 0);
      channel.fail();
    }
  }

  /** The channel's number may be another's soon, and nobody will send what it still has queued. */
  #forget(channel) {
    this.#channels[channel.number] = undefined;
    this.#opening.delete(channel);
    this.#closing.delete(channel);
    const { rows } = this.#payloads;
    if (channel.first !== null) {
      for (let slot = 1; slot < rows.length; slot++) {
        if (rows[slot]?.channel === channel) this.#payloads.remove(slot);
      }
    }
  }

  #closeIfIdle() {
    clearTimeout(this.#idle);
    if (core.channels(this.#core) > 0) return;
    this.#idle = setTimeout(() => this.end(1000, "idle"), this.#options.idleTimeout);
  }
}

/** As much of a server's words as fits a line: a console keeps a thousand, however long. */
const shown = (text) => detached(text.slice(0, MAX_REASON));

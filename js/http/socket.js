// A carrier over HTTP, with the interface of a WebSocket, for networks in which WebSockets do not get through (docs/protocol.md §3.3).
// Loaded on first use. It imports nothing that other files need, too: that would be split from the code that each page loads.
import { BINARY, CLOSE, PING, PONG, Reader, TEXT, frame, headLength, joined } from "./frames.js";

/** The states of a WebSocket (WHATWG). */
const CONNECTING = 0;
const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;

/** Milliseconds after which a streamed answer without a byte is one that a proxy keeps until it ends. */
const STREAMS_WITHIN = 2000;

/** Bytes of a request's body: a fourth of what nginx allows by default, so that what follows is not kept waiting for long. */
const MOST = 256 * 1024;

/** Milliseconds for the server's answer to a Close. */
const CLOSE_TIMEOUT = 5000;

/** RFC 6455 §7.4.1: what a browser closes the sockets of a page with that goes away. */
const GOING_AWAY = 1001;

/** Milliseconds from the end of a page's answers to its `pagehide`: much less than a new connection takes. */
const PAGE_LEAVES_WITHIN = 50;

/** A request with a longer body cannot outlive its page (Fetch: 64 KiB for all of a page). */
const LONGEST_KEPT = 32 * 1024;

/** Milliseconds until the next attempt with a WebSocket, and the longest: networks that refuse them rarely change. */
const FIRST_ATTEMPT = 5000;
const LAST_ATTEMPT = 300_000;

/** Hexadecimal digits of a carrier's name. */
const ID = 32;

export class HttpSocket extends EventTarget {
  binaryType = "arraybuffer";
  protocol = "";
  readyState = CONNECTING;
  /** "http-stream", or "http-poll" where the network keeps streamed answers. */
  carrier = "http-stream";
  #speaks;
  #after;
  #id = "";
  /** What has not been sent, in frames. */
  #out = [];
  #isSending = false;
  /** Of each message that the server has not taken: the bytes of its payload, and where its frame ends in all that is sent. */
  #buffered = [];
  #queued = 0;
  #taken = 0;
  /** Bytes of frames in all requests, and in all answers. */
  #sent = 0;
  #received = 0;
  #reader = new Reader();
  #abort = new AbortController();
  #hasFailed = false;
  #hasClosed = false;

  /**
   * @param {string} url of the multiplexer, `ws:` or `wss:`
   * @param {string} speaks the subprotocol of a server that answers
   * @param {WebSocket | null} rival one that has not opened yet. It ends if this is faster, and this fails once both have.
   * @param {(milliseconds: number, act: () => void) => number} after sets a timer
   */
  constructor(url, speaks, rival, after) {
    super();
    this.#after = after;
    this.url = url;
    this.#speaks = speaks;
    this.rival = rival;
    rival?.addEventListener("error", () => {
      this.rival = null;
      if (this.#hasFailed) this.#fail();
    });
    const { document } = globalThis;
    const { signal } = this.#abort;
    const leave = () => this.#leave();
    globalThis.addEventListener?.("pagehide", ({ persisted }) => {
      if (persisted) return;
      // The page's own listeners come first: it may have last words (HTML, "unload a document").
      if (document?.visibilityState === "visible") document.addEventListener("visibilitychange", leave, { signal });
      else leave();
    }, { signal });
    this.#open();
  }

  /** Tries WebSockets from time to time, and calls `found` once one opens. */
  seekWebSocket({ WebSocket, carriers }, found) {
    if (!carriers.includes("websocket")) return;
    const attempt = (delay) => this.#after(delay, () => {
      if (this.readyState !== OPEN) return;
      // It says that it may resume a link, so that the server makes none for it.
      const socket = new WebSocket(`${this.url}${this.url.includes("?") ? "&" : "?"}manysocket-resume=`, this.protocol);
      let isOver = false;
      const over = (hasOpened) => {
        if (isOver) return;
        isOver = true;
        socket.close();
        if (this.readyState !== OPEN) return;
        if (!hasOpened) return attempt(Math.min(2 * delay, LAST_ATTEMPT));
        remember(this.url, false);
        found();
      };
      socket.addEventListener("open", () => over(true));
      socket.addEventListener("error", () => over(false));
      this.#after(delay, () => over(false));
    });
    remember(this.url, true);
    attempt(FIRST_ATTEMPT);
  }

  /** Bytes of messages that the server has not taken. */
  get bufferedAmount() {
    return this.#buffered.reduce((sum, { length, end }) => sum + Math.min(length, end - this.#taken), 0);
  }

  send(data) {
    if (this.readyState !== OPEN) return;
    const isText = typeof data === "string";
    const bytes = isText ? new TextEncoder().encode(data) : ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
    this.#buffered.push({ length: bytes.length, end: this.#queued + bytes.length + headLength(bytes.length) });
    this.#queue(frame(isText ? TEXT : BINARY, bytes));
  }

  close(code = 1005, reason = "") {
    if (this.readyState === CONNECTING) {
      this.readyState = CLOSING;
      this.#leaveRival();
      return queueMicrotask(() => this.#fail());
    }
    if (this.readyState !== OPEN) return;
    this.#sendClose(code, reason);
    this.readyState = CLOSING;
    this.#after(CLOSE_TIMEOUT, () => this.#end());
  }

  // ---- opening ----

  async #open() {
    const polling = new AbortController();
    const late = this.#after(STREAMS_WITHIN, () => this.#openPolling(polling.signal));
    try {
      const stream = await this.#openStream();
      polling.abort();
      clearTimeout(late);
      if (stream !== null) await this.#receiveStream(stream);
    } catch {
      clearTimeout(late);
      if (this.carrier === "http-stream") this.#fail();
    }
  }

  /** Returns what streams from the server; null if answers that end were faster. */
  async #openStream() {
    const response = await this.#post("stream");
    const stream = response.body.getReader();
    let start = new Uint8Array();
    while (start.length < ID) {
      const { done, value } = await stream.read();
      if (done) throw new Error("the answer has ended");
      start = joined([start, value]);
    }
    if (this.readyState !== CONNECTING) {
      stream.cancel();
      return null;
    }
    this.#opened(new TextDecoder().decode(start.subarray(0, ID)));
    this.#take(start.subarray(ID));
    return stream;
  }

  async #openPolling(signal) {
    try {
      const id = await (await this.#post("poll", undefined, signal)).text();
      if (this.readyState !== CONNECTING) return;
      this.carrier = "http-poll";
      this.#opened(id);
      while (this.readyState < CLOSED) {
        const response = await this.#post(`receive ${id} ${this.#received}`);
        const bytes = new Uint8Array(await response.arrayBuffer());
        this.#received += bytes.length;
        this.#take(bytes);
      }
    } catch {
      if (this.carrier === "http-poll") this.#fail();
    }
  }

  #opened(id) {
    this.#leaveRival();
    this.#id = id;
    this.protocol = this.#speaks;
    this.readyState = OPEN;
    this.dispatchEvent(new Event("open"));
  }

  // ---- requests ----

  /**
   * @param {string} what the header; a request that names the carrier is repeated once if it fails on its way, since its offset says
   *   what the server has already
   * @throws {Error} for all answers but those that say yes
   */
  async #post(what, body, signal = this.#abort.signal) {
    const init = {
      method: "POST", headers: { "Manysocket-Carrier": what }, body, signal, credentials: "include", cache: "no-store", redirect: "error",
      keepalive: body !== undefined && body.length <= LONGEST_KEPT,
    };
    const url = this.url.replace(/^ws/, "http");
    const once = () => fetch(url, init);
    const response = await once().catch((error) => {
      if (this.#id === "" || signal.aborted) throw error;
      return once();
    });
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    return response;
  }

  #queue(bytes) {
    if (this.#abort.signal.aborted) return;
    this.#out.push(bytes);
    this.#queued += bytes.length;
    if (!this.#isSending) this.#sendAll();
  }

  /** One request at a time: what comes meanwhile travels in the next. */
  async #sendAll() {
    this.#isSending = true;
    // What one task sends travels together.
    await null;
    try {
      for (let body; this.#out.length > 0; ) {
        body = joined(this.#out);
        this.#out = body.length > MOST ? [body.subarray(MOST)] : [];
        body = body.subarray(0, MOST);
        const offset = this.#sent;
        this.#sent += body.length;
        await this.#post(`send ${this.#id} ${offset}`, body);
        this.#taken += body.length;
        while (this.#buffered[0]?.end <= this.#taken) this.#buffered.shift();
      }
    } catch {
      this.#out = [];
      this.#end();
    }
    this.#isSending = false;
    if (this.#hasClosed) this.#abort.abort();
  }

  /** The page goes away, and takes answers with it: what is left does not wait for the request before it. */
  #leave() {
    this.close(GOING_AWAY);
    if (this.#out.length > 0) this.#post(`send ${this.#id} ${this.#sent}`, joined(this.#out)).catch(() => {});
    this.#out = [];
  }

  async #receiveStream(stream) {
    try {
      for (;;) {
        const { done, value } = await stream.read();
        if (done) return this.#end();
        this.#take(value);
      }
    } catch {
      // The page may be about to go away: Chromium ends its answers before `pagehide`, at which it may have last words.
      this.#after(PAGE_LEAVES_WITHIN, () => this.#end());
    }
  }

  // ---- what arrives ----

  #take(bytes) {
    try {
      this.#reader.read(bytes, (opcode, payload) => this.#found(opcode, payload));
    } catch {
      this.#sendClose(1002, "");
      this.#end();
    }
  }

  /** Returns whether more may follow. */
  #found(opcode, payload) {
    if (this.readyState === CLOSED) return false;
    if (opcode === PING) {
      this.#queue(frame(PONG, payload));
    } else if (opcode === CLOSE) {
      const code = payload.length < 2 ? 1005 : payload[0] * 256 + payload[1];
      const reason = new TextDecoder().decode(payload.subarray(2));
      if (this.readyState === OPEN) this.#sendClose(code, "");
      this.#end({ code, reason, wasClean: true });
    } else if (opcode <= BINARY) {
      const data = opcode === TEXT ? new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(payload) : payload.buffer;
      this.dispatchEvent(new MessageEvent("message", { data }));
    }
    return true;
  }

  // ---- the end ----

  #sendClose(code, reason) {
    const words = new TextEncoder().encode(reason);
    this.#queue(frame(CLOSE, code === 1005 ? words : joined([new Uint8Array([code >> 8, code & 255]), words])));
  }

  #leaveRival() {
    const { rival } = this;
    this.rival = null;
    rival?.close();
  }

  #fail() {
    this.#hasFailed = true;
    if (this.readyState === CLOSED || this.rival !== null) return;
    if (this.readyState === CONNECTING) remember(this.url, false);
    this.readyState = CLOSED;
    this.dispatchEvent(new Event("error"));
    this.#end();
  }

  /** The connection has ended; its last frames still leave. */
  #end(close = { code: 1006, reason: "", wasClean: false }) {
    if (this.#hasClosed) return;
    this.#hasClosed = true;
    this.readyState = CLOSED;
    if (!this.#isSending) this.#abort.abort();
    this.dispatchEvent(Object.assign(new Event("close"), close));
  }
}

/** Remembers for the page's session whether a multiplexer is reached over HTTP only (link.js reads it). */
function remember(url, isBlocked) {
  const key = `manysocket ${url.split("?")[0]}`;
  try {
    if (isBlocked) sessionStorage.setItem(key, "http");
    else sessionStorage.removeItem(key);
  } catch {
    // Workers have none, and sandboxed frames may not use it.
  }
}

// A carrier over HTTP, with the interface of a WebSocket, for networks in which WebSockets do not get through (docs/protocol.md §3.3).
// Loaded on first use. It imports nothing that other files need, too: that would be split from the code that each page loads.
import { BINARY, CLOSE, PING, PONG, Reader, TEXT, frame, headLength, joined } from "./frames.js";
import { remember, seekWebSocket } from "./seek.js";

/** The states of a WebSocket (WHATWG). */
const CONNECTING = 0;
const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;

/** Milliseconds after which a streamed answer without a byte is one that a proxy keeps until it ends. */
const STREAMS_WITHIN = 2000;

/** Bytes of a request's body: a fourth of what nginx allows by default, so that later messages do not wait for long. */
const MOST = 256 * 1024;

/** Milliseconds for the server's answer to a Close. */
const CLOSE_TIMEOUT = 5000;

/** The close code of a carrier that the page gives up, and not the link (docs/protocol.md §8.1). */
const ABANDONED = 4003;

/** RFC 6455 §7.4.1: the code with which a browser closes the sockets of a page that goes away. */
const GOING_AWAY = 1001;

/** Milliseconds from the end of a page's answers to its `pagehide`: much less than a new connection takes. */
const PAGE_LEAVES_WITHIN = 50;

/** A request with a longer body cannot outlive its page (Fetch: 64 KiB for all of a page). */
const LONGEST_KEPT = 32 * 1024;

/** Hexadecimal digits of a carrier's name. */
const ID = 32;

/** Returns a carrier that is being opened, in no zone of the page. */
export const dialOverHttp = (url, speaks, rival, timers) => timers.outside(() => new HttpSocket(url, speaks, rival, timers));

class HttpSocket extends EventTarget {
  binaryType = "arraybuffer";
  protocol = "";
  readyState = CONNECTING;
  /** "http-stream", or "http-poll" where the network keeps streamed answers. */
  carrier = "http-stream";
  #speaks;
  #timers;
  /** Handles of the timers that run. */
  #running = new Set();
  #id = "";
  /** Frames that wait for a request. */
  #out = [];
  #isSending = false;
  /** For each message that the server has not accepted: the bytes of its payload, and the offset of its frame's end in all sent bytes. */
  #buffered = [];
  #bufferedBytes = 0;
  #queued = 0;
  #taken = 0;
  /** Bytes of the request under way that count as not taken. */
  #underWay = 0;
  /** Bytes of frames in all requests, and in all answers. */
  #sent = 0;
  #received = 0;
  #reader = new Reader();
  #abort = new AbortController();
  #hasFailed = false;
  /** Whether nobody waits for the server's Close: a page in the browser's cache may have no request under way. */
  #isAbandoned = false;
  /** End the requests that open it. */
  #openings = { stream: new AbortController(), poll: new AbortController() };
  /** Those that are under way. */
  #opening = 0;
  #hasClosed = false;

  /**
   * @param {string} url of the multiplexer, `ws:` or `wss:`
   * @param {string} speaks the subprotocol of a server that answers
   * @param {WebSocket | null} rival one that has not opened yet. It ends if this is faster, and this fails once both have.
   * @param {typeof import("../timers.js")} timers
   */
  constructor(url, speaks, rival, timers) {
    super();
    this.#timers = timers;
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

  /** Sets a timer that ends with this. */
  after(milliseconds, act) {
    const timer = this.#timers.after(milliseconds, () => {
      this.#running.delete(timer);
      act();
    });
    this.#running.add(timer);
    return timer;
  }

  /** Tries WebSockets from time to time, and calls `found` once one opens. */
  seekWebSocket(options, found) {
    seekWebSocket(this, options, this.#timers, found);
  }

  /** Bytes of messages that the server has not taken. */
  get bufferedAmount() {
    const [first] = this.#buffered;
    return first === undefined ? 0 : this.#bufferedBytes - first.length + Math.min(first.length, first.end - this.#taken);
  }

  send(data) {
    if (this.readyState !== OPEN) return;
    const isText = typeof data === "string";
    const bytes = isText ? new TextEncoder().encode(data) : ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
    this.#buffered.push({ length: bytes.length, end: this.#queued + bytes.length + headLength(bytes.length) });
    this.#bufferedBytes += bytes.length;
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
    this.#isAbandoned = code === ABANDONED;
    this.after(CLOSE_TIMEOUT, () => this.#end());
  }

  // ---- opening ----

  #open() {
    const late = this.after(STREAMS_WITHIN, () => this.#attempt("poll", (id) => this.#receivePolls(id)));
    this.#attempt("stream", (id, stream) => this.#receiveStream(stream)).finally(() => clearTimeout(late));
  }

  /** Opens it in one way, while it may be tried in the other, too. @param {"stream" | "poll"} way */
  async #attempt(way, receive) {
    this.#opening++;
    let opened;
    try {
      opened = await this.#request(way, { signal: this.#openings[way].signal, take: way === "stream" ? startOf : wholeOf });
    } catch {
      if (--this.#opening === 0) this.#fail();
      return;
    }
    if (this.readyState !== CONNECTING) return this.#openings[way].abort();
    const id = new TextDecoder().decode(opened.bytes.subarray(0, ID));
    // A page of a proxy, say, or of a server that answers all requests.
    if (!/^[0-9a-f]{32}$/.test(id)) return this.#fail();
    this.#openings[way === "stream" ? "poll" : "stream"].abort();
    this.carrier = `http-${way}`;
    this.#opened(id);
    this.#take(opened.bytes.subarray(ID));
    await receive(id, opened.stream);
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
   *   the bytes that the server has already
   * @param {(response: Response) => Promise} [init.take] reads the answer
   * @throws {Error} for all answers but the server's own, which say yes
   */
  async #request(what, { body, signal = this.#abort.signal, take = () => {} }) {
    const attempt = async (keepalive) => {
      const response = await this.#timers.outside(() => fetch(this.url.replace(/^ws/, "http"), {
        method: "POST", headers: { "Manysocket-Carrier": what }, body, signal, credentials: "include", cache: "no-store", redirect: "error", keepalive,
      }));
      const isOurs = body === undefined ? response.headers.get("content-type") === "application/octet-stream" : response.status === 204;
      if (!response.ok || !isOurs) throw Object.assign(new Error(`the server answered ${response.status}`), { isAnswer: true });
      return take(response);
    };
    try {
      return await attempt(body !== undefined && body.length <= LONGEST_KEPT);
    } catch (error) {
      if (this.#id === "" || signal.aborted || error.isAnswer) throw error;
      // Other requests of the page may have taken all that may outlive it.
      return attempt(false);
    }
  }

  #queue(bytes) {
    if (this.#abort.signal.aborted) return;
    this.#out.push(bytes);
    this.#queued += bytes.length;
    if (!this.#isSending) this.#sendAll();
  }

  /** Sends one request at a time: the next one has the frames that come meanwhile. */
  async #sendAll() {
    this.#isSending = true;
    // One request has all messages of a task.
    await null;
    try {
      while (this.#out.length > 0) {
        const body = this.#nextBody();
        const offset = this.#sent;
        this.#sent += body.length;
        this.#underWay = body.length;
        await this.#request(`send ${this.#id} ${offset}`, { body });
        this.#countTaken();
      }
    } catch {
      this.#out = [];
      this.#end();
    }
    this.#isSending = false;
    if (this.#isAbandoned) this.#end();
    if (this.#hasClosed) this.#abort.abort();
  }

  /** Counts the bytes of the request under way as taken. */
  #countTaken() {
    this.#taken += this.#underWay;
    this.#underWay = 0;
    while (this.#buffered[0]?.end <= this.#taken) this.#bufferedBytes -= this.#buffered.shift().length;
  }

  /** Takes the body of the next request from the queue. */
  #nextBody() {
    const parts = [];
    for (let left = MOST; left > 0 && this.#out.length > 0; ) {
      const [next] = this.#out;
      const part = next.subarray(0, left);
      if (part.length === next.length) this.#out.shift();
      else this.#out[0] = next.subarray(part.length);
      parts.push(part);
      left -= part.length;
    }
    return joined(parts);
  }

  /** Sends the rest of the queue beside the request that is under way: the page goes away, and sees no answer. */
  #leave() {
    this.close(GOING_AWAY);
    if (this.#out.length > 0) this.#request(`send ${this.#id} ${this.#sent}`, { body: joined(this.#out) }).catch(() => {});
    this.#out = [];
  }

  async #receivePolls(id) {
    try {
      while (this.readyState < CLOSED) {
        const { bytes } = await this.#request(`receive ${id} ${this.#received}`, { take: wholeOf });
        this.#received += bytes.length;
        this.#take(bytes);
      }
    } catch {
      this.#end();
    }
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
      this.after(PAGE_LEAVES_WITHIN, () => this.#end());
    }
  }

  // ---- incoming bytes ----

  #take(bytes) {
    // The server may answer a message sooner than its request. Natively, too, sent bytes count no longer.
    this.#countTaken();
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
    for (const timer of this.#running) clearTimeout(timer);
    this.#openings.stream.abort();
    this.#openings.poll.abort();
    if (!this.#isSending) this.#abort.abort();
    this.dispatchEvent(Object.assign(new Event("close"), close));
  }
}

/** Reads the name at the beginning of an answer without end, and the bytes that have come with it. */
async function startOf({ body }) {
  const stream = body.getReader();
  let bytes = new Uint8Array();
  while (bytes.length < ID) {
    const { done, value } = await stream.read();
    if (done) throw new Error("the answer has ended");
    bytes = joined([bytes, value]);
  }
  return { bytes, stream };
}

const wholeOf = async (response) => ({ bytes: new Uint8Array(await response.arrayBuffer()) });

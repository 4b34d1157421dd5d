// One physical WebSocket and the channels over it, from dialling to its end: the page's side of what src/page/link/ decides.
// A link is never used again.
import { Bytes } from "./events.js";
import { ABNORMAL, CONNECTING, EVENT_ERROR, EVENT_MESSAGE, OPEN } from "./channel.js";
import { core, onTrap } from "./core.js";
import { deliverLater, enqueue, receiveFrom } from "./delivery.js";
import { links, report } from "./glue.js";
import { heedSigns } from "./signs.js";
import { after, outside } from "./timers.js";
import { utf8Length } from "./utf8.js";

export const SUBPROTOCOL = "manysocket.v1";

/** The list of violations by a server. */
const RULES = "https://github.com/manysocket/manysocket/blob/main/docs/protocol.md#9-violations";

/**
 * Milliseconds in which a handshake fails that a proxy refuses for its URL. Later, the cause is another one, and a second attempt would
 * make the page wait twice.
 */
const REFUSED_WITHIN = 10_000;
/** Milliseconds after which a WebSocket that has not opened may never do so, and HTTP is tried beside it. */
const OPENS_WITHIN = 2000;
/** Close codes of docs/protocol.md §8.1: of a connection that the page gives up, and of one that resumes no link. */
const ABANDONED = 4003;
const NOT_RESUMED = 4404;

/** The number of no link of the wasm's. */
const GONE = -1;

/** Why a socket failed, by number (src/page/link/mod.rs), for the console. */
const FAILURES = [
  null,
  // A browser prints this for a handshake that a server refuses.
  (status, words) => `${status} ${shown(words)}`,
  (_, chosen) => `the server chose the subprotocol '${shown(chosen)}', which was not offered`,
  () => "no answer for 240 s",
];

export class Link {
  /** Its number in wasm. */
  #core;
  /** By key: what wasm calls them. */
  #channels = [];
  #freeKeys = [];
  /** Channels whose messages wait for room, and what resolves the promises of it. */
  #full = new Map();
  physical = null;
  /** Whether it waits for another physical socket. */
  #isInterrupted = false;
  #options;
  /** The multiplexer's, and the same with the first batch. */
  #url;
  #target;
  /** Observer of the traffic, for inspect.js: `(way, data)`, where `way` is "sent", "received" or "first". A separate listener would run after those that deliver. */
  tap = null;
  /** How to end, if that was asked for before dialling. */
  #ending = null;
  /** Whether its channels go on as native sockets. */
  #fallsBack = false;
  /** Whether it ends with its last channel. */
  isLeft = false;
  /** The channel that was refused and goes on over another link. */
  #moving = null;
  /** Whether channels whose opens are unanswered go on over another link. */
  #moves = false;
  /** Handle in the wasm. */
  timer = 0;

  /**
   * Dials at the end of this task: sockets that are opened until then ride in the handshake.
   * @param {string} url
   * @param {object} options `WebSocket`, the native class; `carriers`, names of the kinds that may carry it; `oncarrier`; `idleTimeout`; `onopen`; `onclose`; `fallback`, null or what
   *   takes over the channels of a handshake that failed; `renew`, whether a refused
   *   channel goes on over another link; `ask`, null or a function that returns the URL of a further connection; `onsilent`, for a link that may be dead; `reopen`, which opens a channel over another link
   */
  constructor(url, options) {
    this.#options = options;
    // The server knows by it that a second handshake is the same link's (docs/protocol.md §3.4).
    this.#url = `${url}${url.includes("?") ? "&" : "?"}manysocket-nonce=${Math.random()}`;
    this.#core = core.create(options.idleTimeout, Number(options.resume));
    links[this.#core] = this;
    queueMicrotask(() => core.dial(this.#core, this.#url, this.#url.length));
    heedOnce();
  }

  get readyState() {
    return this.physical?.readyState ?? CONNECTING;
  }

  /** The kind of its carrier: "websocket", "http-stream" or "http-poll"; null without one. */
  get carrier() {
    return this.readyState === OPEN ? (this.physical.carrier ?? "websocket") : null;
  }

  /** Channels that have not ended. */
  get size() {
    return this.#channels.length - this.#freeKeys.length;
  }

  /** For inspect.js. */
  inspected() {
    return { physical: this.physical, channels: this.#channels.filter(Boolean) };
  }

  // ---- commands of channels ----

  /** Opens a channel; one that the server's limit forbids fails as it does natively. */
  open(channel) {
    const { target, headers } = channel;
    const protocols = channel.offered.join(", ");
    channel.link = this;
    channel.isLater = this.physical !== null;
    channel.mayMove &&= this.#isInterrupted || this.readyState === OPEN;
    channel.key = this.#freeKeys.pop() ?? this.#channels.length;
    this.#channels[channel.key] = channel;
    channel.number = core.open(this.#core, channel.key, target, target.length, protocols, protocols.length, headers, headers.length);
  }

  /**
   * @param {string | Uint8Array} data
   * @returns {Promise<void> | undefined} if further messages have to wait for room: settles when there is
   */
  send(channel, data) {
    const { length } = data;
    const isText = typeof data === "string";
    const taken = isText ? core.sendText(this.#core, channel.number, data, length) : core.sendBinary(this.#core, channel.number, data, length);
    if (taken === 2) return new Promise((resolve) => this.#full.set(channel, resolve));
    // The server's close is on its way to the page.
    if (taken === 0) channel.dropped += isText ? utf8Length(data) : length;
  }

  /** Messages may have left. */
  flushed() {
    for (const [channel, resolve] of this.#full) if (core.isFull(this.#core, channel.number) === 0 && this.#full.delete(channel)) resolve();
  }

  /** The page took a message. */
  consumed(channel, units) {
    core.consumed(this.#core, channel.number, units);
  }

  close(channel, code, reason) {
    core.close(this.#core, channel.number, code, reason, reason.length);
  }

  /** Gives a channel up without a closing handshake. */
  abort(channel) {
    this.#forget(channel.key);
    core.abort(this.#core, channel.number);
    this.#endIfLeft();
  }

  /** Fails a channel: `error`, then `close` 1006. */
  fail(channel) {
    core.fail(this.#core, channel.number);
  }

  /** Bytes of a channel that have not left. */
  buffered(channel) {
    return core.buffered(this.#core, channel.number);
  }

  /** Makes the link end with its last channel. Returns the link for later channels: another one. */
  leave() {
    this.isLeft = true;
    this.#endIfLeft();
    return null;
  }

  #endIfLeft() {
    if (this.isLeft && this.#channels.every((channel) => channel === undefined)) this.end(1000, "");
  }

  /** Ends the link; channels that are still there are lost. */
  end(code, reason) {
    this.#options.fallback = null;
    if (this.#isInterrupted) return this.#lost({ code, reason, wasClean: true }, false);
    this.#ending = [code, reason];
    core.leave(this.#core);
    this.physical?.close(code, reason);
  }

  // ---- what wasm asks for (js/glue.js) ----

  /** @param {string} url the multiplexer's, with the first batch */
  dial(url) {
    this.#target = url;
    this.#connect(url, false);
  }

  /** @param {boolean} isSecond whether it is tried again, without the first batch in the URL (docs/protocol.md §3) */
  #connect(url, isSecond) {
    if (this.#maySpeakHttp && (!this.#options.carriers.includes("websocket") || isBlocked(this.#url))) this.#connectOverHttp(url, null);
    else this.#connectWebSocket(url, isSecond);
  }

  #connectWebSocket(url, isSecond) {
    let physical;
    try {
      physical = outside(() => new this.#options.WebSocket(url, SUBPROTOCOL));
    } catch (error) {
      // Firefox throws this where a Content Security Policy forbids it; it would for each native socket.
      console.error(`manysocket: ${url.split("?")[0]} cannot be connected to: ${error}`);
      this.#options.fallback = null;
      return this.#lost(ABNORMAL, true);
    }
    this.#dialled(physical, url, isSecond);
    if (!this.#maySpeakHttp) return;
    const late = after(OPENS_WITHIN, () => this.physical === physical && this.#connectOverHttp(url, physical));
    outside(() => ["open", "error"].forEach((type) => physical.addEventListener(type, () => clearTimeout(late))));
  }

  get #maySpeakHttp() {
    return this.#options.carriers.includes("http");
  }

  /** @param {WebSocket | null} rival one that may yet open, and is faster then */
  async #connectOverHttp(url, rival) {
    this.physical = rival;
    const dial = await import("./http/socket.js").then(({ dialOverHttp }) => dialOverHttp, () => null);
    // The link may have ended meanwhile, or the other one has opened or failed.
    if (this.#core === GONE || this.physical !== rival || this.readyState !== CONNECTING) return;
    if (dial !== null) this.#dialled(dial(this.#isInterrupted ? url : this.#url, SUBPROTOCOL, rival, { after, outside }), url, true);
    // Its code cannot be loaded: the page may have no network.
    else if (rival === null && isBlocked(this.#url)) this.#connectWebSocket(url, url !== this.#target);
    else if (rival === null) this.#dropped(null, ABNORMAL, true);
  }

  #dialled(physical, url, isSecond) {
    physical.binaryType = "arraybuffer";
    this.physical = physical;
    outside(() => this.#listen(physical, url, isSecond));
    if (this.#ending !== null) this.end(...this.#ending);
  }

  #listen(physical, url, isSecond) {
    const since = performance.now();
    let mayDialAgain = !isSecond;
    physical.addEventListener("open", () => {
      if (this.physical !== physical) {
        // It was faster than HTTP.
        const slower = this.physical;
        if (slower?.rival !== physical) return;
        slower.rival = null;
        this.physical = physical;
        slower.close();
      }
      if (physical.carrier) {
        this.#options.oncarrier();
        physical.seekWebSocket(this.#options, () => this.#abandon() && core.handleTimeout(this.#core));
      }
      // Firefox opens a socket whose server chose no subprotocol.
      if (physical.protocol !== SUBPROTOCOL) return this.giveUp(`the server does not speak ${SUBPROTOCOL}`);
      mayDialAgain = false;
      if (this.#isInterrupted) return core.redialled(this.#core);
      this.#options.fallback = null;
      this.#options.onopen();
      core.physicalOpened(this.#core);
      if (isSecond) this.#sendFirstBatch();
      this.flush();
    });
    // Not at `close`: where a Content Security Policy forbids the connection, Chromium fires none.
    physical.addEventListener("error", () => {
      if (this.physical !== physical) return;
      const mayGoOn = physical.protocol === "" && this.#ending === null;
      // A proxy may refuse the length or the form of the query.
      if (mayDialAgain && mayGoOn && performance.now() - since < REFUSED_WITHIN) this.#connect(this.#url, true);
      else if (mayGoOn && this.#maySpeakHttp && !physical.carrier) this.#connectOverHttp(url, null);
      else this.#dropped(physical, ABNORMAL, true);
    });
    physical.addEventListener("close", (event) => this.#dropped(physical, event, false));
    receiveFrom(physical, (data) => {
      if (this.physical === physical) this.#receive(data);
    });
  }

  #sendFirstBatch() {
    const batch = this.#target.slice(this.#target.lastIndexOf("=") + 1).replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(batch), (character) => character.charCodeAt(0));
    this.tap?.("first", bytes);
    this.physical.send(bytes);
  }

  /** @param {string} query the part that resumes the link */
  async redial(query) {
    const silent = this.physical;
    this.#interrupt();
    silent?.close(ABANDONED);
    if (this.#options.ask !== null) {
      const url = await this.#options.ask();
      // The link may have ended meanwhile, or have asked again.
      if (this.#core === GONE || this.physical !== null) return;
      if (url === null) return this.#dropped(null, ABNORMAL, false);
      this.#url = url.href;
    }
    this.#connect(`${this.#url}${this.#url.includes("?") ? "&" : "?"}${query}`, true);
  }

  /** The server no longer keeps the link. */
  lostForGood() {
    this.#broken(ABNORMAL, false);
  }

  flush() {
    core.flush(this.#core);
  }

  arrivedText(key, text) {
    enqueue(this.#channels[key], EVENT_MESSAGE, text);
  }

  arrivedBinary(key, buffer, start, length) {
    enqueue(this.#channels[key], EVENT_MESSAGE, new Bytes(buffer, start, length));
  }

  /** An answer follows, with cookies: the page sees it once the browser has them, as natively. */
  cookies(key, ticket) {
    const channel = this.#channels[key];
    const held = [];
    channel.deliver = (...event) => held.push(event);
    import("./cookies.js").then(({ fetchCookies }) => fetchCookies(this.#url, ticket)).catch(report).then(() => {
      delete channel.deliver;
      for (const event of held) enqueue(channel, ...event);
      deliverLater();
    });
  }

  opened(key, protocol) {
    this.#channels[key].opened(protocol);
  }

  failed(key, kind, status, words) {
    const channel = this.#channels[key];
    if (this.#fallsBack || this.#goesOn(channel)) return;
    // The page's cookies may be newer than the link's handshake.
    if ((status === 401 || status === 403) && channel.isLater && channel.readyState === CONNECTING && this.#options.renew(this)) {
      this.#moving = channel;
      return;
    }
    if (kind > 0) console.error(`WebSocket connection to '${channel.url}' failed: ${FAILURES[kind](status, words)}`);
    enqueue(channel, EVENT_ERROR, null);
  }

  closed(key, close, unsent) {
    const channel = this.#channels[key];
    this.#forget(key);
    // It goes on as a native socket.
    if (this.#fallsBack) this.#options.fallback(channel);
    else if (channel === this.#moving) this.#options.reopen(channel);
    else if (this.#goesOn(channel)) this.#reopen(channel);
    else channel.closed(close, unsent);
    this.#endIfLeft();
  }

  /** An open is not answered, and a PING neither. The opens go on over another link; this one may only be slow. */
  silent() {
    this.#options.onsilent();
    for (const channel of [...this.#channels]) {
      if (channel === undefined || channel.accepted || !channel.mayMove) continue;
      this.abort(channel);
      this.#reopen(channel);
    }
    this.#endIfLeft();
  }

  /** Something has happened that a connection may not survive: the link is asked for a sign of life. */
  probe() {
    core.probe(this.#core);
    if (this.#isInterrupted) core.handleTimeout(this.#core);
  }

  /** The page goes into the browser's cache, where it may have no connection. `probe` is called when it comes back. */
  park() {
    if (this.#abandon()) clearTimeout(this.timer);
  }

  /** Gives the connection up, for another one. Returns whether the link can have one. */
  #abandon() {
    const { physical } = this;
    if (physical === null || core.carrierLost(this.#core, 0) === 0) return false;
    this.#interrupt();
    physical.close(ABANDONED);
    return true;
  }

  /** The wasm has trapped, and no longer knows this link. */
  trapped() {
    this.#core = GONE;
    clearTimeout(this.timer);
    for (const channel of this.#channels) channel?.fail();
    this.physical?.close();
    this.#options.onclose(ABNORMAL);
  }

  /** Ends the link because of a fault of the server. */
  giveUp(reason) {
    console.error(`manysocket: the link to ${this.#url.split("?")[0]} was given up: ${reason}`);
    core.leave(this.#core);
    // 4002: a page may not send 1002, "protocol error", itself.
    this.physical?.close(4002, reason);
    // Not at its close event: a browser waits for the answer of a dead server for long.
    this.#lost(ABNORMAL, true);
  }

  /** @param {number} rule of docs/protocol.md §9 */
  broke(rule) {
    this.giveUp(`it broke rule ${rule} of ${RULES}`);
  }

  // ---- the end ----

  #receive(data) {
    this.tap?.("received", data);
    if (this.physical.readyState !== OPEN) return;
    if (typeof data === "string") core.receiveText(this.#core, data, data.length);
    else core.receiveBinary(this.#core, data, data.byteLength);
    if (this.#isInterrupted && this.#core !== GONE && core.isInterrupted(this.#core) === 0) {
      this.#isInterrupted = false;
      this.#options.onresumed();
    }
  }

  /** A connection has ended. The link may wait for another one. */
  #dropped(physical, event, hasFailed) {
    // It has been given up, or was the first to say so.
    if (this.physical !== physical) return;
    if (event.code === NOT_RESUMED && this.#isInterrupted) return this.lostForGood();
    if (this.#core === GONE || core.carrierLost(this.#core, Math.random() * 2 ** 32) === 0) return this.#broken(event, hasFailed && !this.#isInterrupted);
    this.#interrupt();
    // Dials at once: timers of a hidden page may be a minute late.
    core.handleTimeout(this.#core);
  }

  #interrupt() {
    this.physical = null;
    if (this.#isInterrupted) return;
    this.#isInterrupted = true;
    this.#options.oninterrupted();
  }

  /** The connection has broken. Opens that are unanswered go on over another link; not where the server or the page wants to end it. */
  #broken(event, hasFailed) {
    this.#moves = this.#ending === null && event.code === ABNORMAL.code;
    this.#lost(event, hasFailed);
  }

  #goesOn(channel) {
    return this.#moves && !channel.accepted && channel.mayMove && channel.readyState === CONNECTING;
  }

  #reopen(channel) {
    channel.mayMove = false;
    this.#options.reopen(channel);
  }

  /** The connection has ended; `hasFailed`: as one that fails does (WHATWG), with an error. */
  #lost(event, hasFailed) {
    // Already, if it failed, or this side gave it up.
    if (this.#core === GONE) return;
    clearTimeout(this.timer);
    // One that was to resume the link may still be there.
    this.physical?.close(1000);
    this.#fallsBack = this.#options.fallback !== null;
    core.lost(this.#core, Number(hasFailed));
    core.release(this.#core);
    links[this.#core] = undefined;
    this.#core = GONE;
    this.#options.onclose(event);
  }

  #forget(key) {
    this.#full.delete(this.#channels[key]);
    this.#channels[key] = undefined;
    this.#freeKeys.push(key);
  }
}

onTrap.push((error) => {
  report(error);
  for (const link of links.splice(0)) link?.trapped();
  deliverLater();
});

let heeds = false;

/** Notifies all links of the page when they may be dead, or must go without a connection. */
function heedOnce() {
  if (!heeds) heedSigns(() => links.forEach((link) => link?.probe()), (isLast) => isLast && links.forEach((link) => link?.park()));
  heeds = true;
}

/** As much of a server's words as fits a line: a console keeps a thousand, however long. */
const shown = (text) => ` ${text.slice(0, 123)}`.slice(1);

/** Whether a WebSocket has failed where HTTP did not (http/socket.js). Workers have no storage, and sandboxed frames may not use it. */
function isBlocked(url) {
  try {
    return sessionStorage.getItem(`manysocket ${url.split("?")[0]}`) !== null;
  } catch {
    return false;
  }
}

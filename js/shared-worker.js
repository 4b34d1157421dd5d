// The shared worker of `{ shared: true }`: it has the one link of all pages of an origin, and a port to each of them (port.js). A
// separate script, with all that it needs inside.
import wasm from "./manysocket_inline.js";
import { Channel, EVENT_CLOSE, EVENT_MESSAGE, OPEN } from "./channel.js";
import { deliverAll, whileHeld } from "./delivery.js";
import { toBytes } from "./inline.js";
import { Link } from "./link.js";
import {
  CLOSE_CHANNEL, CONSUMED, FAIL, FALLBACK, HELLO, INTERRUPTED, LARGE, LEAVE, LINK_CLOSED, LINK_OPEN, OPEN_CHANNEL, PARK, PROBE, RESUMED, SEND, SENT,
} from "./messages.js";
import { Renewal } from "./renewal.js";
import { utf8Length } from "./utf8.js";
import { core } from "./core.js";
import { tryToInitialise } from "./wasm.js";

/** Milliseconds after which the worker reports sent bytes at the latest; it reports them with an earlier message to a page. */
const REPORT_AFTER = 10;

/** RFC 6455 §7.4.1: the code with which a browser closes the sockets of a page that goes away. */
const GOING_AWAY = 1001;

tryToInitialise(toBytes(wasm));

const pages = new Set();
/** @type {Link | null} */
let link = null;
const renewal = new Renewal();

/** Held until this worker's death. */
const lock = crypto.randomUUID();
const isHeld = new Promise((held) => {
  navigator.locks.request(lock, () => {
    held();
    return new Promise(() => {});
  });
});

function dialled({ url, idleTimeout, resume, carriers }) {
  if (link === null || link.readyState > OPEN) {
    const dialling = new Link(url, {
      WebSocket,
      idleTimeout,
      resume,
      carriers,
      ask: null,
      // Each page says so.
      oncarrier: () => {},
      onopen: () => pages.forEach((page) => page.linkOpened()),
      oninterrupted: () => link === dialling && pages.forEach((page) => page.tell(INTERRUPTED, 0, null)),
      onresumed: () => link === dialling && pages.forEach((page) => page.linkResumed()),
      onclose: ({ code, reason, wasClean }) => {
        if (link === dialling) pages.forEach((page) => page.linkClosed({ code, reason, wasClean }));
      },
      fallback: (remote) => remote.fallBack(),
      renew: () => {
        if (link !== dialling) return true;
        const begins = renewal.begins();
        if (begins) link = link.leave();
        return begins;
      },
      reopen: (remote) => dialled(remote.page.hello).open(remote),
      onsilent: () => {
        if (link === dialling) link = link.leave();
      },
    });
    link = dialling;
  }
  return link;
}

let delivering = false;

/** A page's channel: the events that the link queues for it go to the page. */
class Remote extends Channel {
  /** Bytes that the page has sent, and those of them that it knows to have left. */
  taken = 0;
  reported = 0;

  constructor(page, id, [url, offered, headers]) {
    super(null, new URL(url), offered, headers);
    this.page = page;
    this.id = id;
  }

  deliver(kind, value) {
    if (!this.page.isThere) {
      // The page is gone: drop the message, and return its credit.
      if (kind === EVENT_MESSAGE) this.link?.consumed(this, value.length);
    } else if (kind === EVENT_MESSAGE && typeof value !== "string") {
      const { buffer, start, length } = value;
      if (length >= LARGE && length === buffer.byteLength) this.page.moved.push(buffer);
      this.page.tell(kind, this.id, new Uint8Array(buffer, start, length));
    } else if (kind === EVENT_CLOSE) {
      const { code, reason, wasClean } = value;
      this.page.end(this);
      this.page.tell(kind, this.id, { code, reason, wasClean });
    } else {
      this.page.tell(kind, this.id, value);
    }
    // One task for each event is the page's affair. Here, all events share one message.
    if (delivering) return;
    delivering = true;
    deliverAll();
    delivering = false;
  }

  fallBack() {
    this.link = null;
    this.page.end(this);
    this.page.tell(FALLBACK, this.id, null);
  }

  /** Bytes that have left since the last report. */
  newlySent() {
    const sent = this.taken - this.bufferedAmount;
    const more = sent - this.reported;
    this.reported = sent;
    return more;
  }
}

class Page {
  isThere = true;
  moved = [];
  #port;
  /** The first message of the page. */
  hello = null;
  /** By the page's number. */
  #remotes = new Map();
  #linkIsOpen = false;
  /** Whether the page is in the browser's cache. */
  #isAway = false;
  #out = [];
  #flushing = false;
  /** Channels with bytes that have not been reported as sent. */
  #unreported = new Set();
  #report = 0;

  constructor(port) {
    this.#port = port;
    port.onmessage = ({ data }) => {
      whileHeld(() => {
        for (let at = 0; at < data.length; at += 3) this.#take(data[at], data[at + 1], data[at + 2]);
      });
    };
    isHeld.then(() => this.tell(HELLO, 0, core === null ? null : { version: VERSION, lock }));
  }

  // ---- from the page ----

  #take(kind, id, value) {
    if (kind === HELLO) {
      this.hello = value;
      navigator.locks.request(value.lock, () => this.#gone());
      return;
    }
    if (kind === OPEN_CHANNEL) return this.#open(id, value);
    if (kind === LEAVE) {
      link = link?.leave() ?? null;
      return;
    }
    if (kind === PROBE) {
      this.#isAway = false;
      this.#flush();
      return link?.probe();
    }
    if (kind === PARK) return void (this.#isAway = true);
    const remote = this.#remotes.get(id);
    // Ended, while this was on its way.
    if (remote === undefined || remote.link === null) return;
    switch (kind) {
      case SEND:
        remote.taken += typeof value === "string" ? utf8Length(value) : value.length;
        remote.queue(value);
        this.#unreported.add(remote);
        this.#reportLater();
        break;
      case CLOSE_CHANNEL:
        remote.finish(...value);
        break;
      case FAIL:
        this.end(remote);
        remote.link.abort(remote);
        break;
      case CONSUMED: {
        const [messages, units] = value;
        remote.link.consumed(remote, units);
        for (let more = 1; more < messages; more++) remote.link?.consumed(remote, 0);
      }
    }
  }

  #open(id, value) {
    const remote = new Remote(this, id, value);
    this.#remotes.set(id, remote);
    const to = dialled(this.hello);
    to.open(remote);
    if (to.readyState === OPEN) this.linkOpened();
  }

  #gone() {
    this.isThere = false;
    pages.delete(this);
    clearTimeout(this.#report);
    for (const remote of this.#remotes.values()) {
      if (remote.accepted) remote.finish(GOING_AWAY, "");
      else remote.link?.abort(remote);
    }
    this.#remotes.clear();
    this.#port.close();
  }

  // ---- to the page ----

  linkOpened() {
    if (this.#linkIsOpen) return;
    this.#linkIsOpen = true;
    this.tell(LINK_OPEN, 0, link.carrier);
  }

  linkResumed() {
    // The page may have come meanwhile.
    if (this.#linkIsOpen) this.tell(RESUMED, 0, link.carrier);
    else this.linkOpened();
  }

  linkClosed(close) {
    this.#linkIsOpen = false;
    this.tell(LINK_CLOSED, 0, close);
  }

  /** The channel has ended; its last report goes before the event. */
  end(remote) {
    this.#tellSent(remote);
    this.#unreported.delete(remote);
    this.#remotes.delete(remote.id);
  }

  tell(kind, id, value) {
    this.#out.push(kind, id, value);
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => this.#flush());
  }

  #flush() {
    this.#flushing = false;
    for (const remote of this.#unreported) {
      this.#tellSent(remote);
      if (remote.bufferedAmount === 0) this.#unreported.delete(remote);
    }
    this.#reportLater();
    if (this.#isAway) return;
    if (this.#out.length > 0) this.#port.postMessage(this.#out, this.moved);
    this.#out = [];
    this.moved = [];
  }

  #tellSent(remote) {
    const bytes = remote.newlySent();
    if (bytes > 0) this.#out.push(SENT, remote.id, bytes);
  }

  #reportLater() {
    if (this.#report !== 0 || this.#unreported.size === 0) return;
    this.#report = setTimeout(() => {
      this.#report = 0;
      this.#flush();
    }, REPORT_AFTER);
  }
}

globalThis.onconnect = ({ ports: [port] }) => pages.add(new Page(port));

// The result of `M.inspect()`, which watches the links of one multiplexer. The page loads it on first use, and it listens at the physical
// socket, so that pages without an inspector count nothing.
import { Decoder, handshakeBatch } from "./inspect/decode.js";

/** The credit of each channel before the first GRANT, unless a HELLO sets another (docs/protocol.md §3.1). */
const DEFAULT_WINDOW = 262_144;
/** The cost of a piece beside its units (§6). */
const PIECE_COST = 64;

const traffic = () => ({ messages: 0, units: 0 });
const total = () => ({ messages: 0, frames: 0, bytes: 0 });

/** One channel as the frames show it, from its OPEN on. */
const watched = () => ({
  sent: traffic(),
  received: traffic(),
  /** Units granted less units spent, each way. */
  balance: { sent: 0, received: 0 },
  /** The ways in which it has ended. */
  ended: new Set(),
});

export class Inspector extends EventTarget {
  #link = null;
  #channels = new Map();
  #windows = { sent: DEFAULT_WINDOW, received: DEFAULT_WINDOW };
  #totals = { sent: total(), received: total() };
  #notes;
  #interruptions = 0;
  #isInterrupted = false;

  /**
   * @param {string[]} notes limitations
   * @param {EventTarget} [M] reports when its link has lost a connection, and when another one carries it
   */
  constructor(notes, M) {
    super();
    this.#notes = notes;
    M?.addEventListener("interrupted", () => {
      this.#interruptions++;
      this.#isInterrupted = true;
    });
    for (const type of ["resumed", "close"]) M?.addEventListener(type, () => (this.#isInterrupted = false));
  }

  /** How often links have lost their connection since `inspect()` was called. */
  get interruptions() {
    return this.#interruptions;
  }

  /** Whether the link waits for another connection now. */
  get isInterrupted() {
    return this.#isInterrupted;
  }

  /** Limitations: links that are not shared, sockets that are native. */
  get notes() {
    return [...this.#notes];
  }

  /** The traffic of the link since it was dialled or watched. */
  get sent() {
    return { ...this.#totals.sent };
  }

  get received() {
    return { ...this.#totals.received };
  }

  /** Whether a shared worker has the physical socket. The inspector then sees none of its messages. */
  get isShared() {
    return this.#link !== null && this.#link.inspected().physical === undefined;
  }

  /** The channels that have not ended; their counts are null for those that were opened before this inspector. */
  get channels() {
    const sockets = this.#link?.inspected().channels ?? [];
    return sockets.map(({ number, url, protocol, readyState, bufferedAmount }) => ({
      number, url, protocol, readyState, bufferedAmount, sent: this.#account(number, "sent"), received: this.#account(number, "received"),
    }));
  }

  #account(number, way) {
    const seen = this.#channels.get(number);
    return seen === undefined ? null : { ...seen[way], credit: this.#windows[way] + seen.balance[way] };
  }

  /** Watches a link, in place of the last. For `MultiWebSocket`. */
  watch(link) {
    this.#link = link;
    this.#channels.clear();
    this.#windows = { sent: DEFAULT_WINDOW, received: DEFAULT_WINDOW };
    this.#totals = { sent: total(), received: total() };
    // It dials at the end of the task that made it.
    queueMicrotask(() => {
      const { physical } = link.inspected();
      if (physical !== undefined) this.#tap(physical, link);
    });
  }

  #tap(physical, link) {
    const [out, in_] = [new Decoder(), new Decoder()];
    const take = (way, decoder, data) => {
      if (this.#link === link) this.#take(way, decoder.decode(data instanceof ArrayBuffer ? new Uint8Array(data) : data));
    };
    // The first batch is in the URL of a WebSocket; but of a link that has been up it is long past.
    let first = physical?.readyState === 0 ? handshakeBatch(physical.url) : null;
    if (first !== null) take("sent", out, first);
    link.tap = (way, data) => {
      // It is sent again where the URL did not arrive.
      if (way !== "first") take(way, way === "sent" ? out : in_, data);
      else if (first === null) take("sent", out, (first = data));
    };
  }

  #take(way, { form, bytes, frames }) {
    const sum = this.#totals[way];
    sum.messages++;
    sum.frames += frames.length;
    sum.bytes += bytes;
    for (const frame of frames) this.#count(way, frame);
    this.dispatchEvent(new CustomEvent("physical", { detail: { direction: way, form, bytes, frames } }));
  }

  #count(way, { channel, kind, units, credit, window }) {
    const other = way === "sent" ? "received" : "sent";
    // Each side states how much the other may send.
    if (window !== undefined) this.#windows[other] = window;
    if (kind === "OPEN" && way === "sent") this.#channels.set(channel, watched());
    const seen = this.#channels.get(channel);
    if (seen === undefined) return;
    if (credit !== undefined) seen.balance[other] += credit;
    if (units !== undefined) {
      seen.balance[way] -= units + PIECE_COST;
      seen[way].units += units;
      if (!kind.endsWith("_PART")) seen[way].messages++;
    }
    if (kind === "CLOSE" || kind === "REFUSE") {
      seen.ended.add(way);
      if (seen.ended.size === 2) this.#channels.delete(channel);
    }
  }
}

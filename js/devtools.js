// The entry "manysocket/devtools": a panel that shows the values of `M.inspect()`, live.
import { style } from "./inspect/style.js";

const STATES = ["connecting", "open", "closing", "closed"];

/** Physical messages that are kept: some screens of them. */
const KEPT = 200;
/** Refused opens that are shown. */
const REFUSED = 20;
/** Frames of one that are spelt out; a batch may have thousands. */
const SPELT_OUT = 12;
/** Characters of a text, likewise. */
const SHOWN = 40;
/** Milliseconds between two pictures: as fast as an eye can follow. */
const REFRESH = 250;

const grouped = new Intl.NumberFormat("en");
const number = (value) => (value === null || value === undefined ? "–" : grouped.format(value));

/** Makes an element. Its content comes from the network, so it is set as text. */
function element(name, text = "", fields = {}) {
  return Object.assign(document.createElement(name), { textContent: text }, fields);
}

/** A frame as a line: `7 TEXT "hello"`. @param {import("./inspect/decode.js").Frame} frame */
export function describe({ channel, kind, units, text, protocols, code, credit, window }) {
  const parts = [channel === 0 ? "link" : channel, kind];
  if (code !== undefined) parts.push(code);
  if (text !== undefined) parts.push(JSON.stringify(text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text));
  else if (units !== undefined) parts.push(`${number(units)} bytes`);
  if (protocols) parts.push(`(${protocols})`);
  if (credit !== undefined) parts.push(`+${number(credit)}`);
  if (window !== undefined) parts.push(`window ${number(window)}`);
  return parts.join(" ");
}

function line({ direction, form, bytes, frames }) {
  const item = element("li", "", { className: direction });
  const more = frames.length > SPELT_OUT ? ` · and ${number(frames.length - SPELT_OUT)} more` : "";
  const told = frames.slice(0, SPELT_OUT).map(describe).join(" · ");
  item.append(element("b", `${direction === "sent" ? "↑" : "↓"} ${form}`), ` ${number(bytes)} bytes, ${number(frames.length)} ${frames.length === 1 ? "frame" : "frames"}: ${told}${more}`);
  return item;
}

const HEADINGS = ["", "URL", "state", "↑ messages", "↓ messages", "↑ units", "↓ units", "↑ credit", "↓ credit", "buffered"];

function row({ number: id, url, readyState, sent, received, bufferedAmount }) {
  const { pathname, search } = new URL(url);
  const cells = [
    id, pathname + search, STATES[readyState], number(sent?.messages), number(received?.messages), number(sent?.units), number(received?.units),
    number(sent?.credit), number(received?.credit), number(bufferedAmount),
  ];
  const tr = element("tr");
  tr.append(...cells.map((cell) => element("td", cell)));
  return tr;
}

/** Finds the opens that the server refuses, with their targets. */
class Refusals {
  /** The targets of opens without an answer, by channel. */
  #targets = new Map();
  /** The latest first: `{ target, code, text }`. */
  list = [];

  /** @param {{ direction: string, frames: import("./inspect/decode.js").Frame[] }} message */
  read({ direction, frames }) {
    for (const { channel, kind, code, text } of frames) {
      if (direction === "sent" && kind.startsWith("OPEN")) this.#targets.set(channel, text);
      if (direction === "received" && kind === "REFUSE") {
        // An open from before the panel is not known.
        this.list.unshift({ target: this.#targets.get(channel) ?? `channel ${channel}`, code, text });
        this.list.length = Math.min(this.list.length, REFUSED);
      }
      if (kind === "ACCEPT" || kind === "REFUSE" || kind === "CLOSE") this.#targets.delete(channel);
    }
  }
}

/**
 * Shows the traffic of a multiplexer's link.
 * @param {import("./index.js").MultiWebSocket} M
 * @param {{ parent?: Element }} [options] where to put the panel; default: at the end of the page
 * @returns {Promise<HTMLElement>} the panel; once it is removed, it watches no more
 */
export async function showPanel(M, { parent = document.body } = {}) {
  const inspector = await M.inspect();
  const host = element("div");
  const root = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(style);
  root.adoptedStyleSheets = [sheet];

  const section = element("section");
  const header = element("header");
  const status = element("p", "", { role: "status" });
  const pause = element("button", "Pause", { type: "button" });
  header.append(element("h2", M.url), status, pause);
  const figures = element("dl");
  const table = element("table");
  const body = element("tbody");
  const head = element("tr");
  head.append(...HEADINGS.map((heading) => element("th", heading)));
  const none = element("p", "No sockets are open.", { className: "none" });
  const refused = element("ul", "", { className: "refused", ariaLabel: "Refused sockets, the latest first" });
  table.append(element("thead"), body);
  table.tHead.append(head);
  const log = element("ol");
  const scroll = (child, label) => {
    const box = element("div", "", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: label });
    box.append(child);
    return box;
  };
  section.append(header, figures, scroll(table, "Channels"), none, refused, scroll(log, "Physical messages, the latest first"));
  root.append(section);

  let isPaused = false;
  const fresh = [];
  const refusals = new Refusals();
  const keep = ({ detail }) => {
    refusals.read(detail);
    if (isPaused) return;
    fresh.push(detail);
    if (fresh.length > KEPT) fresh.shift();
  };
  const show = () => {
    const { sent, received, channels } = inspector;
    const state = inspector.isInterrupted ? "interrupted: the connection is lost, and another one is dialled" : STATES[M.readyState];
    status.textContent = `${state}${inspector.isShared ? ", in the shared worker: its messages are not seen here" : ""}`;
    const told = [["sockets", number(channels.length)], ["carrier", M.carrier ?? "–"], ["connections lost", number(inspector.interruptions)]];
    for (const [arrow, { messages, frames, bytes }] of [["↑", sent], ["↓", received]]) {
      told.push([`${arrow} physical messages`, number(messages)], [`${arrow} frames in each`, messages === 0 ? "–" : (frames / messages).toFixed(1)], [`${arrow} bytes`, number(bytes)]);
    }
    figures.replaceChildren(...told.map(([term, value]) => {
      const pair = element("div");
      pair.append(element("dt", term), element("dd", value));
      return pair;
    }));
    body.replaceChildren(...channels.map(row));
    none.hidden = channels.length > 0;
    refused.replaceChildren(...refusals.list.map(({ target, code, text }) => {
      const item = element("li");
      item.append(element("b", `refused with ${code}`), ` ${target}${text ? `: ${text}` : ""}`);
      return item;
    }));
    log.prepend(...fresh.splice(0).reverse().map(line));
    while (log.childElementCount > KEPT) log.lastChild.remove();
  };
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.textContent = isPaused ? "Go on" : "Pause";
  });
  inspector.addEventListener("physical", keep);
  parent.append(host);
  show();
  const timer = setInterval(() => {
    if (host.isConnected) {
      if (!isPaused) show();
      return;
    }
    clearInterval(timer);
    inspector.removeEventListener("physical", keep);
  }, REFRESH);
  return host;
}

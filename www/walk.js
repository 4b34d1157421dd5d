// Walks a site: every index is a WebSocket that sends the names below it, and their changes. All share one connection.
import { MultiWebSocket } from "./pkg/index.js";

const M = new MultiWebSocket("/multiplexer");

// More would be more than a person reads, and than a page draws quickly.
const SHOWN = 200;

const element = (id) => document.getElementById(id);
const [form, start, status, tree, about] = [document.forms[0], ...["start", "status", "tree", "about"].map(element)];

const make = (name, content, properties) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...[content].flat());
  return made;
};

const readable = (name) => {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
};

/** One index, and those below it. */
class Index {
  names = new Set();
  children = new Map();
  list = make("ul", []);

  constructor(url) {
    this.url = url;
    this.socket = new M.JsonWebSocket(url);
    this.socket.onmessage = ({ data }) => this.change(data);
    this.socket.onclose = ({ code }) => this.ended || this.list.replaceChildren(make("li", `closed (${code})`, { className: "note" }));
  }

  /** Applies a message: an array is the whole list, an object has the changes. */
  change(data) {
    if (Array.isArray(data)) {
      this.names = new Set(data);
    } else {
      for (const name of data.removed) this.names.delete(name);
      for (const name of data.added) this.names.add(name);
    }
    this.show();
    tell();
  }

  show() {
    const sorted = [...this.names].sort();
    const shown = new Set(sorted.slice(0, SHOWN));
    for (const [name, child] of this.children) {
      if (shown.has(name)) continue;
      child.index?.end();
      child.item.remove();
      this.children.delete(name);
    }
    this.more?.remove();
    let previous = null;
    for (const name of shown) {
      if (!this.children.has(name)) {
        const child = this.child(name);
        this.children.set(name, child);
        if (previous) previous.after(child.item);
        else this.list.prepend(child.item);
      }
      previous = this.children.get(name).item;
    }
    if (sorted.length > SHOWN) {
      this.more = make("li", `and ${(sorted.length - SHOWN).toLocaleString("en")} more`, { className: "note" });
      this.list.append(this.more);
    }
  }

  child(name) {
    const url = new URL(name, this.url);
    if (!name.endsWith("/")) return { item: make("li", leaf(name, url)) };
    const index = new Index(url);
    return { index, item: make("li", [make("code", readable(name)), index.list]) };
  }

  get size() {
    return [...this.children.values()].reduce((sum, { index }) => sum + (index?.size ?? 0), 1);
  }

  end() {
    this.ended = true;
    this.socket.close();
    for (const { index } of this.children.values()) index?.end();
  }
}

function leaf(name, url) {
  const button = make("button", readable(name), { type: "button", ariaPressed: "false" });
  button.onclick = () => {
    for (const other of tree.querySelectorAll("[aria-pressed=true]")) other.ariaPressed = "false";
    button.ariaPressed = "true";
    describe(url);
  };
  return button;
}

/** Asks plain HTTP for the description of a URL. (Its WebSocket lists the names below it.) */
async function describe(url) {
  const address = new URL(url.pathname, location);
  const heading = make("h2", readable(url.pathname));
  about.replaceChildren(heading, make("p", "…"));
  const answer = await fetch(address, { headers: { accept: "application/json" } }).catch((error) => error);
  if (!about.contains(heading)) return;
  if (answer.status !== 426) {
    const what = answer.status ? `Plain HTTP, answered with ${answer.status}` : `${answer}`;
    return about.replaceChildren(heading, make("p", what, { className: "note" }), make("p", make("a", "Open it", { href: address })));
  }
  const { title, usage, protocol, websocket, events } = await answer.json();
  const rows = [
    ["What", title],
    ["Messages", protocol ? [`${usage} `, make("a", "More", { href: new URL(protocol, address) })] : usage],
    ["Connect", make("code", `new WebSocket(${JSON.stringify(websocket)})`)],
    ["Events", events ? make("code", `new EventSource(${JSON.stringify(websocket)})`) : "no"],
  ].filter(([, value]) => value);
  const list = rows.map(([term, value]) => [make("dt", term), make("dd", value)]);
  about.replaceChildren(heading, make("dl", list.flat()), make("p", make("a", "Its page", { href: address })));
}

let root;
function tell() {
  const { size } = root;
  status.textContent = `${size} ${size === 1 ? "index" : "indexes"}, live, over one connection.`;
}

function walk(from) {
  root?.end();
  const url = new URL(from.endsWith("/") ? from : `${from}/`, location);
  url.protocol = url.protocol.replace("http", "ws");
  root = new Index(url);
  tree.replaceChildren(make("ul", make("li", [make("code", readable(url.pathname)), root.list])));
  status.textContent = "Connecting …";
}

form.onsubmit = (event) => {
  event.preventDefault();
  history.replaceState(null, "", `?${new URLSearchParams({ from: start.value })}`);
  walk(start.value);
};
start.value = new URLSearchParams(location.search).get("from") ?? start.value;
walk(start.value);

// A chat over a topic with positions, and the list of its members.
import { MultiWebSocket } from "./pkg/index.js";

const element = (id) => document.getElementById(id);
const [name, text, state, lines] = ["name", "text", "state", "lines"].map(element);
const make = (kind, content, className = "") => Object.assign(document.createElement(kind), { textContent: content, className });

const ROOMS = ["tea", "coffee", "rust"];
/** Milliseconds before the list of members is asked for again. */
const RETRY = 1000;

const room = new URLSearchParams(location.search).get("room") ?? ROOMS[0];
for (const each of ROOMS) {
  const link = make("a", each);
  link.href = `?room=${each}`;
  if (each === room) link.ariaCurrent = "page";
  element("rooms").append(link);
}

name.value = sessionStorage.name ?? `guest ${Math.floor(Math.random() * 900 + 100)}`;

const M = new MultiWebSocket("/multiplexer");
const path = `/demo/topics/chat-${encodeURIComponent(room)}`;
element("url").textContent = path;
let chat;
/** Settles once `chat` is the topic under the present name. */
let joining;
let joins = 0;
/** The socket that follows the members. */
let watch = null;
// A lost link may be resumed, and then the topic notices nothing.
for (const type of ["interrupted", "resumed", "open", "close"]) M.addEventListener(type, showState);

name.onchange = () => {
  sessionStorage.name = name.value;
  joining = join();
};
document.querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  publish(text.value);
  text.value = "";
};
joining = join();

function showState() {
  const isConnected = M.readyState === 1 && chat?.readyState === 1;
  element("here").classList.toggle("stale", !isConnected);
  if (isConnected) state.textContent = "connected";
  else if (chat?.readyState !== 3) state.textContent = "connection lost: connecting again …";
}

/** Subscribes under the present name. After a change of the name it goes on where it was. */
async function join() {
  const number = ++joins;
  const before = chat;
  const since = before?.position;
  chat = undefined;
  before?.close();
  const joined = await M.topic(`${path}?name=${encodeURIComponent(name.value)}`, { since });
  // The name has changed again meanwhile.
  if (number !== joins) return joined.close();
  chat = joined;
  joined.addEventListener("message", ({ data }) => {
    const { from, text, at } = read(data);
    show(from === name.value ? "mine" : "theirs", String(text), String(from ?? "somebody"), at);
  });
  joined.addEventListener("missed", ({ count }) => show("told", `${count ?? "Some"} messages are gone: the server keeps no more of them`));
  joined.addEventListener("open", () => {
    showState();
    watchMembers();
  });
  joined.addEventListener("close", ({ code, reason }) => {
    if (chat !== joined) return;
    showState();
    if (joined.readyState === 3) state.textContent = `closed (${code})`;
    if (reason) show("told", reason);
  });
}

/** Reads a message. Anybody may send anything to a topic, so foreign ones are shown as they are. */
function read(data) {
  try {
    const message = JSON.parse(data);
    return typeof message === "object" && message !== null ? message : { text: data };
  } catch {
    return { text: String(data) };
  }
}

/** Adds a line, and scrolls to it unless the reader has scrolled back. */
function show(kind, content, from, at) {
  const box = element("room");
  const isAtEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 40;
  const line = make("li", "", kind);
  if (from !== undefined) {
    const sender = make("b", from);
    const time = new Date(at);
    if (Number.isFinite(time.getTime())) sender.append(" ", make("time", time.toLocaleTimeString([], { timeStyle: "short" })));
    line.append(sender);
  }
  line.append(content);
  lines.append(line);
  if (isAtEnd || kind.includes("mine")) box.scrollTop = box.scrollHeight;
  return line;
}

/** Publishes a text. Its line is pale until the server has stored the message, which then arrives as all others do. */
async function publish(content) {
  const line = show("mine pending", content, name.value);
  try {
    while (chat === undefined) await joining;
    await chat.publish(JSON.stringify({ from: name.value, text: content, at: Date.now() }));
    line.remove();
  } catch ({ code, message }) {
    line.className = "mine failed";
    const why = code === "lost" ? "The connection broke before the answer: others may have it, or not." : `Not sent: ${message}.`;
    const again = make("button", "Send again");
    again.onclick = () => {
      line.remove();
      publish(content);
    };
    line.append(make("small", why), again);
  }
}

/** Follows the members of the topic. A plain WebSocket of JSON: docs/topics.md has its messages. */
function watchMembers() {
  watch?.close();
  const socket = new M.JsonWebSocket(`${path}/members`);
  watch = socket;
  /** Whether each is away, by name: its connection is lost, and may come back. */
  const present = new Map();
  socket.onmessage = ({ data: { members, joined, left, away, back } }) => {
    if (members) present.clear();
    for (const { name, away = false } of members ?? (joined ? [joined] : [])) present.set(name, away);
    if (left !== undefined) present.delete(left);
    if (away !== undefined) present.set(away, true);
    if (back !== undefined) present.set(back, false);
    showMembers(present);
  };
  socket.onclose = () => {
    if (watch === socket && chat.readyState === 1) setTimeout(() => watch === socket && watchMembers(), RETRY);
  };
}

function showMembers(present) {
  const sorted = [...present].sort(([a], [b]) => a.localeCompare(b));
  element("members").replaceChildren(...sorted.map(([each, isAway]) => {
    const item = make("li", isAway ? `${each} (away)` : each, each === name.value ? "me" : "");
    item.classList.toggle("away", isAway);
    return item;
  }));
}

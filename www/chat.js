// A chat over a topic. It needs only a URL on the server to which everybody connects.
import { MultiWebSocket } from "./pkg/index.js";

const element = (id) => document.getElementById(id);
const [name, text, state, lines] = ["name", "text", "state", "lines"].map(element);
const button = document.querySelector("form button");

const ROOMS = ["tea", "coffee", "rust"];
const room = new URLSearchParams(location.search).get("room") ?? ROOMS[0];
for (const each of ROOMS) {
  const link = document.createElement("a");
  link.href = `?room=${each}`;
  link.textContent = each;
  if (each === room) link.ariaCurrent = "page";
  document.querySelector("nav").append(link);
}

name.value = sessionStorage.name ?? `guest ${Math.floor(Math.random() * 900 + 100)}`;
name.onchange = () => (sessionStorage.name = name.value);

const M = new MultiWebSocket("/multiplexer");
const chat = new M.WebSocket(`/demo/topics/chat-${encodeURIComponent(room)}`);
element("url").textContent = new URL(chat.url).pathname;

function show(kind, content, from) {
  const line = document.createElement("li");
  line.className = kind;
  if (from !== undefined) {
    const sender = document.createElement("b");
    sender.textContent = from;
    line.append(sender);
  }
  line.append(content);
  lines.append(line);
  line.scrollIntoView({ block: "nearest" });
}

/** Shows a message. Anybody may send anything to a topic, so it shows foreign messages unchanged. */
function read(data) {
  try {
    const message = JSON.parse(data);
    return typeof message === "object" && message !== null ? message : { text: data };
  } catch {
    return { text: String(data) };
  }
}

chat.onmessage = ({ data }) => {
  const { from, text, dropped } = read(data);
  if (dropped !== undefined) show("told", `${dropped} messages are missing here: this page was too slow`);
  else show(from === name.value ? "mine" : "theirs", String(text), String(from ?? "somebody"));
};
chat.onopen = () => {
  state.textContent = "connected";
  button.disabled = false;
};
chat.onclose = ({ code, reason }) => {
  state.textContent = `closed (${code})`;
  button.disabled = true;
  if (reason) show("told", reason);
};

document.querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  chat.send(JSON.stringify({ from: name.value, text: text.value }));
  text.value = "";
};

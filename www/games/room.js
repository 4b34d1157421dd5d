// The chat of a game room: values in JSON, at a URL relative to the page's own. room.html is the page of every room.
import { MultiWebSocket } from "../pkg/index.js";

const element = (id) => document.getElementById(id);
const [name, text, status] = ["name", "text", "status"].map(element);
const button = document.querySelector("button");

const M = new MultiWebSocket("/multiplexer");
const chat = new M.JsonWebSocket("chat", { reviver: (key, value) => (key === "at" ? new Date(value) : value) });

element("room").textContent = document.title = decodeURIComponent(location.pathname.split("/").at(-2));
element("url").textContent = chat.url;
name.value = new URLSearchParams(location.search).get("name") ?? "";

function show(line, kind) {
  const item = document.createElement("li");
  item.className = kind;
  item.append(...line);
  element("lines").append(item);
  item.scrollIntoView({ block: "nearest" });
}

function tag(kind, content) {
  const made = document.createElement(kind);
  made.textContent = content;
  return made;
}

chat.onopen = () => {
  status.textContent = "open";
  button.disabled = false;
};
chat.onmessage = ({ data: { from, text, at } }) => show([tag("time", at.toLocaleTimeString()), tag("b", from), text], "message");
// Anyone may send anything to a room. The page reports messages that are not JSON, and continues.
chat.onerror = ({ message, data }) => show(message ? [`${message} (${data})`] : ["The connection failed."], "error");
chat.onclose = ({ code }) => {
  status.textContent = `closed with ${code}`;
  button.disabled = true;
};

document.querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  chat.send({ from: name.value, text: text.value, at: new Date() });
  text.value = "";
};

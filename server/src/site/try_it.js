// Lets a reader of an endpoint's page talk to the endpoint. Where a Content Security Policy forbids it, the page lacks only this.

/** Messages that are shown, and characters of each. */
const SHOWN = 100;
const LENGTH = 2000;

const make = (name, properties, ...content) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...content);
  return made;
};
const connect = make("button", { type: "button" }, "Connect");
const input = make("input", { ariaLabel: "Message", placeholder: "Message", autocomplete: "off", spellcheck: false });
const send = make("button", { disabled: true }, "Send");
const state = make("p", {}, "Not connected. Nothing is sent before you press a button.");
state.setAttribute("role", "status");
const log = make("ol", { ariaLabel: "Messages, the latest first" });
const form = make("form", {}, connect, input, send);
document.body.append(make("h2", {}, "Try it"), form, state, log);

const show = (arrow, data) => {
  const text = typeof data === "string" ? data : `${data.byteLength} bytes, binary`;
  log.prepend(make("li", {}, make("code", {}, `${arrow} ${text.length > LENGTH ? `${text.slice(0, LENGTH)} …` : text}`)));
  if (log.childElementCount > SHOWN) log.lastChild.remove();
};

let socket = null;
connect.onclick = () => {
  if (socket !== null) return socket.close();
  socket = new WebSocket(location.href.replace(/^http/, "ws").replace(/#.*/, ""));
  socket.binaryType = "arraybuffer";
  connect.textContent = "Close";
  state.textContent = "Connecting …";
  socket.onopen = () => {
    state.textContent = "Open.";
    send.disabled = false;
    input.focus();
  };
  socket.onmessage = ({ data }) => show("↓", data);
  socket.onclose = ({ code, reason }) => {
    const why = send.disabled ? "The server has refused the socket, or cannot be reached." : `Closed with ${code}${reason && `: ${reason}`}.`;
    state.textContent = why;
    send.disabled = true;
    connect.textContent = "Connect";
    socket = null;
  };
};
form.onsubmit = (event) => {
  event.preventDefault();
  if (send.disabled) return;
  socket.send(input.value);
  show("↑", input.value);
  input.value = "";
};

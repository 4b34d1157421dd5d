// The places, as functions for a page: each runs exercise.js there and gives what native sockets showed, what virtual ones did, and
// the state of the link.

async function frame(attributes) {
  const element = Object.assign(document.createElement("iframe"), attributes);
  await new Promise((resolve) => {
    element.onload = resolve;
    document.body.append(element);
  });
  return element.contentWindow;
}

const IMPORTS = 'Promise.all([import("/pkg/index.js"), import("/places/exercise.js")])';

async function inFrame(attributes, base) {
  const [manysocket, { both }] = await (await frame(attributes)).eval(IMPORTS);
  return both(manysocket, base);
}

function inWorker(url, options, base) {
  const worker = new Worker(url, options);
  worker.postMessage(base);
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
  });
}

const blobUrl = (code) => URL.createObjectURL(new Blob([code], { type: "text/javascript" }));

export const places = {
  "a classic script of a window": async (base) => {
    const script = document.createElement("script");
    script.textContent = `globalThis.imports = ${IMPORTS}`;
    document.head.append(script);
    const [manysocket, { both }] = await globalThis.imports;
    return both(manysocket, base);
  },
  "a frame": (base) => inFrame({ src: "/places/frame.html" }, base),
  "a srcdoc frame, sandboxed but for its origin": (base) =>
    inFrame({ sandbox: "allow-scripts allow-same-origin", srcdoc: "<!doctype html><title>frame</title>" }, base),
  "a frame's classes in its parent's hands": async (base) => {
    const inner = await frame({ src: "/places/frame.html" });
    const { MultiWebSocket } = await inner.eval('import("/pkg/index.js")');
    const { exercise } = await import("/places/exercise.js");
    const M = new MultiWebSocket("../multiplexer");
    return [await exercise(inner.WebSocket, base), await exercise(M.WebSocket, base), M.readyState];
  },
  "a module worker": (base) => inWorker("/places/module-worker.js", { type: "module" }, base),
  "a module worker from a blob: URL": (base) =>
    inWorker(blobUrl(`import "${location.origin}/places/module-worker.js";`), { type: "module" }, base),
  "a classic worker": (base) => inWorker("/places/classic-worker.js", {}, base),
  "a classic worker from a blob: URL": (base) => inWorker(blobUrl(`importScripts("${location.origin}/places/classic-worker.js");`), {}, base),
  "a shared worker": (base) => {
    const worker = new SharedWorker("/places/module-worker.js", { type: "module" });
    worker.port.postMessage(base);
    return new Promise((resolve, reject) => {
      worker.port.onmessage = ({ data }) => resolve(data);
      worker.onerror = ({ message }) => reject(new Error(message));
    });
  },
  "a service worker": async (base) => {
    const { active, waiting, installing } = await navigator.serviceWorker.register("/places/module-worker.js", { type: "module" });
    const { port1, port2 } = new MessageChannel();
    (active ?? waiting ?? installing).postMessage(base, [port2]);
    return new Promise((resolve) => (port1.onmessage = ({ data }) => resolve(data)));
  },
};

/** Returns the events of a virtual socket where a Content Security Policy forbids the connection. */
export async function forbidden() {
  const inner = await frame({ src: "/places/forbidden.html" });
  const { MultiWebSocket } = await inner.eval('import("/pkg/index.js")');
  const socket = new (new MultiWebSocket("/multiplexer").WebSocket)("/test/echo");
  const events = [];
  socket.onerror = () => events.push(`error in state ${socket.readyState}`);
  const { code } = await new Promise((resolve) => (socket.onclose = resolve));
  return [...events, code];
}

/** Returns the events of a socket with the fallback where a server accepts the link without its subprotocol, as Firefox allows. */
export async function mute() {
  const { MultiWebSocket } = await import("/pkg/index.js");
  const socket = new (new MultiWebSocket("/test/echo", { fallback: true }).WebSocket)("/test/echo");
  await new Promise((resolve) => (socket.onopen = resolve));
  socket.send("hello");
  return (await new Promise((resolve) => (socket.onmessage = resolve))).data;
}

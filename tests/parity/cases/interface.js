// The class, its prototype and its instances, as WebIDL lays them out.
import { about, fired, later, outcome, show } from "../log.js";

const ATTRIBUTES = ["url", "readyState", "bufferedAmount", "onopen", "onerror", "onclose", "extensions", "protocol", "onmessage", "binaryType"];
const METHODS = ["close", "send"];
const CONSTANTS = ["CONNECTING", "OPEN", "CLOSING", "CLOSED"];

const descriptor = (object, name) => {
  const found = Object.getOwnPropertyDescriptor(object, name);
  if (!found) return "none";
  const { get, set, value, ...flags } = found;
  return show({ get: typeof get, set: typeof set, value: typeof value === "object" || typeof value === "function" ? typeof value : value, ...flags });
};

export const cases = {
  ...Object.fromEntries(
    ATTRIBUTES.map((name) => [
      `attribute ${name}`,
      async ({ WebSocket, log }) => {
        log(descriptor(WebSocket.prototype, name));
        const { get, set } = Object.getOwnPropertyDescriptor(WebSocket.prototype, name);
        log(show([get.name, get.length, set?.name, set?.length]));
        for (const wrong of [undefined, null, {}, new EventTarget(), WebSocket.prototype, 1]) {
          log(outcome(() => get.call(wrong)));
          if (set) log(outcome(() => set.call(wrong, null)));
        }
      },
    ]),
  ),
  ...Object.fromEntries(
    METHODS.map((name) => [
      `method ${name}`,
      async ({ WebSocket, log }) => {
        log(descriptor(WebSocket.prototype, name));
        const method = WebSocket.prototype[name];
        log(show([method.name, method.length, "prototype" in method]));
        log(outcome(() => new method()));
        for (const wrong of [undefined, {}, new EventTarget()]) log(outcome(() => method.call(wrong, "x")));
      },
    ]),
  ),
  ...Object.fromEntries(
    CONSTANTS.map((name) => [
      `constant ${name}`,
      async ({ WebSocket, url, log }) => {
        const socket = new WebSocket(url("/echo"));
        for (const object of [WebSocket, WebSocket.prototype]) log(descriptor(object, name));
        log(show([socket[name], WebSocket[name]]));
        log(outcome(() => { WebSocket[name] = 9; }));
        log(outcome(() => { delete WebSocket.prototype[name]; }));
        socket.close();
      },
    ]),
  ),
  "the class": async ({ WebSocket, log }) => {
    log(show([WebSocket.length, typeof WebSocket]));
    log(show(Object.getPrototypeOf(WebSocket) === EventTarget));
    log(show(Object.getPrototypeOf(WebSocket.prototype) === EventTarget.prototype));
    log(descriptor(WebSocket, "prototype"));
    log(descriptor(WebSocket.prototype, "constructor"));
    log(show(Object.prototype.toString.call(WebSocket.prototype)));
    log(descriptor(WebSocket.prototype, Symbol.toStringTag));
    log(show(Object.getOwnPropertyNames(WebSocket).sort()));
  },
  "the class, by its name and from its instances": about("identity", async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    log(show([WebSocket.name, WebSocket.prototype.constructor === WebSocket, socket.constructor === WebSocket]));
    socket.close();
  }),
  "the prototype's own properties": async ({ WebSocket, log }) => {
    log(show(Object.getOwnPropertyNames(WebSocket.prototype).sort()));
    log(show(Object.keys(WebSocket.prototype).sort()));
  },
  "enumeration by for…in": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    const names = [];
    for (const name in socket) names.push(name);
    log(show(names.sort()));
    socket.close();
  },
  "an instance": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    log(show([socket instanceof WebSocket, socket instanceof EventTarget, Object.prototype.toString.call(socket)]));
    log(show([Object.getOwnPropertyNames(socket), Object.getOwnPropertySymbols(socket), Object.isExtensible(socket)]));
    log(show(Object.getPrototypeOf(socket) === WebSocket.prototype));
    log(show(["then" in socket, "addListener" in socket, "terminate" in socket]));
    socket.extra = 1;
    log(show(Object.keys(socket)));
    log(outcome(() => JSON.stringify(socket)));
    socket.close();
  },
  "initial values": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    const { readyState, bufferedAmount, extensions, protocol, binaryType, onopen, onerror, onclose, onmessage } = socket;
    log(show({ readyState, bufferedAmount, extensions, protocol, binaryType, onopen, onerror, onclose, onmessage }));
    socket.close();
  },
  "read-only attributes": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    for (const name of ["url", "readyState", "bufferedAmount", "extensions", "protocol"]) {
      log(outcome(() => { socket[name] = "x"; }));
    }
    socket.close();
  },
  "binaryType takes its two values and ignores others": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    for (const value of ["arraybuffer", "blob", "ArrayBuffer", "", "nonsense", null, undefined, 5, { toString: () => "arraybuffer" }]) {
      log(outcome(() => { socket.binaryType = value; }));
      log(show(socket.binaryType));
    }
    log(outcome(() => { socket.binaryType = Symbol("x"); }));
    socket.close();
  },
  "handler attributes keep functions and objects, and nothing else": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    for (const name of ["onopen", "onmessage", "onerror", "onclose"]) {
      for (const value of [1, "x", true, undefined, null, Symbol("s")]) {
        socket[name] = value;
        log(show(socket[name]));
      }
      const object = { handleEvent: () => log("called") };
      socket[name] = object;
      log(show(socket[name] === object));
      const handler = () => {};
      socket[name] = handler;
      log(show(socket[name] === handler));
      socket[name] = null;
    }
    socket.close();
  },
  "handler attributes call nothing that a page can see": async ({ WebSocket, url, log }) => {
    class Mine extends WebSocket {
      addEventListener(...all) {
        log(`addEventListener ${all[0]}`);
        super.addEventListener(...all);
      }
      removeEventListener(...all) {
        log(`removeEventListener ${all[0]}`);
        super.removeEventListener(...all);
      }
    }
    const socket = new Mine(url("/echo"));
    socket.onopen = () => log("not reached");
    socket.onopen = null;
    socket.onopen = Object.assign(() => log("open"), { call: () => log("call"), apply: () => log("apply") });
    await fired(socket, "open");
    socket.onclose = null;
    socket.close();
  },
  "a handler object's handleEvent is not called": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    socket.onopen = { handleEvent: () => log("handleEvent") };
    await fired(socket, "open");
    await later();
    socket.close();
  },
  "a handler keeps its place among the listeners": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    socket.addEventListener("open", () => log("first"));
    socket.onopen = () => log("old handler");
    socket.addEventListener("open", () => log("third"));
    socket.onopen = () => log("new handler in the old place");
    await fired(socket, "open");
    socket.close();
  },
  "a handler set to null and again goes to the end": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    socket.onopen = () => log("handler");
    socket.addEventListener("open", () => log("listener"));
    socket.onopen = null;
    socket.onopen = () => log("handler again");
    await fired(socket, "open");
    socket.close();
  },
  "a handler's this and argument": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    await new Promise((resolve) => {
      socket.onopen = function (...all) {
        log(show([this === socket, all.length, all[0].target === socket, all[0].currentTarget === socket, all[0].srcElement === socket]));
        log(show([all[0].composedPath().length, all[0].composedPath()[0] === socket, typeof all[0].timeStamp]));
        resolve();
      };
    });
    socket.close();
  },
  "listeners: once, signal, capture, handleEvent, removal": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    const controller = new AbortController();
    const removed = () => log("removed");
    socket.addEventListener("message", () => log("once"), { once: true });
    socket.addEventListener("message", () => log("signal"), { signal: controller.signal });
    socket.addEventListener("message", () => log("capture"), true);
    socket.addEventListener("message", { handleEvent: (e) => log(`object ${e.type}`) });
    socket.addEventListener("message", removed);
    socket.removeEventListener("message", removed);
    await fired(socket, "open");
    socket.send("1");
    await fired(socket, "message");
    controller.abort();
    socket.send("2");
    await fired(socket, "message");
    socket.close();
  },
  "stopImmediatePropagation": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    socket.addEventListener("open", (e) => { log("first"); e.stopImmediatePropagation(); });
    socket.onopen = () => log("not reached");
    while (socket.readyState === 0) await later();
    await later();
    log(show(socket.readyState));
    socket.close();
  },
  "dispatchEvent by the page": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    socket.onmessage = (e) => log(`${e.data} ${e.isTrusted}`);
    log(show(socket.dispatchEvent(new MessageEvent("message", { data: "made up" }))));
    log(show(socket.readyState));
    socket.close();
  },
  "a subclass": async ({ WebSocket, url, log }) => {
    class Mine extends WebSocket {
      #secret = 5;
      constructor(...all) {
        super(...all);
        this.own = 1;
      }
      get secret() {
        return this.#secret;
      }
      send(data) {
        super.send(`<${data}>`);
      }
    }
    const socket = new Mine(url("/echo"));
    log(show([socket instanceof Mine, socket instanceof WebSocket, socket.secret, socket.own, Mine.OPEN, Mine.name]));
    log(show(Object.getPrototypeOf(Mine) === WebSocket));
    await fired(socket, "open");
    socket.send("x");
    log(show((await fired(socket, "message")).data));
    socket.close();
  },
  "Reflect.construct with another newTarget": async ({ WebSocket, url, log }) => {
    function Other() {}
    Other.prototype = Object.create(WebSocket.prototype);
    const socket = Reflect.construct(WebSocket, [url("/echo")], Other);
    log(show([socket instanceof Other, socket.readyState, Object.getPrototypeOf(socket) === Other.prototype]));
    socket.close();
  },
  "events: class, constructor, cloning": async ({ WebSocket, url, log }) => {
    const socket = new WebSocket(url("/echo"));
    const open = await fired(socket, "open");
    log(show([open.constructor === Event, open instanceof Event]));
    socket.send("x");
    const message = await fired(socket, "message");
    log(show([message.constructor === MessageEvent, message instanceof MessageEvent, message instanceof Event]));
    const clone = new message.constructor(message.type, message);
    log(show([clone.data, clone.origin === message.origin, clone.lastEventId]));
    log(show([message.ports.length, Object.isFrozen(message.ports), message.ports === message.ports, "userActivation" in message]));
    socket.close();
    const close = await fired(socket, "close");
    log(show([close.constructor === CloseEvent, close instanceof CloseEvent, close.wasClean, close.code, close.reason]));
  },
};
